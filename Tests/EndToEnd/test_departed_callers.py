# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Callers that leave at an unlucky moment: nothing of them runs on, is counted or is kept."""

import asyncio
import json

import pytest
from harness.bounds import Growth, comes_to_rest, status_of
from harness.callers import Caller, SSECaller, call_of
from harness.processes import until
from harness.wire import Wire, headers_of, message, post, split

pytestmark = pytest.mark.gateway_only

WAYS = ["close", "reset"]
OPENED = 100
WAITING = 20
BATCHES = 15
LOST = 300
LOST_MOST = 16
MOST = 60
"""MiB that many who left may have added."""


@pytest.fixture
def start(gateway_of, raw, child):
    """A gateway before upstreams with sessions, with events, that ignore GET, of both eras, and a program."""

    def make(limits=None, **more):
        url = f"http://127.0.0.1:{raw.port}"
        paths = {"http": "/sessions", "events": "/events", "mute": "/mute", "fast": "/fast"}
        entries = {name: {"url": url + path, "protocol": "handshake", **more} for name, path in paths.items()}
        entries["stateless"] = {"url": f"{url}/fast", "protocol": "stateless", **more}
        entries["stdio"] = {**child.entry, **more}
        gateway = gateway_of(entries, options={"pingInterval": 0}, limits=limits, log_level="info")
        gateway.wait_until_ready()
        return gateway

    return make


def leave(wire, way):
    wire.reset() if way == "reset" else wire.abort()


@pytest.mark.parametrize("way", WAYS)
async def test_streams_of_the_old_transport(start, way):
    """A caller that is gone before its stream began leaves no stream and no session, and takes no place of others."""
    gateway = start(limits={"streams": OPENED // 2})
    _, path = split(gateway.url("stdio", "sse"))
    fields = {"Accept": "text/event-stream", "Authorization": f"Bearer {gateway.token}"}
    for _ in range(OPENED):
        wire = await Wire.open(gateway.port)
        await wire.request("GET", path, fields)
        leave(wire, way)
    await comes_to_rest(gateway, sessions=0)
    async with await SSECaller.open(gateway, "stdio") as caller:
        assert "result" in await caller.call("echo")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_standing_streams(start, raw, kind, way):
    """The same of a GET stream: it goes, here and upstream, and its session can be ended."""
    gateway = start(limits={"streams": OPENED // 2})
    callers = [await Caller.open(gateway, kind) for _ in range(4)]
    _, path = split(callers[0].url)
    for n in range(OPENED):
        wire = await Wire.open(gateway.port)
        fields = {**callers[n % 4].fields({"method": ""}), "Accept": "text/event-stream"}
        await wire.request("GET", path, fields)
        leave(wire, way)
    await comes_to_rest(gateway, sessions=4)
    for caller in callers:
        assert await caller.delete() == 204
    await comes_to_rest(gateway, sessions=0)
    await until("no stream is left upstream", lambda: raw.control("/control/journal")["streams"] == 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["fast", "stdio", "stateless"])
async def test_pipelined_calls(start, kind, way):
    """Calls that stand behind others on a connection whose caller is gone end with their time at the latest."""
    gateway = start(timeout="1s")
    era = "stateless" if kind == "stateless" else "handshake"
    session = (await Caller.open(gateway, kind)).session if kind == "stdio" else ""
    _, path = split(gateway.url(kind))
    health = f"GET /_healthz HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n\r\n".encode()
    calls = b""
    for id in range(3):
        arguments = {"seconds": 20, "ms": 20_000}
        said = message("tools/call", {"name": "slow", "arguments": arguments}, id=id, era=era)
        body = json.dumps(said).encode()
        fields = {"Host": f"127.0.0.1:{gateway.port}", **headers_of(era, said, gateway.token, session), "Content-Length": str(len(body))}
        head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        calls += head.encode() + body
    for before in (0, 2, 5):
        for _ in range(5):
            wire = await Wire.open(gateway.port)
            await wire.send(health * before + calls)
            leave(wire, way)
    await comes_to_rest(gateway, 8)
    assert (await post(gateway.url("fast"), message("ping", id=1), token=gateway.token)).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_gone_before_the_upstream_answered(start, raw, way):
    """A GET that the upstream never answers goes with its caller, however often."""
    gateway = start()
    callers = [await Caller.open(gateway, "mute") for _ in range(WAITING)]

    async def open_and_leave(caller):
        _, path = split(caller.url)
        wire = await Wire.open(gateway.port)
        await wire.request("GET", path, {**caller.fields({"method": ""}), "Accept": "text/event-stream"})
        return wire

    wires = [await open_and_leave(caller) for caller in callers]
    await until("all wait", lambda: raw.control("/control/journal")["unanswered"] == WAITING)
    for wire in wires:
        leave(wire, way)
    await comes_to_rest(gateway, 5)
    await until("nobody waits upstream", lambda: raw.control("/control/journal")["unanswered"] == 0, 5)


async def test_the_bound_of_streams_holds_upstream(start, raw):
    """Who comes and goes cannot have more open upstream than `limits.streams` allows."""
    gateway = start(limits={"streams": 3})
    for _ in range(10):
        caller = await Caller.open(gateway, "mute")
        _, path = split(caller.url)
        wire = await Wire.open(gateway.port)
        before = raw.control("/control/journal")["unanswered"]
        await wire.request("GET", path, {**caller.fields({"method": ""}), "Accept": "text/event-stream"})
        await until("it waits", lambda: raw.control("/control/journal")["unanswered"] > before or before >= 3)
        wire.reset()
    assert raw.control("/control/journal")["unanswered"] <= 3
    await until("nobody waits upstream", lambda: raw.control("/control/journal")["unanswered"] == 0, 5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_batches(start, kind, way):
    """Batches whose caller leaves when some of their calls have ended and some have not are let go of as a whole."""
    gateway = start()
    name = "fast" if kind == "http" else kind
    caller = await Caller.open(gateway, name, version="2025-03-26")
    padding = {"jsonrpc": "2.0", "id": 1000, "result": {"text": "x" * (3 << 20)}}
    slow = [call_of("slow", {"seconds": 0.3, "ms": 300}, id=id) for id in range(100, 103)]
    batch = json.dumps([message("ping", id=1), padding, call_of("echo", {}, id=2), *slow]).encode()
    (await caller.send(batch)).reset()
    await comes_to_rest(gateway)
    growth = Growth(gateway, MOST)
    cut = 0

    def ended():
        return gateway.metric("requests_total", server=name, method="tools/call")

    for n in range(BATCHES):
        before = ended()
        wire = await caller.send(batch)
        # That the slow ones run holds for 0.3 s only: a busy machine does not look in time.
        await until("one of its calls has ended", lambda: ended() > before, 5)
        cut += status_of(gateway)["inFlight"] > 0
        leave(wire, way)
        await comes_to_rest(gateway)
        growth.check(f"after {n + 1} batches")
    assert cut, "none was left while the slow ones ran"


async def test_streams_that_are_lost(start):
    """A session keeps a bounded number of bytes for a caller that lost its streams, however many those were."""
    gateway = start()
    caller = await Caller.open(gateway, "events")
    growth = Growth(gateway, LOST_MOST)
    ids = iter(range(1, LOST + 1))

    async def lose():
        for id in ids:
            wire = await caller.send(call_of("stream", {"count": 8, "bytes": 16_000, "pause": 20}, id=id, token="t"))
            answer = await wire.head()
            await anext(wire.events(answer))
            wire.reset()
            if id % 20 == 0:
                growth.check(f"after {id} streams")

    await asyncio.gather(*(lose() for _ in range(8)))
    await comes_to_rest(gateway)
    growth.check(f"after {LOST} streams")
    assert "result" in await caller.ask("stream", {"count": 1})
