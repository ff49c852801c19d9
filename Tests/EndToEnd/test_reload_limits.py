# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Other limits count from the reload on, for what begins then; whatever is there stays."""

import asyncio

import pytest
from harness.callers import CLIENT, Caller, works
from harness.processes import until
from harness.reload import at, changes, process_of, stateless
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

INITIALIZE = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}, id=1)


async def status_of(gateway, arguments):
    """The status of the answer to a call of 2026-07-28."""
    body = message("tools/call", {"name": "echo", "arguments": arguments}, era="stateless")
    return (await post(gateway.url("s"), body, era="stateless", token=gateway.token)).status


async def go_by(gateway, **limits):
    """A reload that changes limits, and nothing else: it is applied, and says of nothing that it needs a restart."""
    before = gateway.generation()
    gateway.reconfigure(limits=limits)
    last = await asyncio.to_thread(gateway.reload)
    assert changes(last) == {} and last["problems"] == [], last
    assert gateway.generation() == before + 1
    assert not gateway.log("needs-restart")


async def test_limits(unwatched, tokens):
    """Limits count from the next message on, and so does their absence."""
    gateway = unwatched({"s": at(tokens, "/plain")}, limits={"inFlightPerUpstream": 8})
    await go_by(gateway, inFlightPerUpstream=1, queuePerUpstream=0)
    first = asyncio.create_task(stateless(gateway, "s", "sleep", ms=1500, text="first"))
    await until("it is there", lambda: tokens.count("tools/call") == 1)
    assert await status_of(gateway, {}) == 503
    await go_by(gateway, inFlightPerUpstream=None, queuePerUpstream=None)
    assert await status_of(gateway, {}) == 200 and not first.done()
    assert await first == "first"


LIMITS = [
    # a limit, a lower value, what is beyond it then, and the status of that
    ("bodyBytes", "2KiB", {"text": "x" * 4000}, 413),
    ("jsonDepth", 8, {"a": [[[[[[[[1]]]]]]]]}, 400),
]


@pytest.mark.parametrize("limit, value, beyond, refusal", LIMITS)
async def test_limits_of_messages(unwatched, tokens, limit, value, beyond, refusal):
    """Limits of what a caller may send count from the next connection on."""
    gateway = unwatched({"s": at(tokens, "/plain")})
    for limits, status in (({}, 200), ({limit: value}, refusal), ({limit: None}, 200)):
        if limits:
            await go_by(gateway, **limits)
        assert await status_of(gateway, beyond) == status


async def test_queue(unwatched, tokens):
    """A call that waits for a place has it when there are more; when the line is shorter the next one is refused at once."""
    gateway = unwatched({"s": at(tokens, "/plain")}, limits={"inFlightPerUpstream": 1, "queueWait": "20s"})
    tasks = []
    for n in range(2):
        tasks.append(asyncio.create_task(stateless(gateway, "s", "sleep", ms=2500, text=f"{n}")))
        await until("it runs, or it waits", lambda n=n: tokens.count("tools/call") + gateway.held()["queued"] == n + 1)
    assert gateway.held()["queued"] == 1
    await go_by(gateway, inFlightPerUpstream=2)
    await until("it has a place", lambda: tokens.count("tools/call") == 2)
    assert not tasks[0].done()
    await go_by(gateway, queuePerUpstream=0)
    assert await status_of(gateway, {}) == 503
    assert await asyncio.gather(*tasks) == ["0", "1"]


async def test_sessions(unwatched, tokens):
    """With fewer sessions than there are nobody loses one; a new one takes the place of another."""
    gateway = unwatched({"s": at(tokens, "/sessions")})
    callers = [await Caller.open(gateway, "s") for _ in range(3)]
    await go_by(gateway, sessions=2)
    for caller in callers:
        await works(caller)
    await works(await Caller.open(gateway, "s"))
    assert [(await caller.call("echo")).status for caller in callers] == [404, 200, 200]
    await go_by(gateway, sessions=None)
    await works(await Caller.open(gateway, "s"))
    assert [(await caller.call("echo")).status for caller in callers[1:]] == [200, 200]


async def test_idle_sessions(unwatched, tokens):
    """Sessions that are there end by a shorter `sessionIdle`, at the next look."""
    gateway = unwatched({"s": at(tokens, "/sessions")}, limits={"sessionIdle": "8s"})
    await works(await Caller.open(gateway, "s"))
    await go_by(gateway, sessionIdle="500ms")
    await until("it is gone", lambda: gateway.metric("mcp_proxy_sessions", server="s") == 0, 5)


async def test_streams(unwatched, tokens):
    """With fewer streams than there are all go on; the next one is refused until there are more again."""
    gateway = unwatched({"s": at(tokens, "/sessions")})
    callers = [await Caller.open(gateway, "s") for _ in range(4)]
    held = [await caller.stream() for caller in callers[:2]]
    await go_by(gateway, streams=1)
    wire, refused = await callers[2].stream()
    assert refused.status == 503 and refused.header("retry-after")
    wire.abort()
    for wire, answer in held:
        assert answer.status == 200 and not await wire.closed(0.1)
    await go_by(gateway, streams=3)
    held.append(await callers[3].stream())
    assert held[2][1].status == 200
    for wire, _ in held:
        wire.abort()


async def test_programs(unwatched, program_of):
    """Fewer programs of callers' own end none of those that run; there are no more until there may be."""
    child = program_of(options={"isolation": "session"})
    gateway = unwatched({"child": child.entry})
    one = await Caller.open(gateway, "child")
    wire, _ = await one.stream()
    runs = await process_of(one)
    await go_by(gateway, childrenPerServer=1)
    stranger = Caller(gateway.url("child"), gateway.token, gateway.seen)
    assert (await stranger.post(INITIALIZE)).reply(1)["error"]["data"]["reason"] == "overloaded"
    assert await process_of(one) == runs
    await go_by(gateway, childrenPerServer=2)
    assert await process_of(await Caller.open(gateway, "child")) != runs
    wire.abort()


async def test_lines(unwatched, program_of):
    """How long a line of a program may be counts for programs that start from then on; those that run may go on."""
    child = program_of(options={"isolation": "session"})
    gateway = unwatched({"child": child.entry})
    one = await Caller.open(gateway, "child")
    await go_by(gateway, lineBytes="4KiB")
    other = await Caller.open(gateway, "child")
    assert "result" in await one.ask("large", {"bytes": 8000})
    assert "error" in await other.ask("large", {"bytes": 8000})
    await works(one)
    await go_by(gateway, lineBytes=None)
    assert "result" in await (await Caller.open(gateway, "child")).ask("large", {"bytes": 8000})
