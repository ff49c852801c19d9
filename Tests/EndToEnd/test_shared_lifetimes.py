# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""How long a session lives that all callers share: what one of them meets ends nothing for the others, and nothing is left."""

import asyncio
import secrets

import pytest
from harness.callers import Caller, call_of, messages_of
from harness.processes import FIXTURES, Upstream, until

pytestmark = pytest.mark.gateway_only

LIST_CHANGED = "notifications/tools/list_changed"
SHARED = {"isolation": "shared"}


@pytest.fixture
def gateway(gateway_of, raw):
    """Before one session over streamable HTTP that all callers share."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/sessions", "protocol": "handshake", "options": SHARED}
    started = gateway_of({"http": entry}, log_level="debug", options={"pingInterval": 0})
    started.wait_until_ready()
    return started


@pytest.fixture
def sse():
    """An upstream of the old transport, for the test alone."""
    upstream = Upstream("2x", FIXTURES / "faultsse.py", "0")
    yield upstream
    upstream.kill()


def streams(raw):
    return raw.control("/control/journal")["streams"]


def entries(raw, **wanted):
    found = raw.control("/control/journal")["entries"]
    return [e for e in found if all(e[key] == value for key, value in wanted.items())]


async def hears(caller, raw):
    """Asserts that what the upstream says reaches the caller's stream, which it opens."""
    wire, answer = await caller.stream()
    async with wire:
        raw.control("/control/broadcast")
        assert (await anext(messages_of(wire, answer, 5)))["method"] == LIST_CHANGED
        answer.received.clear()
        raw.control("/control/broadcast")
        once = await anext(messages_of(wire, answer, 5))
        assert once["method"] == LIST_CHANGED


@pytest.mark.parametrize("streams_end", [True, False], ids=["restart", "forgotten"])
async def test_listens_again(gateway, raw, streams_end):
    """After the upstream forgot the session the next call opens it anew, and its one stream is read again, by us alone."""
    raw.control("/control/clear")
    callers = [await Caller.open(gateway, "http") for _ in range(3)]
    await until("its stream is open", lambda: streams(raw) == 1)
    await hears(callers[0], raw)
    for _ in range(2):
        asked = len(entries(raw, method="GET"))
        raw.control("/control/restart" if streams_end else "/control/forget")
        if streams_end:
            await until("it learns that there is none", lambda: len(entries(raw, method="GET")) > asked, 5)
        for caller in callers:
            assert "result" in await caller.ask("echo"), "the caller's session goes on"
        used = entries(raw, rpc="tools/call")[-1]["session"]
        await until("the new one is listened to", lambda: entries(raw, method="GET")[-1]["session"] == used, 5)
        await until("there is one stream", lambda: streams(raw) == 1, 5)
        await hears(callers[1], raw)
        assert streams(raw) == 1
    assert len(entries(raw, rpc="initialize")) == 3, "once each time"


async def test_ends_with_the_process(gateway, raw):
    """At the stop the session is ended upstream, once."""
    caller = await Caller.open(gateway, "http")
    assert "result" in await caller.ask("echo")
    used = entries(raw, rpc="tools/call")[-1]["session"]
    await asyncio.to_thread(gateway.stop)
    assert [entry["session"] for entry in entries(raw, method="DELETE")].count(used) == 1
    assert raw.control("/control/journal")["sessions"] == 0


async def test_given_up_session_is_ended(gateway_of, raw):
    """A session that is given up, since the upstream does not know it twice in a row, is ended there, or tried to be."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/moody", "protocol": "handshake", "options": SHARED}
    gateway = gateway_of({"http": entry}, log_level="debug", options={"pingInterval": 0})
    gateway.wait_until_ready()
    given_up = set()
    for _ in range(3):
        caller = await Caller.open(gateway, "http")
        assert "result" in await caller.ask("echo")
        answer = await caller.call("lose", id=5)
        assert answer.status == 404 or "error" in answer.reply(5), (answer.status, answer.body)
        given_up.add(entries(raw, rpc="tools/call")[-1]["session"])
    caller = await Caller.open(gateway, "http")
    assert "result" in await caller.ask("echo")
    used = entries(raw, rpc="tools/call")[-1]["session"]

    def ended():
        return {entry["session"] for entry in entries(raw, method="DELETE")}

    await until("what was given up is ended", lambda: given_up - {used} <= ended(), 5)
    assert used not in ended()
    assert await caller.delete() == 204
    assert used not in ended(), "it is for everybody"
    await asyncio.to_thread(gateway.stop)
    assert used in ended()


@pytest.mark.parametrize("pool", [False, True], ids=["one-credential", "pool"])
@pytest.mark.parametrize("status", [404, 401, 403])
async def test_refusal_of_one_callers_message(gateway_of, sse, status, pool):
    """What the upstream says to one caller's message ends the channel for nobody, if the session and its token are good."""
    options = dict(SHARED)
    if pool:
        options["auth"] = {"tokens": ["CANARY-one-" + "1" * 32, "CANARY-two-" + "2" * 32], "rotationMode": "round-robin"}
    entry = {"transportType": "sse", "url": f"http://127.0.0.1:{sse.port}/sse/post-{status}", "options": options}
    gateway = gateway_of({"sse": entry}, log_level="debug", options={"pingInterval": 0})
    gateway.wait_until_ready()
    one, other = await Caller.open(gateway, "sse"), await Caller.open(gateway, "sse")
    assert "result" in await one.ask("echo")
    nonce = secrets.token_hex(8)
    holding = asyncio.create_task(other.post(call_of("slow", {"ms": 1200, "nonce": nonce}, id=9)))

    def runs():
        found = sse.control("/control/journal")["entries"]
        return [e for e in found if e["executed"] and nonce in str(e["message"])]

    await until("the other's call runs", runs)
    assert sse.control("/control/journal")["streams"] == 1, "they share it"
    answer = await one.call("fault", {"x": 1}, id=7, deadline=10)
    assert answer.status == 404 or "error" in answer.reply(7), (answer.status, answer.body)
    reply = (await holding).reply(9)
    assert "result" in reply, reply
    assert "result" in await other.ask("echo")
    assert len(runs()) == 1
