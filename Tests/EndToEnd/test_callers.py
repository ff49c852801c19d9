# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Callers that do not do as the specification says, or that take less of it: equal ids, JSON alone, other paths, browsers."""

import asyncio
import json
import secrets

import pytest
from harness.callers import CAPABILITIES, Caller, SSECaller, call_of, messages_of, text_of
from harness.processes import until
from harness.wire import Wire, message, post, split

pytestmark = pytest.mark.gateway_only

PAGE = "http://localhost:6274"
ELICITATION = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
ACCEPTED = {"action": "accept", "content": {}}
JSON = "application/json"


@pytest.fixture
def gateway(gateway_of, child, servers):
    """A program that callers share, one for each, an HTTP+SSE stream for each, and a session over HTTP that they share."""
    entries = {
        "stdio": child.entry,
        "own": {**child.entry, "options": {"isolation": "session"}},
        "sse": servers["1x-sse"].entry,
        "http": {**servers["1x"].entry, "options": {"isolation": "shared"}},
    }
    started = gateway_of(entries, log_level="debug", options={"pingInterval": 0})
    started.wait_until_ready()
    return started


KINDS = ["stdio", "own", "sse", "http"]
PROGRAMS = ["stdio", "own"]


def labelled(label, steps=20, **more):
    return {"label": label, "steps": steps, **more}


@pytest.mark.parametrize("id", [1, "1"])
@pytest.mark.parametrize("kind", KINDS)
async def test_one_id_for_all(gateway, kind, id):
    """Four calls of a session in flight at once, with one id and one token: each has its own answer and progress."""
    caller = await Caller.open(gateway, kind)

    async def one():
        label = secrets.token_hex(8)
        answer = await caller.call("labelled", labelled(label), id=id, token=1)
        assert answer.status == 200 and text_of(answer.reply(id)) == label
        steps = [m["params"] for m in answer.messages() if m.get("method") == "notifications/progress"]
        assert [step["message"] for step in steps] == [f"{label} {n}" for n in range(20)]
        assert all(step["progressToken"] == 1 for step in steps)

    await asyncio.gather(*(one() for _ in range(4)))


async def test_one_id_over_sse(gateway):
    """A caller of HTTP+SSE, whose answers share one stream, gets as many of them as it sent calls."""
    async with await SSECaller.open(gateway, "stdio") as caller:
        labels = [secrets.token_hex(8) for _ in range(4)]
        for label in labels:
            assert (await caller.post(call_of("labelled", labelled(label), id=1))).status == 202
        replies = lambda: [m for m in caller.messages if m.get("id") == 1 and "method" not in m]
        await caller.wait_for("four answers", lambda: len(replies()) == 4)
        assert {text_of(reply) for reply in replies()} == set(labels)


@pytest.mark.parametrize("kind", PROGRAMS)
async def test_cancelled_by_a_common_id(gateway, child, kind):
    """A cancellation by an id that two calls have is for the newer one; the older one has its answer."""
    caller = await Caller.open(gateway, kind)
    older, newer = secrets.token_hex(8), secrets.token_hex(8)
    calls = []
    for nonce in (older, newer):
        calls.append(asyncio.create_task(caller.call("labelled", labelled(nonce, 15, interval=0.1), id=7, token=7)))
        await until("it runs", lambda: child.executed(nonce))
    assert (await caller.post(message("notifications/cancelled", {"requestId": 7}, id=None))).status == 202
    answers = await asyncio.gather(*calls)
    assert text_of(answers[0].reply(7)) == older
    assert answers[1].reply(7)["error"]["code"] == -32800
    told = [m["params"]["requestId"] for m in child.messages("notifications/cancelled")]
    assert told == [m["id"] for m in child.messages("tools/call") if newer in json.dumps(m)]


async def send(caller, body, **more):
    """Posts with other fields than this caller's usual ones."""
    port, path = split(caller.url)
    async with await Wire.open(port, caller.seen) as wire:
        return await wire.exchange("POST", path, {**caller.fields(body), **more}, json.dumps(body).encode())


@pytest.mark.parametrize("kind", KINDS)
async def test_json_alone(gateway, kind):
    """A caller that takes JSON alone gets the answer alone, whatever the server sends before it."""
    caller = await Caller.open(gateway, kind)
    label = secrets.token_hex(8)
    answer = await send(caller, call_of("labelled", labelled(label, 3), id=3, token="t"), Accept=JSON)
    assert answer.status == 200 and answer.content_type == JSON
    assert answer.header("content-length") and text_of(answer.json()) == label and answer.json()["id"] == 3


@pytest.mark.parametrize("kind", PROGRAMS)
async def test_question_to_one_that_takes_json_alone(gateway, child, kind):
    """Such a caller is asked on its GET stream; where it has none the program hears at once that nobody answers."""
    caller = await Caller.open(gateway, kind, capabilities=CAPABILITIES)
    call = call_of("ask", {"method": "elicitation/create", "params": ELICITATION}, id=1)
    answer = await send(caller, call, Accept=JSON)
    assert answer.content_type == JSON
    assert json.loads(text_of(answer.json()))["code"] == -32601
    wire, standing = await caller.stream()
    async with wire:
        asked = asyncio.create_task(send(caller, call, Accept=JSON))
        question = await anext(m async for m in messages_of(wire, standing) if m.get("method") == "elicitation/create")
        assert (await caller.post({"jsonrpc": "2.0", "id": question["id"], "result": ACCEPTED})).status == 202
        assert json.loads(text_of((await asked).json())) == ACCEPTED


async def test_batch_of_one_that_takes_json_alone(gateway, child):
    """The answers are one array, and a program that asks in between is not left waiting."""
    caller = await Caller.open(gateway, "stdio", version="2025-03-26", capabilities=CAPABILITIES)
    ask = call_of("ask", {"method": "elicitation/create", "params": ELICITATION}, id=1)
    answer = await send(caller, [ask, call_of("labelled", labelled("x", 2), id=2, token=2)], Accept=JSON)
    assert answer.content_type == JSON
    replies = {reply["id"]: reply for reply in answer.json()}
    assert json.loads(text_of(replies[1]))["code"] == -32601 and text_of(replies[2]) == "x"


async def test_trailing_slash(gateway):
    """`/mcp/`, `/sse/` and `/message/` are the same as without the slash."""
    url = gateway.url("stdio") + "/"
    client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    initialize = message("initialize", client)
    answer = await post(url, initialize, token=gateway.token)
    assert answer.status == 200 and answer.header("mcp-session-id")
    async with await Wire.open(gateway.port) as wire:
        await wire.request("GET", "/stdio/sse/", {"Accept": "text/event-stream", "Authorization": f"Bearer {gateway.token}"})
        stream = await wire.head()
        endpoint = (await anext(wire.events(stream)))["data"]
        assert endpoint.startswith("/stdio/message?sessionId=")
        slashed = f"http://127.0.0.1:{gateway.port}{endpoint.replace('/message?', '/message/?')}"
        stream.received.clear()
        assert (await post(slashed, initialize, token=gateway.token)).status == 202
        assert "result" in json.loads((await anext(wire.events(stream)))["data"])


async def test_page_of_a_browser(gateway):
    """A page of an admitted origin asks first, without a token; it may read every answer, streams included."""
    port, path = split(gateway.url("stdio"))
    async with await Wire.open(port) as wire:
        asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "mcp-param-a"}
        allowed = await wire.exchange("OPTIONS", path, asked)
        assert allowed.status == 204 and allowed.header("access-control-allow-origin") == PAGE
        assert (allowed.header("access-control-allow-headers") or "").endswith("mcp-name, mcp-param-a")
        assert (await wire.exchange("OPTIONS", path, {**asked, "Origin": "https://evil.example"})).status == 403
    caller = await Caller.open(gateway, "stdio")
    call = call_of("labelled", labelled("x", 2), token=1)
    answer = await send(caller, call, Origin=PAGE)
    assert answer.content_type == "text/event-stream" and text_of(answer.reply(1)) == "x"
    refused = await send(caller, call, Origin=PAGE, Authorization="Bearer wrong")
    assert refused.status == 401
    for readable in (answer, refused):
        assert readable.header("access-control-allow-origin") == PAGE and readable.header("vary") == "Origin"
        assert readable.header("access-control-expose-headers") == "mcp-session-id, www-authenticate"
    lines = gateway.logged('"request refused"', count=2)
    assert [(line["status"], line["reason"], line["level"]) for line in lines] == [(403, "origin", "info"), (401, "token", "info")]
    assert all(line["server"] == "stdio" and line["peer"].startswith("127.0.0.1:") for line in lines)
