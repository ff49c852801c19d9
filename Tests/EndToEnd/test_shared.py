# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""One upstream session or one program for everybody (`isolation: shared`): whose is whose stays whose."""

import asyncio
import json
import secrets

import pytest
from harness.callers import CAPABILITIES, Caller, SSECaller, call_of, messages_of, text_of
from harness.processes import until
from harness.wire import message

pytestmark = pytest.mark.gateway_only

CALLERS = 20
QUESTIONS = {
    "roots/list": ("roots", {}, {"roots": [{"uri": "file:///here"}]}),
    "sampling/createMessage": (
        "sampling",
        {"messages": [], "maxTokens": 1},
        {"role": "assistant", "model": "m", "content": {"type": "text", "text": "said"}},
    ),
    "elicitation/create": (
        "elicitation",
        {"message": "?", "requestedSchema": {"type": "object", "properties": {}}},
        {"action": "accept", "content": {}},
    ),
}
LIST_CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


@pytest.fixture
def gateway(gateway_of, child, servers):
    """One program and one upstream over HTTP, each shared by all callers."""
    entries = {
        "stdio": child.entry,
        "http": {**servers["1x"].entry, "options": {"isolation": "shared"}},
        "http-2x": {**servers["2x"].entry, "protocol": "handshake", "options": {"isolation": "shared"}},
    }
    started = gateway_of(entries, log_level="debug", options={"pingInterval": 0})
    started.wait_until_ready()
    return started


KINDS = ["stdio", "http", "http-2x"]


@pytest.mark.parametrize("kind", KINDS)
async def test_equal_ids_and_tokens(gateway, child, kind):
    """Twenty callers use the same ids and tokens at once, numbers and strings; each sees its own, as it was given."""

    async def one(n):
        id, token = (1, 1) if n % 2 else ("1", "1")
        label = f"caller-{n}-{secrets.token_hex(4)}"
        caller = await Caller.open(gateway, kind)
        answer = await caller.call("labelled", {"label": label, "steps": 5}, id=id, token=token)
        assert text_of(answer.reply(id)) == label
        steps = [m["params"] for m in answer.messages() if m.get("method") == "notifications/progress"]
        assert [step["message"] for step in steps] == [f"{label} {n}" for n in range(5)]
        assert all(step["progressToken"] == token and type(step["progressToken"]) is type(token) for step in steps)
        logged = [m["params"]["data"] for m in answer.messages() if m.get("method") == "notifications/message"]
        assert all(label in data for data in logged), "another's log"

    await asyncio.gather(*(one(n) for n in range(CALLERS)))
    if kind == "stdio":
        ids = [json.dumps(m["id"]) for m in child.messages("tools/call")]
        assert len(set(ids)) == CALLERS, "unique upstream"
        assert child.starts() == 1 and len(child.messages("initialize")) == 1


async def ask(caller, method, params, id=1, answered_by=None):
    """Calls `ask`, answers the question that comes and gives what the program was told; None where none came."""
    wire = await caller.send(call_of("ask", {"method": method, "params": params}, id=id))
    came = 0
    async with wire:
        answer = await wire.head()
        async for m in messages_of(wire, answer):
            if m.get("method") == method:
                came += 1
                await answered_by(m)
        return came, json.loads(text_of(answer.reply(id)))


@pytest.mark.parametrize("method", QUESTIONS)
async def test_question_to_the_only_caller_in_flight(gateway, method):
    """A request of the server goes to the one caller that has a call in flight, and only its answer counts."""
    capability, params, result = QUESTIONS[method]
    caller = await Caller.open(gateway, "stdio", capabilities={capability: {}})
    idle = await Caller.open(gateway, "stdio", capabilities=CAPABILITIES)
    wire, standing = await idle.stream()

    async def answer(question):
        false = {"jsonrpc": "2.0", "id": question["id"], "error": {"code": 1, "message": "not yours"}}
        assert (await idle.post(false)).status == 202
        assert (await caller.post({"jsonrpc": "2.0", "id": question["id"], "result": result})).status == 202

    assert await ask(caller, method, params, answered_by=answer) == (1, result)
    await announce(caller, LIST_CHANGED)
    async with wire:
        assert (await anext(messages_of(wire, standing)))["method"] == LIST_CHANGED, "the idle caller was not asked"


@pytest.mark.parametrize("method", QUESTIONS)
async def test_question_that_nobody_can_answer(gateway, method):
    """Of a caller that did not declare the capability, nothing is asked: the server is told -32601."""
    others = {key: value for key, value in CAPABILITIES.items() if key != QUESTIONS[method][0]}
    caller = await Caller.open(gateway, "stdio", capabilities=others)
    came, told = await ask(caller, method, QUESTIONS[method][1])
    assert came == 0 and told["code"] == -32601, told


async def test_question_that_could_be_anyones(gateway, child):
    """With calls of two callers in flight nobody is asked, and the server is told -32601."""
    one, other = [await Caller.open(gateway, "stdio", capabilities=CAPABILITIES) for _ in range(2)]
    holding = asyncio.create_task(other.call("slow", {"seconds": 1.5, "nonce": "holding"}, id=1))
    await until("it runs", lambda: child.executed("holding"))
    came, told = await ask(one, "roots/list", {})
    assert came == 0 and told["code"] == -32601, told
    answer = await holding
    assert "result" in answer.reply(1) and not [m for m in answer.messages() if m.get("method") == "roots/list"]


async def test_what_the_shared_session_declares(gateway, child):
    """The one `initialize` declares roots, sampling and elicitation; each caller is given the lower version of both."""
    for version in ("2024-11-05", "2025-06-18", "2025-11-25"):
        caller = await Caller.open(gateway, "stdio", version=version)
        assert caller.initialized["protocolVersion"] == version
        assert caller.initialized["serverInfo"]["name"] == "faultchild"
        assert "result" in await caller.ask("echo")
    initialize = child.messages("initialize")
    assert len(initialize) == 1
    assert {"roots", "sampling", "elicitation"} <= initialize[0]["params"]["capabilities"].keys()
    assert len(child.messages("notifications/initialized")) == 1


async def announce(caller, method, **params):
    assert "result" in await caller.ask("announce", {"method": method, "params": params})


async def test_list_changed_to_everybody(gateway):
    """`list_changed` comes once on each open stream, whatever its transport."""
    callers = [await Caller.open(gateway, "stdio") for _ in range(4)]
    streams = [await caller.stream() for caller in callers[:3]]
    async with await SSECaller.open(gateway, "stdio") as over_sse:
        for method in (LIST_CHANGED, "notifications/prompts/list_changed", "notifications/resources/list_changed"):
            await announce(callers[3], method)
            for wire, answer in streams:
                assert (await anext(messages_of(wire, answer)))["method"] == method
                answer.received.clear()
        await over_sse.wait_for("all three", lambda: len(over_sse.messages) >= 4)
        assert [m["method"] for m in over_sse.messages if "method" in m].count(LIST_CHANGED) == 1
    for wire, _ in streams:
        wire.abort()


async def test_updates_to_subscribers(gateway, child):
    """`resources/updated` comes to those who subscribed to that resource, until they no longer do."""
    one, other = await Caller.open(gateway, "stdio"), await Caller.open(gateway, "stdio")
    here, there = await one.stream(), await other.stream()

    async def subscribe(caller, uri, method="resources/subscribe", id=50):
        assert (await caller.post(message(method, {"uri": uri}, id=id))).reply(id)["result"] == {}

    async def came(stream):
        """What came before a fence that comes to everybody."""
        wire, answer = stream
        uris = []
        async for m in messages_of(wire, answer):
            if m["method"] == LIST_CHANGED:
                answer.received.clear()
                return uris
            assert m["method"] == UPDATED, m
            uris.append(m["params"]["uri"])

    async def change(*uris):
        for uri in uris:
            await announce(one, UPDATED, uri=uri)
        await announce(one, LIST_CHANGED)
        return await came(here), await came(there)

    await subscribe(one, "memo://a")
    await subscribe(other, "memo://a")
    await subscribe(other, "memo://b")
    assert await change("memo://a", "memo://b", "memo://c") == (["memo://a"], ["memo://a", "memo://b"])
    await subscribe(one, "memo://a", "resources/unsubscribe")
    assert await change("memo://a") == ([], ["memo://a"]), "the other still wants it"
    assert not child.messages("resources/unsubscribe")
    assert await other.delete() == 204
    await until("nobody wants it", lambda: len(child.messages("resources/unsubscribe")) == 2)
    here[0].abort()
    there[0].abort()


@pytest.mark.parametrize("kind", ["http", "http-2x"])
async def test_subscription_on_a_shared_http_session(gateway, kind):
    """The gateway keeps the one GET stream that brings what a subscriber waits for."""
    one, other = await Caller.open(gateway, kind), await Caller.open(gateway, kind)
    assert "result" in (await one.post(message("resources/subscribe", {"uri": "memo://first"}, id=1))).reply(1)
    wire, answer = await one.stream()
    async with wire:

        async def changed():
            while True:
                assert "result" in await other.ask("touch", {"uri": "memo://first"})
                await asyncio.sleep(0.1)  # the upstream's stream may not be open yet

        touching = asyncio.create_task(changed())
        update = await anext(messages_of(wire, answer, 10))
        touching.cancel()
        assert (update["method"], update["params"]["uri"]) == (UPDATED, "memo://first")


async def test_log_of_a_call(gateway):
    """Log messages go to the caller whose call they belong to, if its level admits them."""
    loud, quiet = await Caller.open(gateway, "stdio"), await Caller.open(gateway, "stdio")
    for caller, level in ((loud, "debug"), (quiet, "error")):
        assert (await caller.post(message("logging/setLevel", {"level": level}, id=9))).reply(9)["result"] == {}
    heard = []
    for caller in (loud, quiet):
        answer = await caller.call("labelled", {"label": "x", "steps": 3}, id=1, token=1)
        assert text_of(answer.reply(1)) == "x"
        heard.append([m["params"]["data"] for m in answer.messages() if m.get("method") == "notifications/message"])
    assert heard[1] == [], "below its level"
    assert set(heard[0]) <= {f"x {n}" for n in range(3)}


async def test_log_that_could_be_anyones(gateway, child):
    """With calls of two callers in flight, a log message that names none goes to the gateway's log, and to nobody."""
    one, other = await Caller.open(gateway, "stdio"), await Caller.open(gateway, "stdio")
    holding = asyncio.create_task(other.call("slow", {"seconds": 1, "nonce": "holding"}, id=1))
    await until("it runs", lambda: child.executed("holding"))
    secret = secrets.token_hex(8)
    await announce(one, "notifications/message", level="error", data=f"for one only {secret}")
    answer = await holding
    assert not [m for m in answer.messages() if m.get("method") == "notifications/message"]


async def test_unknown_notification(gateway):
    """Notifications that the protocol does not know are dropped: it could be anybody's."""
    caller, other = await Caller.open(gateway, "stdio"), await Caller.open(gateway, "stdio")
    wire, answer = await other.stream()
    async with wire:
        await announce(caller, "notifications/private", secret="x")
        await announce(caller, LIST_CHANGED)
        assert (await anext(messages_of(wire, answer)))["method"] == LIST_CHANGED


@pytest.mark.parametrize("kind", ["stdio", "http", "http-2x"])
async def test_cancellations(gateway, child, servers, kind):
    """A caller cancels its own call, by the upstream's id of it, and never another's of the same id."""
    one, other = await Caller.open(gateway, kind), await Caller.open(gateway, kind)
    nonce = secrets.token_hex(8)

    def runs():
        return child.executed(nonce) if kind == "stdio" else servers[{"http": "1x"}.get(kind, "2x")].journal(nonce)["tools"]

    call = await one.send(call_of("slow", {"seconds": 1.5, "nonce": nonce}, id=5))
    await until("it runs", runs)
    cancel = message("notifications/cancelled", {"requestId": 5, "reason": nonce}, id=None)
    assert (await other.post(cancel)).status == 202
    async with call:
        assert "result" in (await call.rest(await call.head())).reply(5), "another's cancellation"
    nonce = secrets.token_hex(8)
    async with await one.send(call_of("slow", {"seconds": 30, "nonce": nonce}, id=6)):
        await until("it runs", runs)
        assert (await one.post(message("notifications/cancelled", {"requestId": 6}, id=None))).status == 202
        if kind == "stdio":
            called = next(m["id"] for m in child.messages("tools/call") if nonce in json.dumps(m))
            await until("it is told", lambda: child.messages("notifications/cancelled"))
            assert [m["params"]["requestId"] for m in child.messages("notifications/cancelled")] == [called]
        else:
            await until("it is cancelled", lambda: "cancelled" in [t["phase"] for t in runs()])


@pytest.mark.leaves_work("the handshake caller that just goes has not cancelled its call of half a minute")
async def test_departures_of_others(gateway, child):
    """A caller that ends its session, or just goes, takes nothing of the others' with it."""
    stays = await Caller.open(gateway, "stdio")
    holding = asyncio.create_task(stays.call("slow", {"seconds": 1, "nonce": "stays"}, id=1))
    for way in ("delete", "abort"):
        goes = await Caller.open(gateway, "stdio")
        call = await goes.send(call_of("slow", {"seconds": 30, "nonce": way}, id=1))
        await until("it runs", lambda: child.executed(way))
        if way == "delete":
            assert await goes.delete() == 204
        call.abort()
    assert "result" in (await holding).reply(1)
    assert child.starts() == 1


async def test_ping_is_answered_here(gateway, child):
    """Over a shared session a ping asks the gateway, both ways."""
    caller = await Caller.open(gateway, "stdio")
    assert (await caller.post(message("ping", id="p"))).reply("p")["result"] == {}
    assert json.loads(text_of(await caller.ask("ask", {"method": "ping"}))) == {}
