# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Callers that speak the HTTP+SSE of 2024-11-05: P/NAME/sse and P/NAME/message, beside P/NAME/mcp."""

import asyncio
import json
import re
import secrets
import time

import pytest
from harness.callers import CAPABILITIES, Caller, SSECaller, call_of, messages_of, text_of
from harness.errors import gateway_reply
from harness.processes import free_port, until
from harness.wire import Wire, message, split

pytestmark = pytest.mark.gateway_only

ENDPOINT = re.compile(r"/(?:prefix/)?child/message\?sessionId=([A-Za-z0-9_-]{22,})")
KEEP_ALIVE = 15


@pytest.fixture
def gateway(gateway_of, child):
    """A gateway before a program and before nothing."""
    entries = {"child": child.entry, "down": {"url": "http://127.0.0.1:1/mcp"}}
    return gateway_of(entries, options={"pingInterval": 0}, startupGracePeriod="250ms")


async def test_endpoint_comes_first(gateway):
    """The first event is the endpoint: a path only, with a session id that nobody can guess, each time another."""
    ids = set()
    for _ in range(3):
        async with await SSECaller.connect(gateway, "child") as caller:
            assert caller.events[0]["event"] == "endpoint", caller.events
            match = ENDPOINT.fullmatch(caller.endpoint)
            assert match, caller.endpoint
            ids.add(match[1])
            assert caller.answer.header("cache-control") in ("no-store", "no-cache", "no-cache, no-transform")
    assert len(ids) == 3
    assert not any(session.encode() in gateway.child.err for session in ids), "nor is an id in full in the log"


async def test_endpoint_under_a_prefix(gateway_of, child):
    """It lies under the path of `baseURL`, whatever host that names."""
    gateway = gateway_of({"child": child.entry}, baseURL="https://example.com/prefix", allowedHosts=["127.0.0.1"])
    real = gateway.url
    gateway.url = lambda name, transport="mcp": real(f"prefix/{name}", transport)
    async with await SSECaller.open(gateway, "child") as caller:
        assert caller.endpoint.startswith("/prefix/child/message?sessionId="), caller.endpoint
        assert "result" in await caller.call("echo")


async def test_posts_are_accepted(gateway):
    """Requests, notifications and answers are 202; the answers to requests come on the stream, each as `message`."""
    async with await SSECaller.open(gateway, "child") as caller:
        for id in (1, "1", 2):
            assert text_of(await caller.call("echo", {"id": id}, id=id)) == json.dumps({"id": id})
        assert {event.get("event", "message") for event in caller.events[1:]} == {"message"}
        assert (await caller.post(message("notifications/cancelled", {"requestId": 99}, id=None))).status == 202
        assert (await caller.post({"jsonrpc": "2.0", "id": 77, "result": {}})).status == 202, "an answer nobody waits for"
        assert "result" in await caller.request(message("ping", id=3))


async def test_wrong_posts(gateway):
    """What is wrong is refused as over streamable HTTP, and the session goes on."""
    async with await SSECaller.open(gateway, "child") as caller:
        path = caller.endpoint.partition("?")[0]
        assert (await caller.post(message("ping"), endpoint=f"{path}?sessionId={'f' * 32}")).status == 404
        assert (await caller.post(message("ping"), endpoint=path)).status in (400, 404)
        assert (await caller.post(b"{not json")).status == 400
        assert (await caller.post({"jsonrpc": "2.0"})).status == 400
        assert (await caller.post(message("ping"), token="wrong")).status == 401
        port, _ = split(gateway.url("child"))
        authorization = {"Authorization": f"Bearer {gateway.token}"}
        async with await Wire.open(port, gateway.seen) as wire:
            wrong = await wire.exchange("GET", caller.endpoint, {**authorization, "Accept": "text/event-stream"})
            assert wrong.status == 405 and wrong.header("allow") == "POST"
        async with await Wire.open(port, gateway.seen) as wire:
            wrong = await wire.exchange("POST", "/child/sse", {**authorization, "Content-Type": "application/json"}, b"{}")
            assert wrong.status == 405 and "GET" in (wrong.header("allow") or "")
        assert "result" in await caller.call("echo", id=9)


async def test_foreign_session(gateway_of, child):
    """To another token a session is one that never was, and so it is to the other transport."""
    tokens = [f"CANARY-{n}-{secrets.token_hex(16)}" for n in range(2)]
    gateway = gateway_of({"child": child.entry}, options={"authTokens": tokens})
    gateway.token = tokens[0]
    async with await SSECaller.open(gateway, "child") as caller:
        unknown = await caller.post(message("ping"), endpoint=caller.endpoint[:-4] + "0000", token=tokens[1])
        foreign = await caller.post(message("ping"), token=tokens[1])
        assert foreign.status == unknown.status == 404 and foreign.body == unknown.body
        streamable = Caller(gateway.url("child"), tokens[0], gateway.seen)
        streamable.session = caller.endpoint.rpartition("=")[2]
        assert (await streamable.post(message("ping"))).status == 404
        other = await Caller.open(gateway, "child")
        path = caller.endpoint.partition("=")[0]
        assert (await caller.post(message("ping"), endpoint=f"{path}={other.session}")).status == 404
        assert "result" in await caller.call("echo")


async def test_departure_ends_the_session(gateway, child):
    """When the stream is gone the id is unknown, and what still ran for it is cancelled."""
    caller = await SSECaller.open(gateway, "child")
    assert (await caller.post(call_of("slow", {"seconds": 30, "nonce": "abandoned"}, id=5))).status == 202
    await until("it runs", lambda: child.executed("abandoned"))
    endpoint = caller.endpoint
    caller.close()

    async with await SSECaller.open(gateway, "child") as second:

        async def is_gone():
            return (await second.post(message("ping"), endpoint=endpoint)).status == 404

        await until("the session has ended", is_gone)
        called = next(m["id"] for m in child.messages("tools/call") if "abandoned" in json.dumps(m))
        await until("it is cancelled", lambda: child.messages("notifications/cancelled"))
        assert child.messages("notifications/cancelled")[0]["params"]["requestId"] == called
        assert "result" in await second.call("echo")


async def test_both_transports_at_once(gateway, child):
    """Callers of both share one program, with the same ids and tokens, and see only what is theirs."""

    async def over_sse(n):
        async with await SSECaller.open(gateway, "child") as caller:
            reply = await caller.call("labelled", {"label": f"sse-{n}", "steps": 5}, id=1, token=1)
            assert text_of(reply) == f"sse-{n}"
            assert progress_of(caller.messages) == [f"sse-{n} {step}" for step in range(5)]

    async def over_http(n):
        caller = await Caller.open(gateway, "child")
        answer = await caller.call("labelled", {"label": f"http-{n}", "steps": 5}, id=1, token=1)
        assert text_of(answer.reply(1)) == f"http-{n}"
        assert progress_of(answer.messages()) == [f"http-{n} {step}" for step in range(5)]

    await asyncio.gather(*(over(n) for n in range(10) for over in (over_sse, over_http)))
    assert child.starts() == 1


def progress_of(messages):
    seen = [m["params"] for m in messages if m.get("method") == "notifications/progress"]
    assert all(params["progressToken"] == 1 for params in seen), "the token comes back as it was given"
    return [params["message"] for params in seen]


async def test_questions_of_the_server(gateway):
    """A request of the server comes on the stream under an id of the gateway's; the answer is posted."""
    async with await SSECaller.open(gateway, "child", capabilities=CAPABILITIES) as caller:
        assert (await caller.post(call_of("ask", {"method": "roots/list"}, id=4))).status == 202
        asked = await caller.wait_for("its question", lambda: [m for m in caller.messages if m.get("method") == "roots/list"])
        roots = {"roots": [{"uri": "file:///here"}]}
        assert (await caller.post({"jsonrpc": "2.0", "id": asked[0]["id"], "result": roots})).status == 202
        assert json.loads(text_of(await caller.wait_for("the answer", lambda: caller.reply(4)))) == roots


async def test_errors_come_on_the_stream(gateway):
    """An error of the gateway's own is a message too: the POST was accepted."""
    async with await SSECaller.connect(gateway, "down") as caller:
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
        reply = await caller.request(message("initialize", params, id=0))
        gateway_reply(reply, "down", {"unreachable"}, {"no"})
        assert not caller.ended, "the stream goes on"


async def test_unknown_version_and_method(gateway):
    """`server/discover` is refused, so that a client of both eras falls back; an unknown version is answered with ours."""
    async with await SSECaller.connect(gateway, "child") as caller:
        reply = await caller.request(message("server/discover", id="probe", era="stateless"))
        assert "error" in reply, reply
        params = {"protocolVersion": "2026-07-28", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
        reply = await caller.request(message("initialize", params, id=0))
        assert reply["result"]["protocolVersion"] in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


async def test_over_streamable_http_upstreams(gateway_of, raw):
    """DELETE goes upstream when the stream ends, also where the upstream speaks another transport."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/sessions", "protocol": "handshake"}
    gateway = gateway_of({"raw": entry})
    gateway.wait_until_ready()
    raw.control("/control/clear")
    async with await SSECaller.open(gateway, "raw") as caller:
        assert "result" in await caller.call("echo", {"text": "x"})
        assert raw.control("/control/journal")["sessions"] == 1
    await until("the upstream's session has ended", lambda: raw.control("/control/journal")["sessions"] == 0)


@pytest.fixture
def moody(gateway_of, raw):
    """A gateway before an upstream that knows no session of the tool `lose`, with event loops enough that answers come from
    others than that of the stream."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/moody", "protocol": "handshake"}
    started = gateway_of({"moody": entry}, arguments=("--threads", "4"))
    started.wait_until_ready()
    raw.control("/control/clear")
    return started


async def test_a_lost_session_answers_before_it_ends(moody):
    """A session that the upstream knows no longer ends when every call that was accepted has its answer, the one that found
    it lost among them."""
    for _ in range(30):
        async with await SSECaller.open(moody, "moody") as caller:
            tools = ["echo"] * 4 + ["lose"] + ["echo"] * 4
            posts = (caller.post(call_of(tool, {"text": "x"}, id=n)) for n, tool in enumerate(tools, 1))
            statuses = [answer.status for answer in await asyncio.gather(*posts)]
            assert set(statuses) <= {202, 404}, statuses
            accepted = [n for n, status in enumerate(statuses, 1) if status == 202]
            for n in accepted:
                await caller.wait_for(f"an answer to {n}, accepted were {accepted}", lambda: caller.reply(n), 10)
            assert caller.reply(5)["error"]["code"] == -32600, caller.reply(5)
            await caller.wait_for("its end", lambda: caller.ended)
            assert not caller.answer.cut, "it ends in order"


async def test_nothing_runs_in_a_session_that_has_ended(moody, raw):
    """When the stream of such a session has ended, what is posted there is refused: its answer could go nowhere."""
    async with await SSECaller.open(moody, "moody") as caller:
        assert (await caller.post(call_of("lose", id="lost"))).status == 202
        await caller.wait_for("its end", lambda: caller.ended)
        late = await caller.post(call_of("echo", {"text": "late"}, id="late"))
        assert late.status == 404, (late.status, late.body)
    assert "late" not in [entry["id"] for entry in raw.control("/control/journal")["entries"]]


async def test_slow_upstream_holds_nobody_up(gateway):
    """Posts are accepted while others wait for their answers, and answers come as they are ready."""
    async with await SSECaller.open(gateway, "child") as caller:
        began = time.monotonic()
        assert (await caller.post(call_of("slow", {"seconds": 1}, id=1))).status == 202
        assert "result" in await caller.call("echo", id=2)
        assert time.monotonic() - began < 0.8 and not caller.reply(1)
        assert "result" in await caller.wait_for("the slow one", lambda: caller.reply(1))


@pytest.mark.long
@pytest.mark.leaves_work("a handshake caller that goes does not cancel, and its call takes as long as the silence")
@pytest.mark.deadline(KEEP_ALIVE * 3)
async def test_keep_alive(gateway):
    """Every silent stream has a comment each 15 s: that of SSE, GET, and a call under way."""
    streamable = await Caller.open(gateway, "child")
    slowly = call_of("labelled", {"label": "x", "steps": 2, "interval": KEEP_ALIVE + 3}, id=1, token=1)
    async with await SSECaller.open(gateway, "child") as caller, await streamable.send(slowly) as call:
        under_way = await call.head()
        await anext(messages_of(call, under_way))
        wire, standing = await streamable.stream()
        asyncio.create_task(wire.rest(standing))
        rest = asyncio.create_task(call.rest(under_way))
        answers = [caller.answer, standing, under_way]
        await asyncio.sleep(1)  # what the beginning of a stream brings
        before = [len(answer.body) for answer in answers]

        def comments():
            return [bytes(answer.body[start:]) for answer, start in zip(answers, before)]

        began = time.monotonic()
        await until("a comment on each", lambda: all(comments()), KEEP_ALIVE + 2)
        assert time.monotonic() - began > KEEP_ALIVE / 2
        assert all(comment.startswith(b":") for comment in comments()), comments()
        rest.cancel()
        wire.abort()


async def test_streams_end_at_the_stop(gateway_of, child):
    """SIGTERM ends SSE streams properly, after the answers that are under way."""
    gateway = gateway_of({"child": child.entry})
    caller = await SSECaller.open(gateway, "child")
    assert (await caller.post(call_of("slow", {"seconds": 0.5, "nonce": "last"}, id=1))).status == 202
    await until("it runs", lambda: child.executed("last"))
    stopping = asyncio.create_task(asyncio.to_thread(gateway.stop))
    assert "result" in await caller.wait_for("the answer", lambda: caller.reply(1))
    assert await stopping < 5
    assert not caller.answer.cut, "it ends properly"
    caller.close()


async def test_a_failed_initialize_holds_no_stop_up(gateway_of):
    """A caller whose `initialize` met a server that is not there does not keep the gateway from stopping."""
    entry = {"url": f"http://127.0.0.1:{free_port()}/mcp", "options": {"isolation": "shared"}}
    gateway = gateway_of({"gone": entry}, log_level="info")
    async with await SSECaller.connect(gateway, "gone") as caller:
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
        reply = await caller.request(message("initialize", params))
        assert reply["error"]["data"]["reason"] == "unreachable", reply
        took = await asyncio.to_thread(gateway.stop)
        assert took < 4, f"{took:.1f} s to stop"
