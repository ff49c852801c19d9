# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""One upstream session for each credential, which all callers share (`isolation: shared`)."""

import asyncio
import itertools
import json

import pytest
from harness.callers import Caller, SSECaller, call_of, messages_of, text_of
from harness.errors import gateway_error
from harness.processes import until
from harness.wire import message

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
NO = {"no"}
LIST_CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
URI = "test://watched"


@pytest.fixture
def shared_of(pool_of, tokens):
    """Starts a gateway with a pool whose sessions are shared; the journal is empty then."""

    def start(names, mode=None, **auth):
        gateway = pool_of(names, mode, path="/sessions", isolation="shared", **auth)
        tokens.clear()
        return gateway

    yield start
    tokens.no_token_strays()


def sessions_of(tokens, *rpc):
    """The upstream sessions in which these arrived."""
    return [entry["session"] for entry in tokens.journal(*rpc)]


def ids_are_unique(tokens):
    """No two requests in one upstream session have the same id."""
    requests = [entry for entry in tokens.journal() if entry["rpc"] and entry["session"] and entry["id"] is not None]
    sent = [(entry["session"], entry["id"]) for entry in requests]
    assert len(sent) == len(set(sent)), sorted(map(str, sent))


async def open_raw(gateway, id=0):
    """The whole answer to an `initialize`."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
    return await Caller(gateway.url("pool"), gateway.token, gateway.seen).post(message("initialize", params, id=id))


async def ok(caller, method, params, ids=itertools.count(900)):
    id = next(ids)
    answer = await caller.post(message(method, params, id=id))
    assert answer.reply(id).get("result") == {}, answer.body


class Ears:
    """What comes on a caller's stream."""

    def __init__(self, wire, answer):
        self.wire = wire
        self.came = []
        self._reader = asyncio.create_task(self._read(answer))

    @classmethod
    async def of(cls, caller):
        return cls(*await caller.stream())

    async def _read(self, answer):
        async for m in messages_of(self.wire, answer, 60):
            self.came.append(m)

    def count(self, method):
        return sum(m.get("method") == method for m in self.came)

    async def hear(self, method, times=1):
        async def heard():
            return self.count(method) >= times

        await until(f"{method} comes", heard)

    def close(self):
        self._reader.cancel()
        self.wire.abort()


async def test_opened_once_and_when_wanted(shared_of, tokens):
    """A slot's session is opened by the first message that needs it, once, whoever else needs it at that moment."""
    gateway = shared_of("A B C", ROUND)
    assert tokens.journal() == [], "lazy"
    first = await Caller.open(gateway, "pool")
    assert tokens.sends("initialize") == "A"
    callers = [first, *await asyncio.gather(*(Caller.open(gateway, "pool") for _ in range(8)))]
    tokens.script(C={"initialize": {"status": 200, "ms": 300}})
    answers = await asyncio.gather(*(caller.ask("echo", {"text": str(n)}) for n, caller in enumerate(callers * 3)))
    assert [text_of(answer) for answer in answers] == [str(n) for n in range(27)]
    assert sorted(tokens.sends("initialize").split()) == ["A", "B", "C"]
    assert sorted(tokens.sends("notifications/initialized").split()) == ["A", "B", "C"]
    assert [tokens.sends("tools/call").split().count(name) for name in "ABC"] == [9, 9, 9]
    assert len(set(sessions_of(tokens, "tools/call"))) == 3
    ids_are_unique(tokens)


async def test_slot_opened_under_concurrency(shared_of, tokens):
    """Many calls at once that need a slot's session wait for the one `initialize` of it."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    tokens.script(B={"initialize": {"ms": 300, "status": 200}})
    answers = await asyncio.gather(*(caller.call("echo", {"text": str(n)}, id=n) for n in range(20)))
    assert [text_of(answer.reply(n)) for n, answer in enumerate(answers)] == [str(n) for n in range(20)]
    assert tokens.sends("initialize") == "A B"


@pytest.mark.parametrize("status", [401, 403])
async def test_initialize_goes_on(shared_of, tokens, status):
    """A token that is refused the shared `initialize` is passed over; the caller is answered from the next one's."""
    gateway = shared_of("A B", FAILOVER)
    tokens.script(A=status)
    callers = await asyncio.gather(*(Caller.open(gateway, "pool") for _ in range(10)))
    assert all(caller.session and caller.initialized["serverInfo"]["name"] == "token" for caller in callers)
    assert tokens.sends("initialize") == "A B"
    assert [slot["failures"] for slot in gateway.pool("pool")["slots"]] == [1, 0], "one message was sent, and refused"
    assert text_of(await callers[0].ask("echo", {"text": "x"})) == "x"
    assert tokens.sends("tools/call") == "B"


async def test_initialize_refused_to_all(shared_of, tokens):
    """With every token refused the caller is told with what, and the next attempt starts anew."""
    gateway = shared_of("A B", FAILOVER)
    tokens.script(A={"initialize": [401, 200]}, B=403)
    data = gateway_error(await open_raw(gateway), 0, "handshake", "pool", {"credentials_exhausted"}, NO)
    assert data["statuses"] == [401, 403]
    assert "result" in (await open_raw(gateway)).reply(0)
    assert tokens.sends("initialize") == "A B A"


async def test_initialize_refused_in_turn(shared_of, tokens):
    """Round-robin with one attempt: the refusal is that caller's, and the next one's turn is the next token."""
    gateway = shared_of("A B", ROUND)
    tokens.script(A={"initialize": [401, 200]})
    data = gateway_error(await open_raw(gateway), 0, "handshake", "pool", {"credential_rejected"}, NO)
    assert data["status"] == 401
    assert "result" in (await open_raw(gateway)).reply(0)
    assert tokens.sends("initialize") == "A B"
    assert "result" in (await open_raw(gateway)).reply(0)
    assert tokens.sends("initialize") == "A B A"
    assert [slot["failures"] for slot in gateway.pool("pool")["slots"]] == [0, 0], "an accepted initialize is a success"


async def test_slot_refused_to_a_call(shared_of, tokens):
    """A slot whose `initialize` is refused when a call needs it costs the call that attempt."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    tokens.script(B={"initialize": 401})
    assert text_of(await caller.ask("echo", {"text": "1"})) == "1"
    answer = await caller.call("echo", {"text": "2"}, id="two")
    data = gateway_error(answer, "two", "handshake", "pool", {"credential_rejected"}, NO)
    assert data["status"] == 401
    assert text_of(await caller.ask("echo", {"text": "3"})) == "3"
    assert tokens.sends("tools/call") == "A A"


async def test_slot_that_cannot_be_opened(shared_of, tokens):
    """S15: any other failure of that `initialize` is the call's outcome, and says nothing of the token."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    tokens.script(B={"initialize": [500, 200]})
    assert "result" in await caller.ask("echo", {})
    gateway_error(await caller.call("echo", {}, id=5), 5, "handshake", "pool", {"upstream_status"}, NO)
    assert [slot["failures"] for slot in gateway.pool("pool")["slots"]] == [0, 0]
    assert "result" in await caller.ask("echo", {}) and "result" in await caller.ask("echo", {})
    assert tokens.sends("tools/call") == "A A B"


async def test_calls_take_turns(shared_of, tokens):
    """Calls of several callers, with the same ids, go to each slot in turn; each has its own answer."""
    gateway = shared_of("A B", ROUND)
    callers = [await Caller.open(gateway, "pool") for _ in range(2)]
    for n in range(4):
        answer = await callers[n % 2].call("echo", {"text": f"call {n}"}, id=n // 2)
        assert text_of(answer.reply(n // 2)) == f"call {n}"
    assert tokens.sends("tools/call") == "A B A B"
    assert len(set(sessions_of(tokens, "tools/call"))) == 2
    answers = await asyncio.gather(
        *(caller.call("echo", {"text": f"{n} {id}"}, id=id) for n, caller in enumerate(callers) for id in range(20))
    )
    for (n, id), answer in zip(itertools.product(range(2), range(20)), answers):
        assert text_of(answer.reply(id)) == f"{n} {id}"
    ids_are_unique(tokens)


async def test_id_is_free_once_answered(shared_of, tokens):
    """A caller that has its answer may use the id again at once."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    for n in range(500):
        assert text_of((await caller.call("echo", {"text": str(n)}, id=1)).reply(1)) == str(n), n


@pytest.mark.parametrize("id", [7, "mine", 2**53 - 1])
async def test_another_slot_another_id(shared_of, tokens, id):
    """A call that is sent again with the next token has ids of that slot's session; its caller sees its own."""
    gateway = shared_of("A B", FAILOVER)
    callers = [await Caller.open(gateway, "pool") for _ in range(2)]
    for caller in callers:
        assert "result" in await caller.ask("echo", {})
    tokens.script(A={"tools/call": 401})
    answer = await callers[0].call("progress", {"count": 3}, id=id, token="my token")
    assert text_of(answer.reply(id)) == "done"
    steps = [m["params"]["progressToken"] for m in answer.messages() if m.get("method") == "notifications/progress"]
    assert steps == ["my token"] * 3
    assert tokens.sends("tools/call") == "A A A B" and tokens.sends("initialize") == "A B"
    sent = tokens.journal("tools/call")[-1]
    assert json.loads(sent["body"])["params"]["_meta"]["progressToken"] == sent["id"] != id
    ids_are_unique(tokens)


async def test_subscriptions_at_home(shared_of, tokens):
    """What belongs to a caller's session goes to the slot that answered its `initialize`, whatever its calls do."""
    gateway = shared_of("A B", ROUND)
    one, other = [await Caller.open(gateway, "pool") for _ in range(2)]
    for caller in (one, other):
        for _ in range(3):
            assert "result" in await caller.ask("echo", {})
    await ok(one, "resources/subscribe", {"uri": URI})
    await ok(other, "resources/subscribe", {"uri": URI})
    await ok(other, "logging/setLevel", {"level": "error"})
    await ok(one, "resources/unsubscribe", {"uri": URI})
    assert tokens.sends("resources/subscribe", "resources/unsubscribe", "logging/setLevel") == "A B B A"
    assert tokens.sends("tools/call") == "A B A B A B"


async def test_update_comes_once(shared_of, tokens):
    """Of what is announced in every slot's session a caller hears what it asked for, from its home, once."""
    gateway = shared_of("A B", ROUND)
    one, other = [await Caller.open(gateway, "pool") for _ in range(2)]
    for _ in range(4):
        assert "result" in await one.ask("echo", {})
    await ok(one, "resources/subscribe", {"uri": URI})
    ears, others = await Ears.of(one), await Ears.of(other)
    await until("both sessions are heard", lambda: len(tokens.state()["streams"]) == 2)
    tokens.broadcast({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": URI}})
    tokens.broadcast()
    await ears.hear(UPDATED)
    await ears.hear(LIST_CHANGED)
    await others.hear(LIST_CHANGED)
    for _ in range(4):
        assert "result" in await one.ask("echo", {})
    assert ears.count(UPDATED) == 1 and others.count(UPDATED) == 0
    ears.close()
    others.close()


async def test_list_changed_comes_from_home(shared_of, tokens):
    """A caller whose calls went to two slots hears of a change once, from the one where it is at home."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    for _ in range(2):
        assert "result" in await caller.ask("echo", {})
    ears = await Ears.of(caller)
    await until("both sessions are heard", lambda: len(tokens.state()["streams"]) == 2)
    tokens.broadcast()
    await ears.hear(LIST_CHANGED)
    for _ in range(4):
        assert "result" in await caller.ask("echo", {})
    assert ears.count(LIST_CHANGED) == 1
    ears.close()


async def test_refused_home_moves(shared_of, tokens):
    """A caller whose home is refused is at home where it is accepted next: subscriptions and level go there, once."""
    gateway = shared_of("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    await ok(caller, "resources/subscribe", {"uri": URI})
    await ok(caller, "logging/setLevel", {"level": "warning"})
    ears = await Ears.of(caller)
    tokens.script(A={"tools/call": 401})
    assert text_of(await caller.ask("echo", {"text": "moved"})) == "moved"
    await until("they are told", lambda: tokens.sends("resources/subscribe", "logging/setLevel") == "A A B B")
    await until("both sessions are heard", lambda: len(tokens.state()["streams"]) == 2)
    tokens.broadcast({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": URI}})
    await ears.hear(UPDATED)
    ears.close()


async def test_old_home_is_left(shared_of, tokens):
    """What is announced in the session of a home that it left does not reach a caller, subscribed anew or no longer."""
    gateway = shared_of("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    await ok(caller, "resources/subscribe", {"uri": URI})
    ears = await Ears.of(caller)
    tokens.script(A={"tools/call": 401})
    assert "result" in await caller.ask("echo", {})
    await until("it is told", lambda: tokens.sends("resources/subscribe") == "A B")
    await until("both sessions are heard", lambda: len(tokens.state()["streams"]) == 2)
    tokens.broadcast({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": URI}})
    await ears.hear(UPDATED)
    await ok(caller, "resources/unsubscribe", {"uri": URI})
    assert tokens.journal("resources/unsubscribe")[-1]["token"] == "B"
    tokens.broadcast({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": URI}})
    tokens.broadcast()
    await ears.hear(LIST_CHANGED)
    for _ in range(4):
        assert "result" in await caller.ask("echo", {})
    assert ears.count(UPDATED) == 1
    ears.close()


async def answered(caller, id, uri):
    """Calls `ask`, answers its question with this root, and gives what the upstream was told."""
    wire = await caller.send(call_of("ask", id=id))
    async with wire:
        answer = await wire.head()
        async for m in messages_of(wire, answer):
            if m.get("method") == "roots/list":
                reply = {"jsonrpc": "2.0", "id": m["id"], "result": {"roots": [{"uri": uri}]}}
                assert (await caller.post(reply)).status == 202
        return json.loads(text_of(answer.reply(id)))["roots"][0]["uri"]


async def test_question_is_answered_where_it_was_asked(shared_of, tokens):
    """Two slots ask at the same time under the same id, two callers and then one: each has the answer to its own."""
    gateway = shared_of("A B", ROUND)
    callers = [await Caller.open(gateway, "pool", capabilities={"roots": {}}) for _ in range(2)]
    uris = [f"file:///{n}" for n in range(2)]
    asked = (answered(caller, 1, uri) for caller, uri in zip(callers, uris))
    assert await asyncio.gather(*asked) == uris
    asked = (answered(callers[0], id, uri) for id, uri in zip((2, 3), uris))
    assert await asyncio.gather(*asked) == uris
    assert sorted(tokens.sends("tools/call").split()) == ["A", "A", "B", "B"]
    answers = [entry for entry in tokens.journal() if entry["rpc"] is None and entry["method"] == "POST"]
    assert sorted(entry["token"] for entry in answers) == ["A", "A", "B", "B"]
    assert all(entry["id"] == 0 for entry in answers), "under the id that the upstream gave it"


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_equal_questions_on_one_stream(pool_of, tokens, isolation):
    """To a caller of the old transport two slots' questions come on one stream: under two ids, answered one to each."""
    gateway = pool_of("A B", ROUND, path="/sessions", isolation=isolation)
    async with await SSECaller.open(gateway, "pool", capabilities={"roots": {}}, version="2025-11-25") as caller:
        tokens.clear()
        for id in (1, 2):
            assert (await caller.post(call_of("ask", id=id))).status == 202

        def questions():
            return [m["id"] for m in caller.messages if m.get("method") == "roots/list"]

        await caller.wait_for("two questions", lambda: len(questions()) == 2)
        assert len({json.dumps(id) for id in questions()}) == 2, questions()
        for n, id in enumerate(questions()):
            reply = {"jsonrpc": "2.0", "id": id, "result": {"roots": [{"uri": f"file:///{n}"}]}}
            assert (await caller.post(reply)).status == 202
        replies = [await caller.wait_for("its answer", lambda: caller.reply(id)) for id in (1, 2)]
        assert sorted(json.loads(text_of(reply))["roots"][0]["uri"] for reply in replies) == ["file:///0", "file:///1"]
    answers = [entry for entry in tokens.journal() if entry["rpc"] is None and entry["method"] == "POST"]
    assert [entry["id"] for entry in answers] == [0, 0] and {entry["token"] for entry in answers} == {"A", "B"}
    tokens.no_token_strays()


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_ends_of_equal_questions(pool_of, tokens, isolation):
    """Two slots take back what they asked under one id: the caller hears of each under the id by which it was asked."""
    gateway = pool_of("A B", ROUND, path="/sessions", isolation=isolation)
    async with await SSECaller.open(gateway, "pool", capabilities={"roots": {}}, version="2025-11-25") as caller:
        for id in (1, 2):
            assert (await caller.post(call_of("ask", {"gated": True}, id=id))).status == 202

        def said(method):
            return [m for m in caller.messages if m.get("method") == method]

        await caller.wait_for("two questions", lambda: len(said("roots/list")) == 2)
        await until("both slots are listened to", lambda: sorted(tokens.home().split()) == ["A", "B"])
        tokens.broadcast({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 0}})
        await caller.wait_for("both ends", lambda: len(said("notifications/cancelled")) == 2)
        asked = {json.dumps(m["id"]) for m in said("roots/list")}
        assert {json.dumps(m["params"]["requestId"]) for m in said("notifications/cancelled")} == asked
        tokens.open_gate()
        for id in (1, 2):
            await caller.wait_for("its answer", lambda: caller.reply(id))


@pytest.mark.parametrize("slot", ["A", "B"])
async def test_lost_session(shared_of, tokens, slot):
    """A session that the upstream has forgotten is opened again with its own token, once, and the call is sent again."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    for _ in range(2):
        assert "result" in await caller.ask("echo", {})
    tokens.script(**{slot: {"tools/call": [404, 200]}})
    for n in range(4):
        assert text_of(await caller.ask("echo", {"text": str(n)})) == str(n)
    assert sorted(tokens.sends("initialize").split()) == sorted(["A", "B", slot])
    assert sorted(tokens.sends("tools/call").split()) == sorted(["A", "B"] * 3 + [slot])
    assert [state["failures"] for state in gateway.pool("pool")["slots"]] == [0, 0]


async def test_herd(shared_of, tokens):
    """Many calls of many callers meet one revoked token: all are answered, under their own ids, and the pool moves once."""
    gateway = shared_of("A B C", FAILOVER)
    callers = [await Caller.open(gateway, "pool") for _ in range(5)]
    assert "result" in await callers[0].ask("echo", {})
    tokens.script(A={"tools/call": {"status": 401, "ms": 100}})
    wanted = [(caller, n, id) for n, caller in enumerate(callers) for id in range(10)]
    answers = await asyncio.gather(*(caller.call("echo", {"text": f"{n} {id}"}, id=id) for caller, n, id in wanted))
    for answer, (_, n, id) in zip(answers, wanted):
        assert text_of(answer.reply(id)) == f"{n} {id}"
    state = gateway.pool("pool")
    assert (state["current"], state["rotations"]) == (1, 1)
    assert state["slots"][0]["rejections"] == 1
    assert tokens.sends("initialize") == "A B"
    ids_are_unique(tokens)


async def test_cancelled_where_it_runs(shared_of, tokens):
    """A cancellation goes to the slot that has the call, under the id that the call has there."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    assert "result" in await caller.ask("echo", {})
    slow = asyncio.create_task(caller.call("sleep", {"ms": 1500}, id="slow"))
    await until("it runs", lambda: tokens.sends("tools/call") == "A B")
    await caller.post(message("notifications/cancelled", {"requestId": "slow"}, id=None))
    await until("it is told", lambda: tokens.sends("notifications/cancelled") == "B")
    told, call = tokens.journal("notifications/cancelled")[0], tokens.journal("tools/call")[-1]
    assert json.loads(told["body"])["params"]["requestId"] == call["id"] and told["session"] == call["session"]
    slow.cancel()


@pytest.mark.parametrize("moves", [False, True])
async def test_leaving(shared_of, tokens, moves):
    """A caller that leaves is unsubscribed where it was at home; the sessions stay for the others."""
    gateway = shared_of("A B", FAILOVER)
    one, other = [await Caller.open(gateway, "pool") for _ in range(2)]
    await ok(one, "resources/subscribe", {"uri": URI})
    if moves:
        tokens.script(A={"tools/call": 401})
        assert "result" in await one.ask("echo", {})
        await until("it moved", lambda: tokens.sends("resources/subscribe") == "A B")
    assert await one.delete() == 204
    where = "B" if moves else "A"
    await until("it is told", lambda: where in tokens.sends("resources/unsubscribe").split())
    assert not tokens.journal("DELETE")
    assert "result" in await other.ask("echo", {})


async def test_others_stay_subscribed(shared_of, tokens):
    """The upstream is told when the last subscriber of a resource in that slot's session leaves, not before."""
    gateway = shared_of("A B", ROUND)
    callers = [await Caller.open(gateway, "pool") for _ in range(4)]
    for caller in callers:
        await ok(caller, "resources/subscribe", {"uri": URI})
    assert await callers[0].delete() == 204
    assert await callers[1].delete() == 204
    assert await callers[3].delete() == 204
    await until("B has none left", lambda: tokens.sends("resources/unsubscribe") == "B")
    assert await callers[2].delete() == 204
    await until("nor has A", lambda: tokens.sends("resources/unsubscribe") == "B A")


async def test_stop_ends_all_sessions(shared_of, tokens):
    """At the end the gateway ends every slot's session with its own token."""
    gateway = shared_of("A B", ROUND)
    caller = await Caller.open(gateway, "pool")
    for _ in range(2):
        assert "result" in await caller.ask("echo", {})
    gateway.stop()
    assert sorted(tokens.sends("DELETE").split()) == ["A", "B"]
    assert not tokens.state()["sessions"]
