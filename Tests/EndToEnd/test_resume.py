# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Streams that broke and go on: the gateway's own event ids, what it keeps, for whom, and what it does upstream itself."""

import asyncio
import json
import time

import pytest
from harness.callers import Caller, call_of, text_of
from harness.processes import until
from harness.wire import parse_events

pytestmark = pytest.mark.gateway_only

KEPT_EVENTS = 64
KEPT_BYTES = 256 * 1024
VERSIONS = {"2025-03-26": False, "2025-06-18": False, "2025-11-25": True}
"""Whether sessions of this version are given a priming event."""


@pytest.fixture
def gateway(gateway_of, raw, child):
    """Before an upstream with event ids of its own, and before a program."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/events", "protocol": "handshake"}
    started = gateway_of({"http": entry, "stdio": child.entry}, options={"pingInterval": 0})
    started.wait_until_ready()
    raw.control("/control/clear")
    return started


def slowly(kind, count, ms=30, size=0):
    """A call that sends this many progress notifications before its answer."""
    if kind == "http":
        return call_of("stream", {"count": count, "ms": ms, "bytes": size}, id=7, token="t")
    return call_of("labelled", {"label": "x" * size, "steps": count, "interval": ms / 1000}, id=7, token="t")


def progress_in(events):
    return [event for event in events if "notifications/progress" in event.get("data", "")]


def steps_in(events):
    return [json.loads(event["data"])["params"]["progress"] for event in progress_in(events)]


async def cut_after(caller, call, events):
    """Posts the call and goes away after this many progress notifications; gives the events that came."""
    wire = await caller.send(call)
    answer = await wire.head()
    assert answer.content_type == "text/event-stream"
    came = []
    async for event in wire.events(answer):
        came.append(event)
        if len(progress_in(came)) == events:
            break
    wire.abort()
    return came


async def resumed(caller, last):
    """All that a resumed stream brings, to its end."""
    wire, answer = await caller.stream(last)
    async with wire:
        assert answer.status == 200, (answer.status, answer.body)
        await wire.rest(answer, 5)
        assert not answer.cut
        return answer


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_ids_and_priming(gateway, kind, version):
    """Every event has an id of the gateway's; from 2025-11-25 on a stream begins with one that has nothing else."""
    caller = await Caller.open(gateway, kind, version=version)
    answer = await caller.post(slowly(kind, 5, 1))
    events = [event for event in parse_events(answer.body) if event.keys() - {"retry"}]
    ids = [event["id"] for event in events]
    assert len(set(ids)) == len(ids), ids
    primed = not events[0].get("data")
    assert primed == VERSIONS[version], events[0]
    assert (events[0].get("retry") == "1000") == primed, events[0]
    assert all(event.get("data") for event in events[1:]), "clients before choke on events without data"
    assert steps_in(events) == [0, 1, 2, 3, 4]
    wire, standing = await caller.stream()
    async with wire:
        if primed:
            first = await anext(wire.events(standing))
            assert first["id"] and not first.get("data"), first
            assert first["id"] not in ids, "unique in the session"
            assert first["retry"] == "1000", "how long to wait before it asks again"
    assert b"up-0-" not in gateway.seen, "the upstream's ids are no caller's business"


@pytest.mark.parametrize("finished", [False, True], ids=["while-it-runs", "after-its-end"])
@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_what_was_missed(gateway, kind, finished):
    """GET with the last id brings exactly what was missed, in order, and goes on to the answer, with which it ends."""
    caller = await Caller.open(gateway, kind)
    came = await cut_after(caller, slowly(kind, 12), 4)
    if finished:
        await asyncio.sleep(0.6)  # longer than the call: what is tested is that nobody reads meanwhile
    last = progress_in(came)[-1]["id"]
    answer = await resumed(caller, last)
    events = [event for event in parse_events(answer.body) if event.get("data")]
    assert steps_in(came)[:4] + steps_in(events) == list(range(12))
    assert "result" in answer.reply(7)
    assert answer.messages()[-1] == answer.reply(7), "the answer is the last event"
    assert not {event["id"] for event in events} & {event["id"] for event in came}


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_answer_lost_on_the_way(gateway, kind):
    """That the answer was written does not mean that it was read: for a while it can be asked for again."""
    caller = await Caller.open(gateway, kind)
    answer = await caller.post(slowly(kind, 6, 1))
    assert "result" in answer.reply(7)
    third = progress_in(parse_events(answer.body))[2]["id"]
    for _ in range(2):
        again = await resumed(caller, third)
        assert steps_in(parse_events(again.body)) == [3, 4, 5]
        assert again.reply(7) == answer.reply(7)


async def test_from_the_priming_event(gateway):
    """Whoever saw nothing but the priming event misses nothing."""
    caller = await Caller.open(gateway, "http")
    wire = await caller.send(slowly("http", 3))
    answer = await wire.head()
    primer = await anext(wire.events(answer))
    wire.abort()
    answer = await resumed(caller, primer["id"])
    assert steps_in(parse_events(answer.body)) == [0, 1, 2]
    assert "result" in answer.reply(7)


async def test_other_streams_ids(gateway):
    """An id brings its own stream only; one of another session or of nobody brings nothing that was."""
    caller, other = await Caller.open(gateway, "http"), await Caller.open(gateway, "http")
    first = await cut_after(caller, {**slowly("http", 6, 5), "id": 1}, 2)
    second = await cut_after(caller, {**slowly("http", 6, 5), "id": 2}, 2)
    answer = await resumed(caller, progress_in(first)[-1]["id"])
    assert [m["id"] for m in answer.messages() if "result" in m] == [1], "not the other's"
    for id in (progress_in(second)[-1]["id"], "never-was", "0", "9" * 200, "up-1-1"):
        wire, answer = await other.stream(id)
        async with wire:
            assert answer.status == 200, "from now on"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    async for event in wire.events(answer):
                        assert not event.get("data"), event
    answer = await resumed(caller, progress_in(second)[-1]["id"])
    assert "result" in answer.reply(2), "it was left alone"


async def test_other_principals_ids(gateway_of, raw):
    """Another token is not helped by knowing both ids."""
    tokens = ["CANARY-one-" + "1" * 32, "CANARY-two-" + "2" * 32]
    entry = {"url": f"http://127.0.0.1:{raw.port}/events", "protocol": "handshake"}
    gateway = gateway_of({"http": entry}, options={"authTokens": tokens})
    gateway.token = tokens[0]
    caller = await Caller.open(gateway, "http")
    came = await cut_after(caller, slowly("http", 6, 5), 2)
    thief = Caller(gateway.url("http"), tokens[1], gateway.seen)
    thief.session = caller.session
    wire, answer = await thief.stream(progress_in(came)[-1]["id"])
    async with wire:
        assert answer.status == 404
    assert "result" in (await resumed(caller, progress_in(came)[-1]["id"])).reply(7)


@pytest.mark.parametrize("size", [0, 16 * 1024], ids=["events", "bytes"])
async def test_what_is_kept(gateway, size):
    """At most 64 events or 256 KiB of a stream; whoever missed more is given what is left, up to the answer."""
    caller = await Caller.open(gateway, "http")
    count = 200 if not size else 50
    came = await cut_after(caller, slowly("http", count, 1, size), 1)
    await asyncio.sleep(1.5)
    answer = await resumed(caller, progress_in(came)[-1]["id"])
    steps = steps_in(parse_events(answer.body))
    assert steps == list(range(count - len(steps), count)), "the last ones, without a gap"
    assert "result" in answer.reply(7)
    if size:
        assert KEPT_BYTES / 2 < len(answer.body) <= KEPT_BYTES + 2048, len(answer.body)
    else:
        assert KEPT_EVENTS - 2 <= len(steps) <= KEPT_EVENTS, len(steps)


async def test_standing_stream(gateway, raw):
    """A GET stream that broke brings what came meanwhile, each once, and then what comes."""
    caller = await Caller.open(gateway, "http")
    wire, answer = await caller.stream()
    await until("it is open upstream", lambda: raw.control("/control/journal")["streams"] == 1)

    async def broadcast(times):
        for _ in range(times):
            assert (await asyncio.to_thread(raw.control, "/control/broadcast"))["streams"] == 1, "it stays open upstream"

    await broadcast(1)
    events = [event async for event in first_events(wire, answer, 1)]
    wire.abort()
    await asyncio.sleep(0.1)
    await broadcast(3)
    wire, answer = await caller.stream(events[-1]["id"])
    missed = [event async for event in first_events(wire, answer, 3)]
    await broadcast(1)
    live = [event async for event in first_events(wire, answer, 4)][3:]
    ids = [event["id"] for event in [*events, *missed, *live]]
    assert len(set(ids)) == 5
    wire.abort()
    wire, answer = await caller.stream()
    async with wire:
        await broadcast(1)
        fresh = [event async for event in first_events(wire, answer, 1)]
        assert fresh[0]["id"] not in ids, "without an id nothing is replayed"


async def first_events(wire, answer, count):
    """The first events of a stream that have data."""
    async for event in wire.events(answer, 10):
        if event.get("data"):
            yield event
            count -= 1
            if not count:
                return


async def test_upstream_is_resumed(gateway, raw):
    """Where the upstream's stream breaks after an event with an id, the gateway goes on there, and the caller sees nothing."""
    caller = await Caller.open(gateway, "http")
    call = call_of("stream", {"count": 8, "breaks": 3}, id=7, token="t")
    answer = await caller.post(call)
    assert steps_in(parse_events(answer.body)) == list(range(8))
    assert text_of(answer.reply(7)) == "done"
    entries = raw.control("/control/journal")["entries"]
    assert [e["last"] for e in entries if e["method"] == "GET" and e["last"]] == ["up-0-2"]
    assert len([e for e in entries if e["rpc"] == "tools/call"]) == 1, "the POST is never sent again"


async def test_upstreams_pause_is_kept(gateway, raw):
    """`retry` of the upstream is how long the gateway waits before it goes on."""
    caller = await Caller.open(gateway, "http")
    began = time.monotonic()
    answer = await caller.post(call_of("stream", {"count": 4, "breaks": 2, "retry": 700}, id=7, token="t"))
    assert "result" in answer.reply(7)
    assert 0.7 <= time.monotonic() - began < 3


async def test_upstream_that_cannot_be_resumed(gateway, raw):
    """Refused there, the caller has the error on the stream, and the truth that the call may have run."""
    caller = await Caller.open(gateway, "http")
    call = call_of("stream", {"count": 8, "breaks": 3, "resume": False}, id=7, token="t")
    answer = await caller.post(call)
    assert steps_in(parse_events(answer.body)) == [0, 1, 2]
    data = answer.reply(7)["error"]["data"]
    assert (data["reason"], data["executed"]) == ("upstream_closed", "unknown"), data


async def test_both_sides_break(gateway, raw):
    """A caller that comes back finds what the gateway itself had to resume."""
    caller = await Caller.open(gateway, "http")
    call = call_of("stream", {"count": 10, "ms": 30, "breaks": 6}, id=7, token="t")
    came = await cut_after(caller, call, 3)
    answer = await resumed(caller, progress_in(came)[-1]["id"])
    assert steps_in(came)[:3] + steps_in(parse_events(answer.body)) == list(range(10))
    assert "result" in answer.reply(7)
