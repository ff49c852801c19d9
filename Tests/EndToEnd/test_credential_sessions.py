# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Credential pools at an upstream with sessions: each slot has its own, and one of them is home (credentials §4.5)."""

import asyncio
import json

import pytest
from harness.callers import Caller, SSECaller, call_of, messages_of, text_of, works
from harness.errors import gateway_reply
from harness.processes import until
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
URI = "memo://first"
MARK = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "mark"}}
LIST_CHANGED = "notifications/tools/list_changed"


@pytest.fixture
def pool(pool_of):
    """Starts a gateway before `/sessions`; that no token comes with another's session id is asserted for every test."""

    def start(names, mode, **auth):
        return pool_of(names, mode, **{"path": "/sessions", **auth})

    return start


def steps(tokens, after=0):
    """What arrived, as `A tools/call` and the like."""
    return [f"{entry['token']} {entry.get('rpc') or entry['method']}" for entry in tokens.journal()[after:]]


def sessions(tokens):
    """The session id that each token has, by the journal."""
    return {entry["token"]: entry["issued"] for entry in tokens.journal() if "issued" in entry}


def failures(gateway):
    return [slot["failures"] for slot in gateway.credentials()["slots"]]


async def echo(caller, text="hello"):
    """The text of an echo, or the reason why there is none."""
    reply = await caller.ask("echo", {"text": text})
    return text_of(reply) if "result" in reply else reply["error"]["data"]["reason"]


async def request(caller, method, params=None, id=900):
    reply = (await caller.post(message(method, params, id=id))).reply(id)
    assert "result" in reply, reply
    return reply["result"]


OPENED = ["initialize", "notifications/initialized", "tools/call"]


# Rotation inside a session.


async def test_next_token_opens_its_own_session(pool, tokens):
    """S01: a call that is refused goes out again with the next token, in a session that this token opened."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401})
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == ["A tools/call", "A ping", *(f"B {step}" for step in OPENED)], "its session is there"
    first, _, _, _, last = tokens.journal()[before:]
    ids = sessions(tokens)
    assert (first["session"], last["session"]) == (ids["A"], ids["B"])
    assert (first["digest"], first["id"]) == (last["digest"], last["id"]), "the same message"
    assert failures(gateway) == [1, 0]
    opened = [entry for entry in tokens.journal("initialize")]
    assert opened[0]["digest"] == opened[1]["digest"], "the session is opened with the caller's own initialize"
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == ["B tools/call"], "it stays open"


async def test_third_token(pool, tokens):
    """S04: when that one is refused later the third opens its own."""
    gateway = pool("A B C", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401})
    assert await echo(caller) == "hello"
    tokens.script(B={"tools/call": 401})
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == ["B tools/call", "B ping", *(f"C {step}" for step in OPENED)]
    assert len(set(sessions(tokens).values())) == 3


async def test_refused_initialize_is_an_attempt(pool, tokens):
    """S05: a token that may not even open a session counts as refused, and the next one is tried."""
    gateway = pool("A B C", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401}, B={"initialize": 403})
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == ["A tools/call", "A ping", "B initialize", *(f"C {step}" for step in OPENED)]
    assert failures(gateway) == [1, 1, 0]


async def test_refused_initialize_is_listed(pool, tokens):
    """Its status stands in the error when nobody is left."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401}, B={"initialize": 403})
    data = gateway_reply(await caller.ask("echo"), "pool", {"credentials_exhausted"}, {"no"})
    assert data["statuses"] == [401, 403]
    tokens.script(A=200, B=200)
    await works(caller)


async def test_without_sessions(pool, tokens):
    """S06: an upstream that issued no session id gets the message with the next token, and nothing else."""
    gateway = pool("A B", FAILOVER, path="/plain")
    caller = await Caller.open(gateway, "pool")
    assert caller.session == ""
    tokens.script(A=401)
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == ["A tools/call", "B tools/call"]


async def test_one_initialize_for_many(pool, tokens):
    """S07: fifty calls of one caller that rotate at once open one session."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": {"status": 401, "gate": True}})
    calls = [asyncio.create_task(echo(caller, f"text {n}")) for n in range(50)]
    await until("all are with A", lambda: tokens.count("tools/call") == 50)
    tokens.open_gate()
    assert await asyncio.gather(*calls) == [f"text {n}" for n in range(50)]
    assert tokens.sends("initialize") == "A B"
    assert tokens.sends("tools/call").split() == ["A"] * 50 + ["B"] * 50
    assert gateway.metric("credential_rotations_total", server="pool") == 1
    assert failures(gateway) == [50, 0]


async def test_many_share_a_refused_initialize(pool, tokens):
    """Fifty that wait for the same session share its refusal: it is one attempt of each, and counts once."""
    gateway = pool("A B C", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": {"status": 401, "gate": True}}, B={"initialize": {"status": 401, "ms": 300}})
    calls = [asyncio.create_task(echo(caller)) for _ in range(50)]
    await until("all are with A", lambda: tokens.count("tools/call") == 50)
    tokens.open_gate()
    assert await asyncio.gather(*calls) == ["hello"] * 50
    opened = tokens.sends("initialize").split()
    assert opened[0] == "A" and opened.count("C") == 1
    assert failures(gateway)[1] == opened.count("B") <= 2, "one more may come late to the first"


async def test_turns_without_sessions(pool, tokens):
    """S08: callers of the stateless era take turns, and there is nothing of sessions."""
    gateway = pool("A B", ROUND, path="/plain")
    for n in range(4):
        call = message("tools/call", {"name": "echo", "arguments": {"text": "x"}}, id=n, era="stateless")
        assert "result" in (await post(gateway.url("pool"), call, era="stateless", token=gateway.token)).reply(n)
    assert steps(tokens) == ["A tools/call", "B tools/call", "A tools/call", "B tools/call"]


async def test_affinity(pool, tokens):
    """S11: with affinity all requests of a caller's session stay at its home, in one upstream session."""
    gateway = pool("A B", ROUND, affinity="session")
    first, second = [await Caller.open(gateway, "pool") for _ in range(2)]
    for caller in (first, second):
        for _ in range(4):
            assert await echo(caller) == "hello"
    assert tokens.sends("initialize") == "A B", "sessions are spread"
    assert tokens.sends("tools/call") == "A A A A B B B B"
    assert len({entry["session"] for entry in tokens.journal("tools/call")}) == 2


async def test_cancelled_after_a_rotation(pool, tokens):
    """The end of a call that went out again goes to where it is now."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401})
    async with await caller.send(call_of("sleep", {"ms": 1500}, id=77)):
        await until("it sleeps at B", lambda: tokens.sends("tools/call") == "A B")
        assert (await caller.post(message("notifications/cancelled", {"requestId": 77}, id=None))).status == 202
        await until("it is cancelled", lambda: tokens.journal("notifications/cancelled"))
    (cancelled,) = tokens.journal("notifications/cancelled")
    assert (cancelled["token"], cancelled["session"]) == ("B", sessions(tokens)["B"])


async def test_forgotten_session_is_opened_in_its_slot(pool, tokens):
    """An upstream that forgot its sessions is not taken for one that refuses the token: the slot opens its own again."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401})
    assert await echo(caller) == "hello"
    tokens.forget_sessions()
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == ["B tools/call", *(f"B {step}" for step in OPENED)]
    assert failures(gateway) == [1, 0]


async def test_initialize_fails(pool, tokens):
    """S15: a session that cannot be opened for another reason is that outcome, says nothing of the token and stays there."""
    gateway = pool("A B C", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401}, B={"initialize": [500, 200]})
    data = gateway_reply(await caller.ask("echo"), "pool", {"upstream_status"}, {"no"})
    assert data["status"] == 500
    assert failures(gateway) == [1, 0, 0]
    before = len(tokens.journal())
    assert await echo(caller) == "hello"
    assert steps(tokens, before) == [f"B {step}" for step in OPENED]


async def test_leaving_while_a_session_is_opened(pool, tokens):
    """A session is not lost because the caller's call for which it is opened was given up."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401}, B={"initialize": {"status": 200, "gate": True}})
    async with await caller.send(call_of("echo", id=50)):
        await until("it is being opened", lambda: tokens.sends("initialize") == "A B")
    later = asyncio.create_task(echo(caller))
    tokens.open_gate()
    assert await later == "hello"
    assert tokens.sends("initialize") == "A B"
    assert failures(gateway)[1] == 0


async def test_ended_while_a_session_is_opened(pool, tokens):
    """A session that is open when its caller has ended is ended as well."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401}, B={"initialize": {"status": 200, "gate": True}})
    calling = asyncio.create_task(caller.call("echo", id=50))
    await until("it is being opened", lambda: tokens.sends("initialize") == "A B")
    assert await caller.delete() == 204
    assert (await calling).status in (200, 404)
    tokens.open_gate()
    await until("it is ended", lambda: sorted(tokens.sends("DELETE").split()) == ["A", "B"])
    assert not tokens.state()["sessions"]


async def test_affinity_moves_home(pool, tokens):
    """S11 and S14: with affinity everything goes to the new home, and stays there when the old one is good again."""
    gateway = pool("A B C", ROUND, affinity="session")
    caller = await Caller.open(gateway, "pool")
    assert await echo(caller) == "hello"
    tokens.script(A=401)
    assert [await echo(caller) for _ in range(3)] == ["credential_rejected", "hello", "hello"]
    tokens.script(A=200)
    assert await echo(caller) == "hello"
    assert tokens.sends("tools/call") == "A A B B B"


@pytest.mark.parametrize("mode, sends", [(FAILOVER, "A B"), (ROUND, "A B")])
async def test_refused_when_it_begins(pool, tokens, mode, sends):
    """The token that is accepted to `initialize` is the first home; in turns that is the next caller's business."""
    gateway = pool("A B", mode)
    tokens.script(A=401)
    if mode == ROUND:
        with pytest.raises(AssertionError, match="credential_rejected"):
            await Caller.open(gateway, "pool")
    caller = await Caller.open(gateway, "pool")
    assert tokens.sends("initialize") == sends
    assert tokens.sends("notifications/initialized") == "B"
    await request(caller, "ping")
    assert tokens.sends("ping") == "B"


# The home slot.


async def at_home(pool, tokens, names="A B"):
    """A caller whose home is A, with everything that has a home: a stream, a subscription and a level."""
    gateway = pool(names, ROUND)
    caller = await Caller.open(gateway, "pool")
    wire, answer = await caller.stream()
    assert answer.status == 200
    await request(caller, "resources/subscribe", {"uri": URI})
    await request(caller, "logging/setLevel", {"level": "warning"})
    await request(caller, "ping")
    await until("the stream is open", lambda: tokens.home() == "A")
    return gateway, caller, messages_of(wire, answer), wire


async def test_home(pool, tokens):
    """S13: what belongs to the session goes home, calls take turns, each in its slot's session, and so do their ends."""
    gateway, caller, _, wire = await at_home(pool, tokens)
    async with wire:
        assert await echo(caller) == "hello"
        async with await caller.send(call_of("sleep", {"ms": 1500}, id=77)) as sleeping:
            await until("it sleeps", lambda: tokens.count("tools/call") == 2)
            assert (await caller.post(message("notifications/cancelled", {"requestId": 77}, id=None))).status == 202
            assert [await echo(caller), await echo(caller)] == ["hello", "hello"]
            sleeping.abort()
        assert tokens.sends("tools/call") == "A B A B"
        ids = sessions(tokens)
        assert set(ids) == {"A", "B"} and tokens.sends("initialize") == "A B"
        for entry in tokens.journal("tools/call", "notifications/cancelled"):
            assert entry["session"] == ids[entry["token"]], entry
        homely = tokens.journal("resources/subscribe", "logging/setLevel", "ping")
        assert len(homely) == 3 and {(entry["token"], entry["session"]) for entry in homely} == {("A", ids["A"])}
        assert {(entry["token"], entry["session"]) for entry in tokens.journal("GET")} == set(ids.items()), "one each"
        await until("it is cancelled", lambda: tokens.journal("notifications/cancelled"))
        cancelled = tokens.journal("notifications/cancelled")[0]
        assert json.loads(cancelled["body"])["params"]["requestId"] == 77
        assert cancelled["token"] == "B", "where the call is"


async def test_home_moves(pool, tokens):
    """S14: when home is refused the next token that is accepted becomes it: what had a home is there, and goes on."""
    gateway, caller, messages, wire = await at_home(pool, tokens)
    async with wire:
        assert [await echo(caller), await echo(caller)] == ["hello", "hello"]
        tokens.script(A=401)
        before = len(tokens.journal())
        assert [await echo(caller), await echo(caller)] == ["credential_rejected", "hello"]
        await until("the stream is open at B, and only there", lambda: tokens.home() == "B")
        ids = sessions(tokens)

        def replayed():
            entries = tokens.journal()[before:]
            return {(e["rpc"], e["session"]): json.loads(e["body"]) for e in entries if e["token"] == "B" and e["body"]}

        await until("the level is said", lambda: ("logging/setLevel", ids["B"]) in replayed())
        await until("what it subscribed to is said", lambda: ("resources/subscribe", ids["B"]) in replayed())
        assert replayed()["resources/subscribe", ids["B"]]["params"]["uri"] == URI
        assert replayed()["logging/setLevel", ids["B"]]["params"]["level"] == "warning"
        stream = tokens.journal("GET")[-1]
        assert (stream["token"], stream["session"], stream["last"]) == ("B", ids["B"], None)
        tokens.broadcast(MARK)
        assert await anext(messages) == MARK, "on the stream that the caller opened at first"
        await request(caller, "ping")
        assert tokens.sends("ping") == "A A B", "the second one is the gateway's, which asks whether the session is lost"
        tokens.script(A=200)
        assert await caller.delete() == 204
        await until("both sessions are over", lambda: not tokens.state()["sessions"])
        assert sorted(tokens.sends("DELETE").split()) == ["A", "B"]
        assert {entry["session"] for entry in tokens.journal("DELETE")} == set(ids.values())


async def test_what_belongs_home_moves_it(pool, tokens):
    """A message that belongs home finds the new home itself, once the old one refused it."""
    gateway, caller, _, wire = await at_home(pool, tokens)
    async with wire:
        tokens.script(A=401)
        refused = (await caller.post(message("ping", id=901))).reply(901)
        gateway_reply(refused, "pool", {"credential_rejected"}, {"no"})
        await request(caller, "ping")
        await until("the stream is open at B, and only there", lambda: tokens.home() == "B")


async def test_many_calls_move_home_once(pool, tokens):
    """Many calls that meet the refusal of home at once move it once: nothing is said twice to the new home."""
    gateway = pool("A B C", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    wire, _ = await caller.stream()
    async with wire:
        await request(caller, "resources/subscribe", {"uri": URI})
        await until("the stream is open", lambda: tokens.home() == "A")
        tokens.script(A={"tools/call": {"status": 401, "gate": True}, "*": 200})
        calls = [asyncio.create_task(echo(caller)) for _ in range(50)]
        await until("all are with A", lambda: tokens.count("tools/call") == 50)
        tokens.open_gate()
        assert await asyncio.gather(*calls) == ["hello"] * 50
        await until("the stream is open at B, and only there", lambda: tokens.home() == "B")
        await until("it is subscribed", lambda: "B" in tokens.sends("resources/subscribe"))
        await request(caller, "ping")
        assert tokens.sends("resources/subscribe") == "A B"
        assert tokens.sends("GET") == "A B"
        assert len(gateway.logged("session moved")) == 1


async def test_home_moves_twice(pool, tokens):
    """And on to the next, with all that it has, and back to the first."""
    gateway = pool("A B C", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    wire, answer = await caller.stream()
    messages = messages_of(wire, answer)
    async with wire:
        await request(caller, "resources/subscribe", {"uri": URI})
        await request(caller, "logging/setLevel", {"level": "error"})
        await until("the stream is open", lambda: tokens.home() == "A")
        for old, new in ("AB", "BC", "CA"):
            tokens.script(**{"A": 200, old: 401})
            assert await echo(caller) == "hello"
            await until(f"the stream is open at {new}, and only there", lambda: tokens.home() == new)
            tokens.broadcast(MARK)
            assert await anext(messages) == MARK
        await until("A is told again", lambda: tokens.sends("resources/subscribe") == "A B C A")
        assert tokens.sends("initialize") == "A A B B C C", "each is refused a new one, and A has its session still"
        assert sorted(tokens.sends("logging/setLevel").split()) == ["A", "A", "B", "C"]


async def test_many_subscriptions_are_replayed_a_few_at_a_time(pool, tokens):
    """The new home hears of all that the caller subscribed to, and not of all at once."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    uris = [f"memo://{n}" for n in range(30)]
    for uri in uris:
        await request(caller, "resources/subscribe", {"uri": uri})
    tokens.script(A=401, B={"resources/subscribe": {"ms": 100}, "*": 200})
    assert await echo(caller) == "hello"

    def replayed():
        return [entry for entry in tokens.journal("resources/subscribe") if entry["token"] == "B"]

    await until("all are said again", lambda: len(replayed()) == len(uris))
    assert {json.loads(entry["body"])["params"]["uri"] for entry in replayed()} == set(uris)
    times = [entry["t"] for entry in replayed()]
    assert all(times[n + 8] - times[n] > 0.09 for n in range(len(times) - 8)), "eight at a time"


async def test_unsubscribed_is_not_replayed(pool, tokens):
    """The new home hears of what the caller wants now, not of what it once wanted."""
    gateway, caller, _, wire = await at_home(pool, tokens)
    async with wire:
        await request(caller, "resources/subscribe", {"uri": "memo://second"})
        await request(caller, "resources/unsubscribe", {"uri": URI})
        await request(caller, "logging/setLevel", {"level": "error"})
        tokens.script(A=401)
        assert [await echo(caller), await echo(caller)] == ["credential_rejected", "hello"]
        await until("the stream is open at B, and only there", lambda: tokens.home() == "B")
        wanted = [entry for entry in tokens.journal("resources/subscribe", "logging/setLevel") if entry["token"] == "B"]
        assert [json.loads(entry["body"])["params"] for entry in wanted] == [{"uri": "memo://second"}, {"level": "error"}]


@pytest.mark.parametrize("mode", [ROUND, FAILOVER])
async def test_a_stream_alone_moves_home(pool, tokens, mode):
    """A stream that breaks and is refused when it is opened again finds a new home, without any call."""
    gateway = pool("A B", mode)
    caller = await Caller.open(gateway, "pool")
    wire, answer = await caller.stream()
    async with wire:
        await until("the stream is open", lambda: tokens.home() == "A")
        tokens.script(A=401)
        tokens.drop_streams()
        await until("it is open at B", lambda: tokens.home() == "B", 15)
        tokens.broadcast(MARK)
        assert await anext(messages_of(wire, answer)) == MARK


@pytest.mark.parametrize("names, is_told", [("A B-more", True), ("A B", False)], ids=["others", "same"])
async def test_tools_of_the_new_home(pool, tokens, names, is_told):
    """The caller is told that the list of tools changed when the new home has others, and only then."""
    gateway = pool(names, FAILOVER)
    caller = await Caller.open(gateway, "pool")
    await request(caller, "tools/list")
    wire, answer = await caller.stream()
    async with wire:
        tokens.script(A=401)
        assert await echo(caller) == "hello"
        new = names.split()[1]
        await until("the stream moved", lambda: tokens.home() == new)
        await until("the tools are compared", lambda: tokens.sends("tools/list") == f"A {new}")
        messages = messages_of(wire, answer)
        if is_told:
            assert (await anext(messages))["method"] == LIST_CHANGED
        assert await echo(caller) == "hello"
        tokens.broadcast(MARK)
        assert await anext(messages) == MARK, "nothing else before it"


# Questions of the upstream.


async def test_answers_find_the_slot_that_asked(pool, tokens):
    """Two slots ask the caller at once, under the same id: each gets the answer to its own question."""
    gateway = pool("A B", ROUND)
    caller = await Caller.open(gateway, "pool", capabilities={"roots": {}})
    wires, streams, questions = [], [], []
    for n in range(2):
        wires.append(await caller.send(call_of("ask", id=f"call {n}")))
        streams.append(messages_of(wires[n], await wires[n].head()))
        questions.append(await anext(streams[n]))
        assert questions[n]["method"] == "roots/list"
    assert questions[0]["id"] != questions[1]["id"], "the caller can tell them apart"
    for n in (1, 0):
        told = {"roots": [{"uri": f"file:///{n}"}]}
        answered = await caller.post({"jsonrpc": "2.0", "id": questions[n]["id"], "result": told})
        assert answered.status == 202, answered.body
        reply = await anext(streams[n])
        assert reply["id"] == f"call {n}" and json.loads(text_of(reply)) == told
    assert tokens.sends("tools/call") == "A B"
    ids = sessions(tokens)
    assert answers_at(tokens) == [("B", ids["B"], 0), ("A", ids["A"], 0)]
    for wire in wires:
        wire.abort()


def answers_at(tokens):
    """Token, session and id of each answer that arrived."""
    entries = [entry for entry in tokens.journal() if entry["method"] == "POST" and entry["rpc"] is None]
    return [(entry["token"], entry["session"], entry["id"]) for entry in entries]


async def test_home_asks_while_another_slot_does(pool, tokens):
    """A question on the home's stream and one of a call elsewhere, under the same id, do not get each other's answers."""
    gateway = pool("A B", ROUND)
    caller = await Caller.open(gateway, "pool", capabilities={"roots": {}})
    stream, answer = await caller.stream()
    async with stream:
        await until("the stream is open", lambda: tokens.home() == "A")
        assert await echo(caller) == "hello"
        tokens.broadcast({"jsonrpc": "2.0", "id": 0, "method": "roots/list"})
        asked_at_home = await anext(messages_of(stream, answer))
        async with await caller.send(call_of("ask", id=5)) as wire:
            messages = messages_of(wire, await wire.head())
            asked = await anext(messages)
            assert asked["id"] != asked_at_home["id"]
            for question in (asked, asked_at_home):
                told = {"roots": [{"uri": f"file:///{question['id']}"}]}
                assert (await caller.post({"jsonrpc": "2.0", "id": question["id"], "result": told})).status == 202
            assert json.loads(text_of(await anext(messages))) == {"roots": [{"uri": f"file:///{asked['id']}"}]}
    ids = sessions(tokens)
    assert answers_at(tokens) == [("B", ids["B"], 0), ("A", ids["A"], 0)]


async def test_answer_goes_where_the_turn_is_not(pool, tokens):
    """One question alone: its answer goes to the slot that asked, under the upstream's own id."""
    gateway = pool("A B C", ROUND)
    caller = await Caller.open(gateway, "pool", capabilities={"roots": {}})
    assert await echo(caller) == "hello"
    async with await caller.send(call_of("ask", id=5)) as wire:
        stream = messages_of(wire, await wire.head())
        question = await anext(stream)
        assert question["id"] == 0
        assert await echo(caller) == "hello"
        assert (await caller.post({"jsonrpc": "2.0", "id": 0, "result": {"roots": []}})).status == 202
        assert json.loads(text_of(await anext(stream))) == {"roots": []}
    assert tokens.sends("tools/call") == "A B C"


# One session a slot for all callers.


async def test_shared_sessions(pool, tokens):
    """With shared sessions each slot has one for all callers, opened by whoever needs it first."""
    gateway = pool("A B", FAILOVER, isolation="shared")
    callers = [await Caller.open(gateway, "pool") for _ in range(3)]
    assert [await echo(caller) for caller in callers] == ["hello"] * 3
    tokens.script(A={"tools/call": {"status": 401, "gate": True}})
    calls = [asyncio.create_task(echo(caller, f"{n}")) for n, caller in enumerate(callers * 10)]
    await until("all are with A", lambda: tokens.count("tools/call") == 33)
    tokens.open_gate()
    assert await asyncio.gather(*calls) == [f"{n}" for n in range(30)]
    assert tokens.sends("initialize") == "A B"
    assert failures(gateway) == [30, 0]


async def test_shared_turns(pool, tokens):
    """Callers of shared sessions take turns among the slots, and none ends the sessions of the others."""
    gateway = pool("A B", ROUND, isolation="shared")
    callers = [await Caller.open(gateway, "pool") for _ in range(2)]
    for caller in callers:
        assert [await echo(caller) for _ in range(2)] == ["hello"] * 2
    assert tokens.sends("tools/call") == "A B A B"
    assert len({entry["session"] for entry in tokens.journal("tools/call")}) == 2
    assert await callers[0].delete() == 204
    assert [await echo(callers[1]) for _ in range(2)] == ["hello"] * 2
    assert tokens.sends("initialize").split() == sorted(tokens.sends("initialize").split()) and not tokens.sends("DELETE")


async def test_shared_home_moves(pool, tokens):
    """What a caller subscribed to in a shared session is asked for in the next one when its token is refused."""
    gateway = pool("A B", FAILOVER, isolation="shared")
    caller = await Caller.open(gateway, "pool")
    wire, answer = await caller.stream()
    async with wire:
        await request(caller, "resources/subscribe", {"uri": URI})
        await until("the stream is open", lambda: tokens.home() == "A")
        tokens.script(A=401)
        assert await echo(caller) == "hello"
        await until("it is subscribed at B", lambda: tokens.sends("resources/subscribe").split()[-1] == "B")
        await until("a stream is open at B", lambda: "B" in tokens.home())
        tokens.broadcast({**MARK, "method": "notifications/resources/updated", "params": {"uri": URI}})
        assert (await anext(messages_of(wire, answer)))["params"] == {"uri": URI}


async def test_shared_answers_find_the_slot_that_asked(pool, tokens):
    """A question in a shared session gets the answer of the one caller that it can be meant for."""
    gateway = pool("A B", ROUND, isolation="shared")
    callers = [await Caller.open(gateway, "pool", capabilities={"roots": {}}) for _ in range(2)]
    wires, streams, questions = [], [], []
    for n in range(2):
        wires.append(await callers[n].send(call_of("ask", id=7)))
        streams.append(messages_of(wires[n], await wires[n].head()))
        questions.append(await anext(streams[n]))
    for n in (1, 0):
        told = {"roots": [{"uri": f"file:///{n}"}]}
        assert (await callers[n].post({"jsonrpc": "2.0", "id": questions[n]["id"], "result": told})).status == 202
        assert json.loads(text_of(await anext(streams[n]))) == told
    for wire in wires:
        wire.abort()


# Callers of the old transport, and ends.


async def test_caller_of_the_old_transport(pool, tokens):
    """A caller over HTTP+SSE rotates, moves home and hears what its home says like any other."""
    gateway = pool("A B", FAILOVER)
    async with await SSECaller.open(gateway, "pool") as caller:
        await until("its stream is open", lambda: tokens.home() == "A")
        await caller.request(message("resources/subscribe", {"uri": URI}, id="s"))
        tokens.script(A=401)
        assert text_of(await caller.call("echo", {"text": "x"}, id=1)) == "x"
        assert tokens.sends("tools/call") == "A B"
        await until("the stream is open at B, and only there", lambda: tokens.home() == "B")
        await until("it is subscribed there", lambda: tokens.sends("resources/subscribe") == "A B")
        tokens.broadcast(MARK)
        await caller.wait_for("the event", lambda: MARK in caller.messages)
        tokens.script(B={"tools/call": 401})
        error = await caller.request(call_of("echo", id=2))
        assert gateway_reply(error, "pool", {"credentials_exhausted"}, {"no"})["statuses"] == [401, 401]
        tokens.script(A=200, B=200)
        assert text_of(await caller.call("echo", {"text": "y"}, id=3)) == "y"
    await until("its sessions are over", lambda: not tokens.state()["sessions"], 30)


async def used_everywhere(pool, tokens, **more):
    """A gateway and a caller with a session at each of three slots."""
    gateway = pool("A B C", ROUND, **more)
    caller = await Caller.open(gateway, "pool")
    assert [await echo(caller) for _ in range(3)] == ["hello"] * 3
    assert sorted(tokens.state()["sessions"].values()) == ["A", "B", "C"]
    return gateway, caller


def ended(tokens):
    return not tokens.state()["sessions"] and sorted(tokens.sends("DELETE").split()) == ["A", "B", "C"]


async def test_delete_ends_every_slot(pool, tokens):
    """DELETE of a caller ends its session at every slot, each with the slot's own token."""
    gateway, caller = await used_everywhere(pool, tokens)
    assert await caller.delete() == 204
    await until("all are over", lambda: ended(tokens))
    assert (await caller.call("echo", id=1)).status == 404


async def test_delete_with_a_refused_token(pool, tokens):
    """A session that can no longer be ended, since its token is refused, does not keep the others."""
    gateway, caller = await used_everywhere(pool, tokens)
    tokens.script(A=401)
    assert await caller.delete() == 204
    await until("the others are over", lambda: list(tokens.state()["sessions"].values()) == ["A"])
    assert (await caller.call("echo", id=1)).status == 404


async def test_idle_sessions_end_everywhere(pool, tokens):
    """So does the end of a session that was idle for too long."""
    await used_everywhere(pool, tokens, limits={"sessionIdle": "1s"})
    await until("all are over", lambda: ended(tokens))


async def test_stop_ends_every_slot(pool, tokens):
    """So does the end of the gateway."""
    gateway, _ = await used_everywhere(pool, tokens)
    await asyncio.to_thread(gateway.stop)
    assert ended(tokens)


async def test_callers_have_sessions_of_their_own(pool, tokens):
    """No caller uses a session that another caller's call opened."""
    gateway = pool("A B", ROUND)
    callers = [await Caller.open(gateway, "pool") for _ in range(3)]
    for _ in range(2):
        for caller in callers:
            assert await echo(caller) == "hello"
    used = {}
    for entry in tokens.journal("tools/call"):
        used.setdefault(entry["session"], []).append(entry["token"])
    assert len(used) == len(set(sessions_of(tokens))) and all(len(set(names)) == 1 for names in used.values())


def sessions_of(tokens):
    return [entry["issued"] for entry in tokens.journal("initialize")]
