# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Upstreams that want to be asked again at once, for ever: `retry: 0` is a wish, and we have a pace of our own."""

import asyncio
import time

import pytest
from harness.callers import Caller, call_of
from harness.processes import until

pytestmark = pytest.mark.gateway_only

WATCHED = 4
"""Seconds that an upstream is watched for."""
MOST = 20
"""Times that it is asked in them."""


@pytest.fixture
def gateway_at(gateway_of, raw):
    """A gateway before this path of the upstream."""

    def start(path, isolation):
        entry = {"url": f"http://127.0.0.1:{raw.port}{path}", "protocol": "handshake", "timeout": "30s"}
        options = {"pingInterval": 0}
        gateway = gateway_of({"up": {**entry, "options": {"isolation": isolation}}}, log_level="info", options=options)
        gateway.wait_until_ready()
        raw.control("/control/clear")
        return gateway

    return start


async def asked(raw):
    """How often a stream was asked for while the upstream was watched; not longer than it takes to be too often."""

    def count():
        return len([e for e in raw.control("/control/journal")["entries"] if e["method"] == "GET"])

    await until("it is asked at all", count, 5)
    end = time.monotonic() + WATCHED
    await until("the time is over", lambda: count() > MOST or time.monotonic() > end, WATCHED + 5)
    return count()


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_standing_streams_that_end_at_once(gateway_at, raw, isolation):
    """A GET stream that ends as soon as it is open, and may be opened again in 0 ms, is opened at most so often."""
    caller = await Caller.open(gateway_at("/hasty", isolation), "up")
    wire, _ = await caller.stream()
    async with wire:
        assert await asked(raw) <= MOST
        assert "result" in await caller.ask("echo"), "the session is as good as ever"


@pytest.mark.parametrize("isolation", ["session", "shared"])
@pytest.mark.leaves_work("the call goes on until its timeout, whoever left")
@pytest.mark.parametrize("resumes", ["nothing", "another-id"])
async def test_answers_that_break_again_and_again(gateway_at, raw, isolation, resumes):
    """An answer that breaks after an event with an id is asked for again, at most so often, until it is given up."""
    caller = await Caller.open(gateway_at("/events", isolation), "up")
    arguments = {"count": 50, "breaks": 1, "retry": 0, "empty": resumes}
    async with await caller.send(call_of("stream", arguments, id=7, token="t")):
        assert await asked(raw) <= MOST
        assert "result" in await caller.ask("echo", {"count": 0}), "the session is as good as ever"


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_many_sessions_of_a_hasty_upstream(gateway_at, raw, isolation):
    """It is each stream that has its pace: ten cost ten times as much at the most, and none waits for the others."""
    gateway = gateway_at("/hasty", isolation)
    callers = [await Caller.open(gateway, "up") for _ in range(10)]
    wires = [(await caller.stream())[0] for caller in callers]
    await asyncio.sleep(1)  # a rate needs a time
    gets = [e for e in raw.control("/control/journal")["entries"] if e["method"] == "GET"]
    assert len(gets) <= 10 * MOST, len(gets)
    for wire in wires:
        wire.abort()
