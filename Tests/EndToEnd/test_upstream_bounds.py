# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Upstreams that say more than anybody wants: what passes the gateway is not kept there, however its pieces are cut."""

import asyncio
import json

import pytest
from harness.callers import Caller, call_of, text_of
from harness.children import FaultChild
from harness.memory import MEGABYTE, stays_small
from harness.processes import FIXTURES, Upstream, until

pytestmark = pytest.mark.gateway_only

MUCH = 64_000_000
"""What nobody wants."""
RELAYED = 16_000_000
"""What a caller reads, which takes a debug build much longer."""
KEPT = 8 * MEGABYTE
"""What the gateway may have of what a caller reads."""
SMALL_CALL = 40 * MEGABYTE
"""What one of the gateway's own calls may cost: `responseBufferBytes`, held a moment longer than it is needed."""
ENDLESS = {
    "discover": {},
    "initialize": {"protocol": "handshake"},
    "shared-initialize": {"protocol": "handshake", "options": {"isolation": "shared"}},
}
"""The gateway's own small calls, and the entries that make it send them."""


def entry_of(upstream, path, **more):
    return {"url": f"http://127.0.0.1:{upstream.port}{path}", "protocol": "handshake", **more}


async def drained(wire, answer):
    """Reads a stream to its end and keeps the last of it only."""
    async for _ in wire.chunks(answer):
        del answer.received[:-65536]


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_events_of_an_answer(gateway_of, raw, isolation):
    """16 MB of events before an answer pass through to a caller that reads; the gateway keeps none of them."""
    gateway = gateway_of({"up": entry_of(raw, "/sessions", options={"isolation": isolation})}, log_level="info")
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "up")
    assert "result" in await caller.ask("echo")
    before = gateway.child.rss()
    async with await caller.send(call_of("flood", {"bytes": RELAYED}, id=7)) as wire:
        answer = await wire.head()
        reading = asyncio.create_task(drained(wire, answer))
        try:
            await stays_small(gateway, before, reading.done, "the answer", growth=KEPT)
        finally:
            reading.cancel()
        assert b'"id": 7' in answer.body[-500:] or b'"id":7' in answer.body[-500:], answer.body[-500:]


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_events_of_a_standing_stream(gateway_of, raw, isolation):
    """What comes on the GET stream of a session goes to its caller, that of a shared session to nobody; none is kept."""
    much = RELAYED if isolation == "session" else MUCH
    gateway = gateway_of({"up": entry_of(raw, "/sessions", options={"isolation": isolation})}, log_level="info")
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "up")
    wire, answer = await caller.stream()
    async with wire:
        reading = asyncio.create_task(drained(wire, answer))
        await until("it is open upstream", lambda: raw.control("/control/journal")["streams"] == 1)
        before = gateway.child.rss()
        raw.control(f"/control/flood?bytes={much}")

        def all_sent():
            return raw.control("/control/journal")["flooded"] >= much

        try:
            await stays_small(gateway, before, all_sent, "all is sent", growth=KEPT)
            assert "result" in await caller.ask("echo"), "the session goes on"
        finally:
            reading.cancel()


async def test_events_of_the_old_transport(gateway_of):
    """64 MB on the channel of an HTTP+SSE upstream, which are for nobody, are not kept."""
    sse = Upstream("2x", FIXTURES / "faultsse.py", "0")
    try:
        entry = {"transportType": "sse", "url": f"http://127.0.0.1:{sse.port}/sse/ok"}
        gateway = gateway_of({"up": entry}, log_level="info", options={"pingInterval": 0})
        gateway.wait_until_ready()
        caller = await Caller.open(gateway, "up")
        assert "result" in await caller.ask("echo")
        before = gateway.child.rss()
        sse.control(f"/control/flood?bytes={MUCH}")
        await stays_small(gateway, before, lambda: sse.control("/control/journal")["flooded"] >= MUCH, "all is sent")
        assert "result" in await caller.ask("echo"), "the session goes on"
    finally:
        sse.kill()


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_lines_of_a_program(gateway_of, tmp_path, isolation):
    """16 MB of lines of a program, none of whose writes ends with one, are not kept."""
    child = FaultChild(tmp_path, "ok", options={"isolation": isolation})
    try:
        gateway = gateway_of({"up": child.entry}, log_level="info", options={"pingInterval": 0})
        gateway.wait_until_ready()
        caller = await Caller.open(gateway, "up")
        assert "result" in await caller.ask("echo")
        before = gateway.child.rss()
        async with await caller.send(call_of("flood", {"bytes": RELAYED}, id=7)) as wire:
            reading = asyncio.create_task(last_of(wire))
            try:
                await stays_small(gateway, before, reading.done, "the answer", growth=KEPT)
                assert "result" in await reading
            finally:
                reading.cancel()
    finally:
        child.sweep()


async def last_of(wire):
    """The last message of an answer, of which no more is kept."""
    answer = await wire.head()
    await drained(wire, answer)
    text = answer.body.decode("utf-8", "replace")
    return json.loads(text.rpartition("data:")[2] if answer.content_type == "text/event-stream" else text)


@pytest.mark.parametrize("kind", ["json", "text", "refusal", "events"])
@pytest.mark.parametrize("call", ENDLESS)
async def test_own_calls_answered_without_end(gateway_of, raw, call, kind):
    """Whoever answers the gateway's own small calls without end is given up, before it costs anything."""
    gateway = gateway_of(
        {"up": {"url": f"http://127.0.0.1:{raw.port}/endless?as={kind}", **ENDLESS[call]}},
        log_level="info",
        startupGracePeriod="1s",
    )

    def given_up():
        return "connecting" not in json.loads(gateway.get("/_readyz")[1])["upstreams"].values()

    await stays_small(gateway, gateway.child.rss(), given_up, "it is given up", 15, SMALL_CALL)
    caller = Caller(gateway.url("up"), gateway.token, gateway.seen)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    before = gateway.child.rss()
    asking = asyncio.create_task(caller.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}))
    try:
        await stays_small(gateway, before, asking.done, "the caller is told", 15, SMALL_CALL)
        assert "error" in (await asking).reply(1)
    finally:
        asking.cancel()
    sent = raw.control("/control/journal")["flooded"]
    assert sent < 128 * MEGABYTE, f"{sent >> 20} MiB were read of it"
