# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Programs of callers' own (`isolation: session`): a place among `childrenPerServer` is held by nobody who does not use it."""

import asyncio
import json
import secrets
import signal

import pytest
from harness.callers import CLIENT, Caller, call_of
from harness.children import FaultChild
from harness.errors import gateway_error
from harness.processes import until
from harness.wire import Wire, message, split

pytestmark = pytest.mark.gateway_only

PLACES = 2
INITIALIZE = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}, id=1)


@pytest.fixture
def child_of(tmp_path):
    made = []

    def make(mode, **more):
        made.append(FaultChild(tmp_path, mode, options={"isolation": "session"}, **more))
        return made[-1]

    yield make
    for child in made:
        child.sweep()


def stranger(gateway, token=None):
    return Caller(gateway.url("child"), gateway.token if token is None else token, gateway.seen)


async def has_room(gateway, child):
    """All places can be had, by sessions that work."""
    callers = [await Caller.open(gateway, "child") for _ in range(PLACES)]
    for caller in callers:
        assert "result" in await caller.ask("echo")
        assert await caller.delete() == 204
    await until("their programs are gone", lambda: not child.left(), 5)


async def test_refused_for_want_of_a_place_in_flight(gateway_of, child_of, raw):
    """An `initialize` that was `overloaded` by `limits.inFlight` took nothing with it."""
    child = child_of("ok")
    busy = {"url": f"http://127.0.0.1:{raw.port}/fast?ms=1500", "protocol": "handshake"}
    gateway = gateway_of(
        {"child": child.entry, "busy": busy},
        limits={"childrenPerServer": PLACES, "inFlight": 1},
        options={"pingInterval": 0},
    )
    gateway.wait_until_ready()
    caller = Caller(gateway.url("busy"), gateway.token, gateway.seen)
    holding = asyncio.create_task(caller.post(call_of("x", id=1)))
    await until("all places are taken", lambda: raw.control("/control/journal")["entries"])
    for _ in range(PLACES + 3):
        gateway_error(await stranger(gateway).post(INITIALIZE), 1, "handshake", "child", {"overloaded"}, {"no"})
    assert "result" in (await holding).reply(1)
    await has_room(gateway, child)


@pytest.mark.parametrize("mode", ["refuses-initialize", "exit-at-start", "exit-0-loop"])
async def test_refused_by_the_program(gateway_of, child_of, mode):
    """One whose program refuses or ends at once is told so each time, and not that there are too many."""
    child = child_of(mode)
    gateway = gateway_of(
        {"child": child.entry}, limits={"childrenPerServer": PLACES}, options={"pingInterval": 0}
    )
    gateway.wait_until_looked()
    for n in range(PLACES + 2):
        await until("the last program is gone", lambda: not child.left(), 8)
        reply = (await stranger(gateway).post(INITIALIZE)).reply(1)
        assert "error" in reply
        reason = reply["error"].get("data", {}).get("reason")
        assert reason != "overloaded", f"{n}: {reply}"


async def test_refused_for_want_of_a_session(gateway_of, child_of, raw):
    """One that finds every place of `limits.sessions` in use gives the place of its program back."""
    child = child_of("ok")
    entry = {"url": f"http://127.0.0.1:{raw.port}/sessions", "protocol": "handshake"}
    gateway = gateway_of(
        {"child": child.entry, "other": entry},
        limits={"childrenPerServer": PLACES, "sessions": PLACES},
        options={"pingInterval": 0},
    )
    gateway.wait_until_ready()
    held = [await Caller.open(gateway, "other") for _ in range(PLACES)]
    streams = [await caller.stream() for caller in held]
    for _ in range(PLACES + 1):
        answer = await stranger(gateway).post(INITIALIZE)
        assert "error" in answer.reply(1), answer.body
        await until("its program is gone", lambda: not child.left(), 8)
    for wire, _ in streams:
        wire.abort()
    for caller in held:
        assert await caller.delete() == 204
    await has_room(gateway, child)


async def test_refused_while_draining(gateway_of, child_of):
    """Who comes while the gateway stops starts no program, and the stop takes no longer for it."""
    child = child_of("ok")
    gateway = gateway_of({"child": child.entry}, limits={"childrenPerServer": PLACES}, options={"pingInterval": 0})
    caller = await Caller.open(gateway, "child")
    nonce = secrets.token_hex(8)
    holding = asyncio.create_task(caller.call("slow", {"seconds": 1.5, "nonce": nonce}, id=1))
    await until("it runs", lambda: child.executed(nonce))
    port, path = split(gateway.url("child"))
    body = json.dumps(INITIALIZE).encode()
    fields = {**stranger(gateway).fields(INITIALIZE), "Content-Length": str(len(body))}
    wires = [await Wire.open(port, gateway.seen) for _ in range(PLACES + 3)]
    for wire in wires:
        assert (await wire.exchange("GET", "/_healthz", {})).status == 200
        await wire.request("POST", path, fields, body[:20])
    starts = child.starts()
    gateway.child.process.send_signal(signal.SIGTERM)
    await until("it drains", lambda: gateway.log('"stopping"'))
    for wire in wires:
        await wire.send(body[20:])
        answer = await wire.rest(await wire.head())
        gateway_error(answer, 1, "handshake", "child", {"overloaded"}, {"no"})
        wire.abort()
    assert "result" in (await holding).reply(1)
    assert child.starts() == starts
    took = await asyncio.to_thread(gateway.stop, was_told=True)
    assert took < 4 and not child.left(), f"{took:.1f} s"


@pytest.mark.parametrize("leaves", ["at-once", "when-it-runs"])
async def test_caller_that_left_before_its_answer(gateway_of, child_of, leaves):
    """Who goes away before the answer to `initialize` never learns of a session: its program goes, and not at `sessionIdle`."""
    child = child_of("slow-start?ms=700")
    gateway = gateway_of(
        {"child": child.entry}, limits={"childrenPerServer": PLACES, "sessionIdle": "30m"}, options={"pingInterval": 0}
    )
    gateway.wait_until_ready()
    await until("that of the probe is gone", lambda: not child.left(), 8)
    started = child.starts()
    for n in range(PLACES):
        wire = await stranger(gateway).send(INITIALIZE)
        if leaves == "when-it-runs":
            await until("its program runs", lambda: child.starts() == started + n + 1)
        wire.abort()
    # One that left at once may not have been heard yet.
    await until("all that began has begun", lambda: leaves == "at-once" or child.messages("initialize"), 5)
    await until("no program is left", lambda: not child.left(), 6)

    async def opens():
        answer = await Caller(gateway.url("child"), gateway.token, gateway.seen).post(INITIALIZE)
        return "result" in answer.reply(1)

    await until("there is a place again", opens, 6)


async def test_one_principal_starves_no_other(gateway_of, child_of):
    """Idle sessions of one token make room for another's; sessions in use make room for nobody."""
    child = child_of("ok")
    tokens = ["CANARY-one-" + "1" * 32, "CANARY-two-" + "2" * 32]
    gateway = gateway_of(
        {"child": child.entry},
        limits={"childrenPerServer": PLACES},
        options={"pingInterval": 0, "authTokens": tokens},
    )
    gateway.token = tokens[0]
    gateway.wait_until_ready()
    hoarders = [await Caller.open(gateway, "child") for _ in range(PLACES)]
    for caller in hoarders:
        assert "result" in await caller.ask("echo")
    nonce = secrets.token_hex(8)
    holding = asyncio.create_task(hoarders[0].call("slow", {"seconds": 2, "nonce": nonce}, id=9))
    await until("it runs", lambda: child.executed(nonce))
    gateway.token = tokens[1]
    other = await Caller.open(gateway, "child")
    assert "result" in await other.ask("echo")
    assert "result" in (await holding).reply(9), "the session in use was left alone"
    assert (await hoarders[1].call("echo")).status == 404, "the idle one is over"
    await until("there are no more programs than places", lambda: len(child.left()) <= PLACES, 5)
    gateway.token = tokens[0]
