# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Callers that read slowly get everything; those that do not read cost a bounded amount, and nobody else notices."""

import asyncio
import json
import time

import pytest
from harness.bounds import MEGABYTE, Growth, comes_to_rest
from harness.callers import CLIENT, Caller, SSECaller, call_of
from harness.children import FaultChild
from harness.processes import until
from harness.wire import Answer, Wire, message, split

pytestmark = pytest.mark.gateway_only

CALLS = 30
LEGACY_MOST = 12
MOST = 30
"""MiB that may be added: of what comes, ten times as much."""
INITIALIZE_MOST = 60
SLOW = "2s"


@pytest.fixture
def child_of_mode(tmp_path):
    made = []

    def make(mode="ok", **more):
        made.append(FaultChild(tmp_path, mode, **more))
        return made[-1]

    yield make
    for child in made:
        child.sweep()


@pytest.fixture
def start(gateway_of, raw, child_of_mode):
    """A gateway before a program, an upstream whose answers have a megabyte, and one that streams."""

    def make(mode="ok", wait=True, **limits):
        url = f"http://127.0.0.1:{raw.port}"
        entries = {
            "stdio": child_of_mode(mode).entry,
            "http": {"url": f"{url}/fast?bytes={MEGABYTE}", "protocol": "handshake"},
            "events": {"url": f"{url}/events", "protocol": "handshake"},
        }
        # So much of one answer is kept for a caller of the old transport.
        limits = {"eventBytes": "4MiB", **limits}
        gateway = gateway_of(entries, options={"pingInterval": 0}, limits=limits, log_level="info")
        if wait:
            gateway.wait_until_ready()
        return gateway

    return make


class Reader:
    """A connection that is read only as far as a test says; what its system takes by itself is little."""

    def __init__(self, wire: Wire, answer: Answer) -> None:
        self.wire = wire
        self.answer = answer
        self.received = 0

    @classmethod
    async def of(cls, caller: Caller, body, method="POST", last="", wire=None):
        """Sends a request of this caller and takes the head of the answer."""
        port, path = split(caller.url)
        wire = wire or await Wire.narrow(port)
        fields = caller.fields(body if isinstance(body, dict) else {"method": ""})
        if method == "GET":
            fields |= {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        await wire.request(method, path, fields, json.dumps(body).encode() if body else b"")
        return cls(wire, await wire.head())

    @property
    def transport(self):
        return self.wire.writer.transport

    def stop(self):
        """Reads nothing more."""
        self.transport.pause_reading()

    async def take(self, count: int, deadline: float = 40) -> bytes:
        """At most so many bytes of the body with its framing; nothing at the end."""
        data = await asyncio.wait_for(self.wire.reader.read(count), deadline)
        self.received += len(data)
        return data

    async def steadily(self, end: bytes, size=64 * 1024, pause=0.05, most=60.0) -> float:
        """Reads until the body ends with these bytes; gives how long that took."""
        began, tail = time.monotonic(), b""
        while not tail.endswith(end):
            assert time.monotonic() - began < most, f"only {self.received} bytes in {most} s"
            try:
                data = await self.take(size)
            except ConnectionError:
                data = b""
            except TimeoutError:
                raise AssertionError(f"nothing came any more after {self.received} bytes: {tail!r}") from None
            assert data, f"cut after {self.received} bytes and {time.monotonic() - began:.1f} s"
            tail = (tail + data)[-64:]
            await asyncio.sleep(pause * len(data) / size)
        return time.monotonic() - began


async def silent_legacy(gateway, name):
    """A session of the old transport whose stream nobody reads from now on, and the fields of its posts."""
    caller = await SSECaller.open(gateway, name)
    caller._reader.cancel()
    caller.wire.writer.transport.pause_reading()
    return caller


@pytest.mark.parametrize("kind,slow", [("stdio", "3s"), ("stdio", "60s"), ("http", "3s")])
async def test_answers_on_a_stream_that_nobody_reads(start, kind, slow):
    """The answers to the calls of such a caller do not pile up: its session ends rather than that."""
    gateway = start(slowReader=slow)
    caller = await silent_legacy(gateway, kind)
    other = await Caller.open(gateway, kind)
    growth = Growth(gateway, LEGACY_MOST)
    posts = [caller.post(call_of("large", {"bytes": MEGABYTE}, id=id)) for id in range(1, CALLS + 1)]
    for answer in await asyncio.gather(*posts):
        assert answer.status in (202, 404, 503), (answer.status, answer.body)
    began = time.monotonic()

    async def is_over():
        growth.check()
        # Until `slowReader` nobody has to end it, as long as its bytes wait elsewhere.
        if slow == "60s" and time.monotonic() - began > 25:
            return True
        return (await caller.post(message("ping", id=1000))).status == 404

    await until("its session ends", is_over, 30)
    assert "result" in await other.ask("echo", {"text": "x"})
    caller.close()
    await comes_to_rest(gateway)


@pytest.mark.parametrize("method", ["notifications/message", "notifications/tools/list_changed"])
async def test_messages_on_a_stream_that_nobody_reads(start, method):
    """Nor do the messages that its server sends without being asked."""
    gateway = start()
    caller = await silent_legacy(gateway, "stdio")
    other = await Caller.open(gateway, "stdio")
    growth = Growth(gateway, MOST)
    flood = {"method": method, "bytes": 256 * 1024, "count": 800}
    assert (await caller.post(call_of("notify", flood, id=1))).status == 202
    await growth.stays(15)
    began = time.monotonic()
    assert "result" in await other.ask("echo", {"text": "x"})
    assert time.monotonic() - began < 6
    growth.check()
    caller.close()


async def test_initializing_while_the_server_starts(start):
    """One `initialize` waits for a server that is not up yet; the second of a session is refused, and costs nothing."""
    gateway = start("slow-start?ms=6000", wait=False)
    async with await SSECaller.connect(gateway, "stdio") as caller:
        growth = Growth(gateway, INITIALIZE_MOST)
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {**CLIENT, "title": "x" * 3_900_000}}
        refused = set()
        for id in range(40):
            answer = await caller.post(message("initialize", params, id=id))
            growth.check(f"after {id + 1}")
            if answer.status != 202:
                assert answer.status in (400, 409, 429, 503), (answer.status, answer.body)
                refused.add(id)
        refused |= {m["id"] for m in caller.messages if "error" in m}
        assert refused == set(range(1, 40)), f"the first waits, not {set(range(40)) - refused}"
        reply = await caller.wait_for("the first is answered", lambda: caller.reply(0), 20)
        assert "result" in reply


async def test_an_honest_caller_of_the_old_transport(start):
    """One that takes two seconds for an answer of ten megabytes has it whole."""
    gateway = start(slowReader=SLOW)
    async with await SSECaller.open(gateway, "stdio") as caller:
        caller._reader.cancel()
        assert (await caller.post(call_of("large", {"bytes": 10 * MEGABYTE}, id=3))).status == 202
        reader = Reader(caller.wire, caller.answer)
        took = await reader.steadily(b'"}]}}\n\n\r\n', size=256 * 1024, pause=0.05)
        assert took > 2 and reader.received > 10 * MEGABYTE
        asked = await caller.post(message("ping", id=4))
        assert asked.status == 202, "the session goes on"


async def test_an_answer_under_way_at_the_stop(start):
    """SIGTERM does not cut what a caller is reading: it has the whole answer, and the process ends soon after."""
    gateway = start()
    caller = await Caller.open(gateway, "stdio")
    reader = await Reader.of(caller, call_of("large", {"bytes": 8 * MEGABYTE}, id=1))
    length = int(reader.answer.header("content-length"))
    await reader.take(65536)
    stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
    took = await reader.steadily(b'"}]}}', size=64 * 1024, pause=0.04)
    assert took > 3 and reader.received == length, (took, reader.received, length)
    ended = time.monotonic()
    await stopping
    assert time.monotonic() - ended < 3, f"{time.monotonic() - ended:.1f} s after the answer"


async def large_answer(gateway, kind, size):
    """A reader of an answer of this many bytes, whole, as events, or as events that a GET takes up; and how it ends."""
    if kind == "json":
        caller = await Caller.open(gateway, "stdio")
        return await Reader.of(caller, call_of("large", {"bytes": size}, id=1)), b'"}]}}'
    caller = await Caller.open(gateway, "events")
    call = call_of("stream", {"count": size // 250_000, "bytes": 250_000}, id=1, token="t")
    if kind == "events":
        return await Reader.of(caller, call), b"0\r\n\r\n"
    call["params"]["arguments"]["ms"] = 20
    wire = await caller.send(call)
    answer = await wire.head()
    async for event in wire.events(answer):
        if event.get("data"):
            break
    wire.reset()
    return await Reader.of(caller, None, "GET", event["id"]), b"0\r\n\r\n"


ANSWERS = ["json", "events", "taken-up"]


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_caller_that_reads_steadily(start, kind):
    """However long it takes: who goes on reading is not too slow."""
    gateway = start(slowReader=SLOW)
    reader, end = await large_answer(gateway, kind, 12 * MEGABYTE)
    took = await reader.steadily(end)
    assert took > 6, f"{took:.1f} s are no trial"
    reader.wire.abort()
    await comes_to_rest(gateway)


async def test_a_caller_that_reads_little_but_steadily(start):
    """Nor is one too slow that takes 16 KiB in the time, wherever the bytes wait that it has not taken."""
    gateway = start(slowReader=SLOW)
    reader, _ = await large_answer(gateway, "json", 12 * MEGABYTE)
    began = time.monotonic()
    while time.monotonic() - began < 10:
        try:
            assert await reader.take(20_000)
        except ConnectionError:
            raise AssertionError(f"cut after {reader.received} bytes and {time.monotonic() - began:.1f} s") from None
        await asyncio.sleep(0.1)
    reader.wire.abort()
    await comes_to_rest(gateway)


async def is_cut(gateway, reader, within):
    """Waits until the gateway lets go of the connection; gives how long that took."""
    local = reader.wire.writer.get_extra_info("sockname")[1]
    remote = f":{local:04X}"

    def has_gone():
        rows = [line.split() for line in open("/proc/net/tcp").read().splitlines()[1:]]
        # The other end of our connection, as the kernel sees it, in a state in which somebody holds it.
        return not any(row[2].endswith(remote) and row[3] == "01" for row in rows)

    began = time.monotonic()
    await until("it is cut", has_gone, within)
    return time.monotonic() - began


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_caller_that_reads_nothing(start, kind):
    """It is cut when it has taken nothing for `slowReader`."""
    gateway = start(slowReader=SLOW)
    reader, _ = await large_answer(gateway, kind, 12 * MEGABYTE)
    reader.stop()
    took = await is_cut(gateway, reader, 8)
    assert took > 1, f"{took:.1f} s"
    reader.wire.abort()
    await comes_to_rest(gateway)


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_caller_that_reads_a_byte_a_second(start, kind):
    """A byte now and then is no reading."""
    gateway = start(slowReader=SLOW)
    reader, _ = await large_answer(gateway, kind, 12 * MEGABYTE)
    reader.stop()
    plain = reader.wire.writer.get_extra_info("socket").dup()

    async def drip():
        while True:
            await asyncio.sleep(1)
            plain.recv(1)

    dripping = asyncio.create_task(drip())
    await is_cut(gateway, reader, 15)
    dripping.cancel()
    plain.close()
    reader.wire.abort()
    await comes_to_rest(gateway)


async def stopped_readers(gateway, count, size, first=1):
    """So many callers, each with an answer of this size that it does not read."""

    async def one(id):
        caller = await Caller.open(gateway, "stdio")
        port, path = split(caller.url)
        wire = await Wire.narrow(port)
        call = call_of("large", {"bytes": size}, id=id)
        wire.writer.transport.pause_reading()
        await wire.request("POST", path, caller.fields(call), json.dumps(call).encode())
        return wire

    return [await one(id) for id in range(first, first + count)]


async def test_whole_answers_are_counted(start):
    """What is held for callers that do not read stands in `buffered_bytes` until they are gone."""
    gateway = start()
    before = gateway.child.rss()
    wires = await stopped_readers(gateway, 10, 8 * MEGABYTE)
    # Of each answer the system takes up to four megabytes by itself.
    await until("most of it is counted", lambda: gateway.metric("buffered_bytes") > 10 * 3 * MEGABYTE, 20)
    assert gateway.metric("buffered_bytes") < 10 * 10 * MEGABYTE
    assert gateway.child.rss() - before < 2.5 * gateway.metric("buffered_bytes") + 20 * MEGABYTE, "about what is counted is held"
    for wire in wires:
        wire.reset()
    await comes_to_rest(gateway)
    await until("nothing is held", lambda: gateway.metric("buffered_bytes") == 0)


async def test_the_whole_process_holds_no_more_than_it_may(start):
    """Above `bufferedBytes` the largest holders are cut, or new calls refused; small calls are served meanwhile."""
    gateway = start(bufferedBytes="32MiB")
    other = await Caller.open(gateway, "events")
    growth = Growth(gateway, 160)
    wires = []
    for n in range(10):
        wires += await stopped_readers(gateway, 2, 8 * MEGABYTE, 1 + 2 * n)
        growth.check(f"after {len(wires)} callers")
        assert "result" in await other.ask("stream", {"count": 1})
    end = time.monotonic() + 5
    highest = 0.0
    while time.monotonic() < end:
        highest = max(highest, await asyncio.to_thread(gateway.metric, "buffered_bytes"))
        growth.check()
        began = time.monotonic()
        assert "result" in await other.ask("stream", {"count": 1})
        assert time.monotonic() - began < 2
    assert 8 * MEGABYTE < highest < 50 * MEGABYTE, f"{highest / MEGABYTE:.0f} MiB"
    for wire in wires:
        wire.reset()
    await comes_to_rest(gateway)
    await until("nothing is held", lambda: gateway.held()["bufferedBytes"] == 0)


@pytest.mark.parametrize("method", ["notifications/tools/list_changed", "notifications/message"])
async def test_standing_streams_that_nobody_reads(start, method):
    """What comes for all does not pile up on its way to those who do not read; those who do are served."""
    gateway = start()
    callers = [await Caller.open(gateway, "stdio") for _ in range(8)]
    readers = [await Reader.of(caller, None, "GET") for caller in callers]
    for reader in readers:
        reader.stop()
    other = await Caller.open(gateway, "stdio")
    growth = Growth(gateway, MOST)
    flood = {"method": method, "bytes": 32 * 1024, "count": 300}
    flooding = asyncio.create_task(callers[0].ask("notify", flood))
    while not flooding.done():
        began = time.monotonic()
        assert "result" in await other.ask("echo", {"text": "x"})
        assert time.monotonic() - began < 15
        growth.check()
    assert "result" in await flooding
    growth.check("at the end")
    for reader in readers:
        reader.wire.reset()
    await comes_to_rest(gateway)


@pytest.mark.parametrize("size,reads", [(256 * 1024, False), (2000, True)], ids=["unread", "read"])
async def test_a_flood_for_one_call(gateway_of, child_of_mode, size, reads):
    """What a server sends faster than a call's event loop takes it waits at the server, whichever loop that is.

    Connections go round the event loops, and so do servers: with one connection more between them one of the two calls is
    not on the loop of its server.
    """
    children = [child_of_mode() for _ in range(2)]
    entries = {f"s{n}": child.entry for n, child in enumerate(children)}
    gateway = gateway_of(entries, options={"pingInterval": 0}, log_level="info")
    gateway.wait_until_ready()
    callers = [await Caller.open(gateway, name) for name in entries]
    growth = Growth(gateway, MOST)
    flood = {"method": "notifications/message", "bytes": size, "count": 400 * MEGABYTE // size}
    call = call_of("notify", flood, id=1, token="t")
    wires = [await Wire.narrow(gateway.port) for _ in range(3)]

    async def take(caller, wire):
        reader = await Reader.of(caller, call, wire=wire)
        if reads:
            await wire.rest(reader.answer)
        else:
            reader.stop()

    taking = [asyncio.create_task(take(caller, wire)) for caller, wire in zip(callers, wires[::2])]
    try:
        await growth.stays(8)
    finally:
        for child in children:
            child.sweep()
        for wire in wires:
            wire.reset()
        await asyncio.gather(*taking, return_exceptions=True)
    await comes_to_rest(gateway, 15)
