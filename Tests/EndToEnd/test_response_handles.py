# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A response belongs to the request that it answers, and to nobody once it is over.

Whoever takes a stream up elsewhere, and leaves the connection that it was lost from open, leaves it to the next request,
which may be a stranger's: a reverse proxy sends the requests of many over one connection.
"""

import asyncio
import json
import secrets
import time

import pytest
from harness.bounds import comes_to_rest
from harness.callers import Caller, SSECaller, call_of, messages_of, text_of
from harness.errors import gateway_reply
from harness.processes import until
from harness.wire import Wire, headers_of, message, split

pytestmark = pytest.mark.gateway_only

PATIENCE = 60
"""Seconds for which a lost stream waits for its caller."""
TOKENS = [f"CANARY-{name}-{secrets.token_hex(16)}" for name in ("owner", "stranger")]
KINDS = ["http", "stdio"]


@pytest.fixture
def start(gateway_of, raw, child):
    """A gateway before an upstream that streams, one that takes its time, and a program; its callers have two tokens."""

    def make(**more):
        url = f"http://127.0.0.1:{raw.port}"
        entries = {
            "http": {"url": f"{url}/events", "protocol": "handshake", **more},
            "late": {"url": f"{url}/fast", "protocol": "handshake"},
            "stdio": {**child.entry, **more},
        }
        gateway = gateway_of(entries, options={"pingInterval": 0, "authTokens": TOKENS})
        gateway.token = TOKENS[0]
        gateway.wait_until_ready()
        return gateway

    return make


def streaming(kind, seconds):
    """A call with a few messages at once and an answer that comes after this time."""
    if kind == "http":
        return call_of("stream", {"count": 2, "pause": int(seconds * 1000)}, id=7, token="t")
    return call_of("labelled", {"label": "mine", "steps": 2, "interval": seconds / 2}, id=7, token="t")


async def lost(caller, kind, seconds):
    """The call on a connection of its own, which stays open, and the id of the first event."""
    wire = await caller.send(streaming(kind, seconds))
    answer = await wire.head()
    assert answer.content_type == "text/event-stream"
    async for event in wire.events(answer):
        if "notifications/progress" in event.get("data", ""):
            return wire, answer, event["id"]
    raise AssertionError("no event")


async def goes_free(wire, answer):
    """The response on the first connection ends as its framing says, so that the connection serves the next request."""
    await wire.rest(answer, 5)
    assert not answer.cut, "a proper end"


async def is_healthy(wire):
    answer = await wire.exchange("GET", "/_healthz", {})
    assert answer.status == 200 and answer.json() == {"status": "ok"}, (answer.status, answer.body)


def late_call(gateway):
    """A stranger's call that is under way for a while."""
    said = call_of("echo", {"mine": "stranger", "ms": 2500}, id=99)
    _, path = split(gateway.url("late"))
    return path, headers_of("handshake", said, TOKENS[1]), json.dumps(said).encode()


async def asks_as_a_stranger(wire, gateway):
    """A whole exchange of another token, in the midst of which the owner's call ends."""
    path, fields, body = late_call(gateway)
    answer = await wire.exchange("POST", path, fields, body)
    assert answer.status == 200 and not answer.cut, (answer.status, answer.body)
    assert json.loads(text_of(answer.reply(99)))["mine"] == "stranger", answer.body


async def says_nothing_more(wire, seconds=0.5):
    with pytest.raises(TimeoutError):
        assert not await asyncio.wait_for(wire.reader.read(1), seconds), "a byte that nobody asked for"
        raise AssertionError("the connection ended")


@pytest.mark.parametrize("kind", KINDS)
async def test_taken_up_elsewhere(start, kind):
    """The answer comes on the stream that was taken up, and the connection before belongs to whoever asks on it next."""
    gateway = start()
    caller = await Caller.open(gateway, kind)
    first, answer, last = await lost(caller, kind, 1.5)
    second, resumed = await caller.stream(last)
    async with first, second:
        await goes_free(first, answer)
        await is_healthy(first)
        _, _ = await asyncio.gather(asks_as_a_stranger(first, gateway), second.rest(resumed))
        assert "result" in resumed.reply(7) and not resumed.cut
        await is_healthy(first)
        await says_nothing_more(first)
        await comes_to_rest(gateway)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_time_of_a_call_goes_on(start, kind):
    """`timeout` holds for a call whose stream was taken up as for any other, and tells it there; nothing stays in flight."""
    gateway = start(timeout="1s")
    caller = await Caller.open(gateway, kind)
    first, answer, last = await lost(caller, kind, 40)
    second, resumed = await caller.stream(last)
    async with first, second:
        await goes_free(first, answer)
        await is_healthy(first)
        try:
            await second.rest(resumed, 6)
        except TimeoutError:
            raise AssertionError("its time is over, and nobody said so") from None
        gateway_reply(resumed.reply(7), kind, {"upstream_timeout"}, {"unknown", "yes"})
        await says_nothing_more(first)
        await comes_to_rest(gateway)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_time_of_a_call_that_nobody_waits_for(start, kind):
    """So it does when the second connection is gone as well and the first serves others."""
    gateway = start(timeout="1s")
    caller = await Caller.open(gateway, kind)
    first, answer, last = await lost(caller, kind, 40)
    second, _ = await caller.stream(last)
    async with first:
        await goes_free(first, answer)
        second.reset()
        await comes_to_rest(gateway, 6)
        await is_healthy(first)


@pytest.mark.long
@pytest.mark.deadline(PATIENCE + 60)
async def test_answers_after_patience(start, raw, child):
    """An answer that comes when the stream is given up is dropped: it is not written into a stranger's response."""
    gateway = start(timeout="5m")

    async def give_up(kind):
        caller = await Caller.open(gateway, kind)
        first, answer, last = await lost(caller, kind, PATIENCE + 6)
        second, _ = await caller.stream(last)
        await goes_free(first, answer)
        second.reset()
        return first

    began = time.monotonic()
    wires = await asyncio.gather(*map(give_up, KINDS))
    while time.monotonic() - began < PATIENCE + 10:  # connections that are in use all the time
        await asyncio.gather(*(asks_as_a_stranger(wire, gateway) for wire in wires))
    for wire in wires:
        await is_healthy(wire)
        await says_nothing_more(wire)
        wire.abort()
    await comes_to_rest(gateway)


@pytest.mark.parametrize("kind", KINDS)
async def test_standing_stream(start, raw, kind):
    """A GET that takes another's place leaves it a clean end; what comes then comes there alone."""
    gateway = start()
    caller = await Caller.open(gateway, kind)
    first, answer = await caller.stream()
    if kind == "http":
        await until("it is open upstream", lambda: raw.control("/control/journal")["streams"] == 1)
    second, standing = await caller.stream()
    async with first, second:
        await goes_free(first, answer)
        path, fields, body = late_call(gateway)
        await first.request("POST", path, fields, body)
        if kind == "http":
            await asyncio.to_thread(raw.control, "/control/broadcast")
        else:
            await caller.ask("announce", {"method": "notifications/tools/list_changed"})
        said = await anext(messages_of(second, standing))
        assert said["method"] == "notifications/tools/list_changed"
        answer = await first.rest(await first.head())
        assert json.loads(text_of(answer.reply(99)))["mine"] == "stranger", answer.body
        await is_healthy(first)
        await says_nothing_more(first)
    await comes_to_rest(gateway)


async def test_batches(start):
    """Once the answers of a batch are out, late messages of its calls go to nobody's response."""
    gateway = start(timeout="1s")
    caller = await Caller.open(gateway, "stdio", version="2025-03-26")
    first = await caller.send([call_of("labelled", {"label": "x", "steps": 9, "interval": 0.3}, id=1, token="t")])
    async with first:
        answer = await first.head()
        await first.rest(answer, 8)
        assert not answer.cut and answer.reply(1)
        cut = await caller.send([call_of("slow", {"seconds": 3}, id=2), call_of("slow", {"seconds": 3}, id=3)])
        answer = await cut.rest(await cut.head(6))
        replies = [m for part in answer.messages() for m in (part if isinstance(part, list) else [part])]
        for reply in replies:
            gateway_reply(reply, "stdio", {"upstream_timeout"}, {"unknown"})
        for _ in range(2):
            await asks_as_a_stranger(cut, gateway)
        await is_healthy(cut)
        await says_nothing_more(cut)
        cut.abort()
    await comes_to_rest(gateway)


async def test_posts_of_the_old_transport(start):
    """The connection of a POST that was accepted is free; the answer comes on the stream of its session and nowhere else."""
    gateway = start()
    async with await SSECaller.open(gateway, "stdio") as caller, await Wire.open(gateway.port) as wire:
        said = call_of("labelled", {"label": "mine", "steps": 4, "interval": 0.3}, id=5, token="t")
        fields = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKENS[0]}"}
        accepted = await wire.exchange("POST", caller.endpoint, fields, json.dumps(said).encode())
        assert accepted.status == 202
        await asks_as_a_stranger(wire, gateway)
        assert text_of(await caller.wait_for("the answer", lambda: caller.reply(5))) == "mine"
        await is_healthy(wire)
        await says_nothing_more(wire)


async def test_the_owner_reuses_it_at_once(start):
    """Requests that wait behind the response on the first connection are served when that ends, each with its own answer."""
    gateway = start()
    caller = await Caller.open(gateway, "http")
    first, answer, last = await lost(caller, "http", 1)
    _, path = split(caller.url)
    async with first:
        for id in (21, 22):
            said = message("ping", id=id)
            await first.request("POST", path, caller.fields(said), json.dumps(said).encode())
        second, resumed = await caller.stream(last)
        async with second:
            await goes_free(first, answer)
            for id in (21, 22):
                answer = await first.rest(await first.head())
                assert [m.get("id") for m in answer.messages()] == [id], answer.body
            await second.rest(resumed)
            assert "result" in resumed.reply(7)
            await says_nothing_more(first)
    await comes_to_rest(gateway)
