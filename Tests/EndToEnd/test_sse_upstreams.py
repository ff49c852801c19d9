# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Upstreams of the HTTP+SSE transport of 2024-11-05: what becomes of a call when one misbehaves, goes away or is none."""

import asyncio
import itertools
import json
import secrets
import time

import pytest
from harness.callers import CLIENT, Caller, messages_of, text_of, works
from harness.errors import gateway_error, gateway_reply
from harness.processes import FIXTURES, Everything, Upstream, until
from harness.wire import message

pytestmark = pytest.mark.gateway_only

NO, UNKNOWN, YES = {"no"}, {"unknown"}, {"yes"}
REFUSED = NO | UNKNOWN  # a 4xx says that it did not run, but not every server means it
AT_ONCE = 2
INITIALIZE = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}, id=0)

# The call is answered as if nothing were.
WORKS = [
    "ok",
    "endpoint-absolute",
    "endpoint-relative",
    "post-202-late",
    "garbage-data",
    "two-answers",
    "request-same-id",
    "comments",
    "crlf-bom",
]
# The call fails: reasons, and what may be said of `executed`. The next call works, on a fresh stream if need be.
FAILS = {
    "end-mid-call": ({"upstream_closed"}, UNKNOWN),
    "rst-mid-call": ({"upstream_closed"}, UNKNOWN),
    "end-in-event": ({"upstream_closed"}, UNKNOWN),
    "silent": ({"upstream_timeout"}, UNKNOWN),
    "foreign-id": ({"upstream_timeout"}, UNKNOWN),
    "retyped-id": ({"upstream_timeout"}, UNKNOWN),
    "post-hang": ({"upstream_timeout"}, UNKNOWN),
    "post-reset": ({"upstream_closed"}, UNKNOWN),
    "post-400": ({"upstream_status"}, REFUSED),
    "post-413": ({"upstream_status"}, REFUSED),
    "post-500": ({"upstream_status"}, UNKNOWN),
    "post-503": ({"upstream_status"}, UNKNOWN),
    "post-429": ({"rate_limited"}, NO),
    "post-401": ({"credential_rejected"}, NO),
    "post-403": ({"credential_rejected"}, NO),
    "post-redirect": ({"upstream_protocol"}, NO),
    "huge-event": ({"upstream_protocol"}, YES | UNKNOWN),
    "endless-line": ({"upstream_protocol"}, YES | UNKNOWN),
}
# There is no session at all: `initialize` fails.
NO_SESSION = {
    "no-endpoint": {"upstream_protocol", "upstream_timeout", "unreachable"},
    "endpoint-late": {"upstream_protocol"},
    "endpoint-cross": {"upstream_protocol"},
    "endpoint-cross-port": {"upstream_protocol"},
    "endpoint-garbage": {"upstream_protocol"},
    "get-404": {"upstream_status", "upstream_protocol"},
    "get-405": {"upstream_status", "upstream_protocol"},
    "get-500": {"upstream_status"},
    "get-401": {"credential_rejected"},
    "get-html": {"upstream_protocol"},
    "get-redirect": {"upstream_protocol"},
    "get-hang": {"upstream_timeout", "unreachable"},
}
OTHERWISE_TESTED = {"answer-in-post", "post-404", "post-404-once", "endpoint-twice"}
SLOW = {"no-endpoint", "get-hang"}


@pytest.fixture(scope="module")
def sse():
    """The upstream that misbehaves on demand (Tests/Fixtures/faultsse.py)."""
    upstream = Upstream("2x", FIXTURES / "faultsse.py", "0")
    yield upstream
    upstream.kill()


@pytest.fixture
def gateway_at(sse, gateway_of):
    """A gateway before one fault of the upstream, as `sse`."""

    def start(fault):
        entry = {"transportType": "sse", "url": f"http://127.0.0.1:{sse.port}/sse/{fault}", "timeout": "2s"}
        gateway = gateway_of({"sse": entry}, log_level="debug", options={"pingInterval": 0}, startupGracePeriod="2s")
        gateway.wait_until_ready()
        return gateway

    return start


def calls(sse, nonce):
    """What the upstream got of the call with this nonce."""
    entries = sse.control("/control/journal")["entries"]
    return [entry for entry in entries if entry["rpc"] == "tools/call" and nonce in json.dumps(entry["message"])]


def test_table_is_complete(sse):
    """Every fault that the upstream knows has its row."""
    assert set(sse.control("/control/faults")) == {*WORKS, *FAILS, *NO_SESSION} | OTHERWISE_TESTED


@pytest.mark.parametrize("fault", WORKS)
async def test_answered_all_the_same(gateway_at, sse, fault):
    """The caller has its one answer, and the upstream its one call."""
    gateway, nonce = gateway_at(fault), secrets.token_hex(8)
    caller = await Caller.open(gateway, "sse")
    answer = await caller.call("fault", {"nonce": nonce}, id=7)
    assert json.loads(text_of(answer.reply(7))) == {"nonce": nonce}
    await works(caller)
    assert [call["executed"] for call in calls(sse, nonce)] == [True]
    fields = calls(sse, nonce)[0]["fields"]
    assert fields["authorization"].startswith("Bearer CANARY-upstream") and "x-canary" in fields
    if fault == "request-same-id":
        replies = [e["message"] for e in sse.control("/control/journal")["entries"] if e["fault"] == fault and not e["rpc"]]
        assert any(reply.get("result") == {} for reply in replies), "its ping is answered"


@pytest.mark.parametrize("fault", FAILS)
async def test_call_fails(gateway_at, sse, fault):
    """The caller is told what happened, truthfully and in time, and the next call works without a restart."""
    reasons, executed = FAILS[fault]
    gateway, nonce = gateway_at(fault), secrets.token_hex(8)
    one, other = await Caller.open(gateway, "sse"), await Caller.open(gateway, "sse")
    began = time.monotonic()
    answer = await one.call("fault", {"nonce": nonce}, id=7)
    took = time.monotonic() - began
    data = gateway_error(answer, 7, "handshake", "sse", reasons, executed)
    assert 1.9 < took < 4 if "upstream_timeout" in reasons else took < AT_ONCE + 1, f"{took:.2f} s"
    seen = calls(sse, nonce)
    assert len(seen) == 1, "the call is sent once"
    assert not (seen[0]["executed"] and data["executed"] == "no"), "it ran, and its caller was told that it did not"
    if "upstream_status" in reasons:
        assert data["status"] == int(fault.removeprefix("post-"))
    await works(one)
    await works(other)
    if "upstream_timeout" in reasons and fault != "post-hang":
        await until("it is told", lambda: cancellations(sse, seen[0]["id"]))


def cancellations(sse, id):
    entries = sse.control("/control/journal")["entries"]
    return [e for e in entries if e["rpc"] == "notifications/cancelled" and e["message"]["params"]["requestId"] == id]


@pytest.mark.parametrize("fault", NO_SESSION)
async def test_no_session(gateway_at, sse, fault):
    """The caller is told why, nothing is sent where it must not go, and no secret leaves the origin."""
    gateway = gateway_at(fault)
    caller = Caller(gateway.url("sse"), gateway.token, gateway.seen)
    before = len(sse.control("/control/journal")["entries"])
    began = time.monotonic()
    answer = await caller.post(INITIALIZE)
    assert time.monotonic() - began < (13 if fault in SLOW else AT_ONCE)
    gateway_error(answer, 0, "handshake", "sse", NO_SESSION[fault], NO)
    assert not [entry for entry in sse.control("/control/journal")["entries"][before:] if entry["method"] == "POST"]


async def test_second_endpoint(gateway_at, sse):
    """A stream that names another endpoint later leads nothing there: it is ignored, or the end of the stream."""
    gateway = gateway_at("endpoint-twice")
    caller = Caller(gateway.url("sse"), gateway.token, gateway.seen)
    answer = await caller.post(INITIALIZE)
    if "result" not in answer.reply(0):
        gateway_error(answer, 0, "handshake", "sse", {"upstream_protocol"}, NO | UNKNOWN)
    posts = [e for e in sse.control("/control/journal")["entries"] if e["fault"] == "endpoint-twice" and e["method"] == "POST"]
    assert all(post["fields"]["host"].startswith("127.0.0.1:") for post in posts)


async def test_answer_in_the_post(gateway_at, sse):
    """An upstream that answers in the POST has its answer taken, or the caller is told: it never waits in vain."""
    gateway = gateway_at("answer-in-post")
    caller = await Caller.open(gateway, "sse")
    answer = await caller.call("fault", {"nonce": "x"}, id=7, deadline=5)
    if "result" not in answer.reply(7):
        gateway_error(answer, 7, "handshake", "sse", {"upstream_protocol", "upstream_timeout"}, UNKNOWN | YES)
    await works(caller)


async def test_session_forgotten_by_the_upstream(gateway_at, sse):
    """A POST that is 404 never ran: a new stream is opened and the call sent there, once."""
    gateway, nonce = gateway_at("post-404-once"), secrets.token_hex(8)
    caller = await Caller.open(gateway, "sse")
    answer = await caller.call("fault", {"nonce": nonce}, id=7)
    assert json.loads(text_of(answer.reply(7))) == {"nonce": nonce}
    assert [call["executed"] for call in calls(sse, nonce)] == [False, True]


async def test_session_refused_again(gateway_at, sse):
    """Where the fresh session is unknown too, the caller's ends, so that it initialises anew; nothing ran."""
    gateway, nonce = gateway_at("post-404"), secrets.token_hex(8)
    caller = await Caller.open(gateway, "sse")
    answer = await caller.call("fault", {"nonce": nonce}, id=7)
    if answer.status != 404:
        gateway_error(answer, 7, "handshake", "sse", {"upstream_status"}, REFUSED)
    assert [call["executed"] for call in calls(sse, nonce)] in ([False], [False, False])


async def test_standing_stream(gateway_at, sse):
    """What the upstream says without being asked comes on the caller's GET stream, which ends properly with the session."""
    gateway = gateway_at("ok")
    caller = await Caller.open(gateway, "sse")
    await works(caller)
    wire, answer = await caller.stream()
    async with wire:
        assert answer.status == 200
        sse.control("/control/announce")
        assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
        assert (await caller.delete()) == 204
        await wire.rest(answer, 5)
    assert not answer.cut


async def test_idle_stream_is_opened_again(gateway_at, sse):
    """An upstream that ends its stream between two calls costs nothing: the next call finds a fresh one."""
    gateway = gateway_at("ok")
    caller = await Caller.open(gateway, "sse")
    await works(caller)
    sse.control("/control/drop")
    for _ in range(3):
        await works(caller)


async def test_streams_are_closed_with_their_sessions(gateway_at, sse):
    """Each caller's session has a stream of its own, which goes with it."""
    gateway = gateway_at("ok")
    await until("no stream is left of other tests", lambda: sse.control("/control/journal")["streams"] == 0)
    callers = [await Caller.open(gateway, "sse") for _ in range(5)]
    for caller in callers:
        await works(caller)
    assert sse.control("/control/journal")["streams"] == 5
    for caller in callers:
        assert await caller.delete() == 204
    await until("they are closed", lambda: sse.control("/control/journal")["streams"] == 0)


@pytest.mark.parametrize("flavor", ["1x-sse", "2x"])
async def test_restart_in_the_middle_of_traffic(gateway_of, flavor):
    """An upstream that is killed and started again costs the calls in flight; within 2 s the sessions work as before."""
    first = Everything(flavor)
    gateway = gateway_of({"up": first.entry}, log_level="info", options={"pingInterval": 0})
    callers = [await Caller.open(gateway, "up") for _ in range(6)]
    numbers = itertools.count()
    replies: list[dict] = []
    up: list[float] = []
    recovered: dict[Caller, float] = {}
    stop = asyncio.Event()

    async def traffic(caller):
        while not stop.is_set():
            reply = await caller.ask("slow", {"seconds": 0.05, "nonce": f"n{next(numbers)}"})
            replies.append(reply)
            if up and "result" in reply:
                recovered.setdefault(caller, time.monotonic())
            if "error" in reply:
                await asyncio.sleep(0.05)

    running = [asyncio.create_task(traffic(caller)) for caller in callers]
    second = None
    try:
        await until("there is traffic", lambda: len(replies) > 30)
        await asyncio.to_thread(first.kill)
        second = await asyncio.to_thread(Everything, flavor, first.port)
        up.append(time.monotonic())
        await until("calls of each session work again", lambda: len(recovered) == len(callers))
        assert max(recovered.values()) - up[0] < 2, [f"{at - up[0]:.2f} s" for at in recovered.values()]
        stop.set()
        await asyncio.gather(*running)
        for reply in replies:
            if "error" in reply:
                gateway_reply(reply, "up", {"upstream_closed", "unreachable"}, NO | UNKNOWN)
    finally:
        stop.set()
        await asyncio.gather(*running, return_exceptions=True)
        if second is not None:
            second.kill()


@pytest.mark.parametrize("flavor", ["2x", "2x-json", "1x", "1x-stateless", "2x-sse", "1x-sse"])
async def test_transport_is_found_out(gateway_of, servers, flavor):
    """A `url` without `transportType` works whatever transport is there."""
    server = servers[flavor]
    gateway = gateway_of({"up": {"url": server.url, "transportType": None}})
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "up")
    assert text_of(await caller.ask("echo", {"text": flavor})) == flavor


@pytest.mark.parametrize(
    "transport,flavor,found",
    [
        ("sse", "2x", "streamable"),
        ("sse", "1x", "streamable"),
        ("streamable-http", "1x-sse", "sse"),
        ("streamable-http", "2x-sse", "sse"),
    ],
)
async def test_explicit_transport_never_falls_back(gateway_of, servers, transport, flavor, found):
    """What was asked for is not there: the caller is told, in words that lead to what is."""
    server = servers[flavor]
    gateway = gateway_of({"up": {"url": server.url, "transportType": transport}}, startupGracePeriod="2s")
    gateway.wait_until_ready()
    caller = Caller(gateway.url("up"), gateway.token, gateway.seen)
    began = time.monotonic()
    answer = await caller.post(INITIALIZE)
    assert time.monotonic() - began < 12
    gateway_error(answer, 0, "handshake", "up", {"upstream_protocol", "upstream_status"}, NO | UNKNOWN)
    words = json.dumps(answer.reply(0)).lower()
    assert found in words or any(status in words for status in ("400", "404", "405", "406")), words
