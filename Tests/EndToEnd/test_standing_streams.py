# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The GET streams that the gateway has at an upstream: one for each slot's session, kept while their caller listens."""

import asyncio
import json

import pytest
from harness.callers import Caller, SSECaller, call_of, messages_of, text_of
from harness.processes import until

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
ROOTS = {"roots": {}}


@pytest.fixture
def pool(pool_of, tokens):
    """Starts a gateway before `/sessions`; no token may come with another's session id."""

    def start(names, mode=None, **auth):
        return pool_of(names, mode, **{"path": "/sessions", **auth})

    yield start
    tokens.no_token_strays()


class Listener:
    """A caller of streamable HTTP that listens, and answers what it is asked."""

    def __init__(self, caller, wire, answer):
        self.caller = caller
        self.wire = wire
        self.came = []
        self._reader = asyncio.create_task(self._read(answer))

    @classmethod
    async def open(cls, gateway):
        caller = await Caller.open(gateway, "pool", capabilities=ROOTS)
        wire, answer = await caller.stream()
        assert answer.status == 200, (answer.status, answer.body)
        return cls(caller, wire, answer)

    async def _read(self, answer):
        async for m in messages_of(self.wire, answer, 60):
            self.came.append(m)
            if m.get("method") == "roots/list":
                reply = {"jsonrpc": "2.0", "id": m["id"], "result": {"roots": [{"uri": f"file:///{len(self.came)}"}]}}
                assert (await self.caller.post(reply)).status == 202

    def count(self, method):
        return sum(m.get("method") == method for m in self.came)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._reader.cancel()
        self.wire.abort()


def failures(gateway):
    return [slot["failures"] for slot in gateway.pool("pool")["slots"]]


# Questions.


@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_questions_on_the_streams_of_all_slots(pool, tokens, isolation):
    """Whichever slot a call runs in, what its server asks on the GET stream reaches the caller, and the answer the server."""
    gateway = pool("A B C", ROUND, isolation=isolation)
    async with await Listener.open(gateway) as listener:
        replies = [await listener.caller.ask("ask", {"aside": True}, 5) for _ in range(6)]
        assert all(json.loads(text_of(reply))["roots"] for reply in replies)
        assert len({text_of(reply) for reply in replies}) == 6, "each has the answer to its own"
        assert listener.count("roots/list") == 6
        if isolation == "session":
            replies = await asyncio.gather(*(listener.caller.ask("ask", {"aside": True}, 5) for _ in range(3)))
            assert len({text_of(reply) for reply in replies}) == 3, "three slots ask at the same time, under the same id"
        assert sorted(tokens.home().split()) == ["A", "B", "C"], "one stream each"
        answers = [entry for entry in tokens.journal() if entry["rpc"] is None and entry["method"] == "POST"]
        assert {entry["token"] for entry in answers} == {"A", "B", "C"}
    assert tokens.sends("GET").split().count("A") == 1


async def test_what_all_slots_say_comes_once(pool, tokens):
    """What a server tells on all its streams comes from home alone; a caller that begins to listen late has all of them."""
    gateway = pool("A B C", ROUND)
    caller = await Caller.open(gateway, "pool", capabilities=ROOTS)
    for _ in range(3):
        assert "result" in await caller.ask("echo", {})
    assert tokens.home() == "", "nobody listens"
    wire, answer = await caller.stream()
    async with wire:
        await until("every slot has a stream", lambda: sorted(tokens.home().split()) == ["A", "B", "C"])
        tokens.broadcast(CHANGED)
        tokens.broadcast({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "end"}})
        messages = messages_of(wire, answer)
        came = [await anext(messages) for _ in range(4)]
        assert came.count(CHANGED) == 1, came
        assert (await caller.delete()) == 204
        await until("all end with the session", lambda: tokens.home() == "" and gateway.held()["ownConnections"] == 0)


async def test_questions_to_a_caller_of_the_old_transport(pool, tokens):
    """A caller over HTTP+SSE hears what is asked in any slot on the one stream that it has."""
    gateway = pool("A B", ROUND)
    async with await SSECaller.open(gateway, "pool", capabilities=ROOTS, version="2025-11-25") as caller:
        await until("its stream is open", lambda: tokens.home() == "A")
        for id in (1, 2, 3):
            assert (await caller.post(call_of("ask", {"aside": True}, id=id))).status == 202
            asked = await caller.wait_for(
                "a question", lambda: [m for m in caller.messages if m.get("method") == "roots/list"][id - 1 :]
            )
            reply = {"jsonrpc": "2.0", "id": asked[0]["id"], "result": {"roots": [{"uri": f"file:///{id}"}]}}
            assert (await caller.post(reply)).status == 202
            answer = await caller.wait_for("its answer", lambda: caller.reply(id))
            assert json.loads(text_of(answer))["roots"][0]["uri"] == f"file:///{id}"


# A GET that is refused.


@pytest.mark.parametrize("mode", [None, ROUND, FAILOVER], ids=["one token", ROUND, FAILOVER])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
async def test_get_alone_is_refused(pool, tokens, status, mode):
    """A server that has no GET stream, with whatever status it says so, costs no token and no session."""
    gateway = pool("A B" if mode else "A", mode)
    tokens.script(**{name: {"GET": status, "*": 200} for name in ("A", "B")})
    caller = await Caller.open(gateway, "pool")
    for _ in range(3):
        wire, answer = await caller.stream()
        async with wire:
            assert answer.status == 405 and answer.header("allow") == "POST, DELETE", (answer.status, answer.body)
    assert len(tokens.journal("GET")) <= 2, "not asked again and again"
    assert [text_of(await caller.ask("echo", {"text": str(n)})) for n in range(3)] == ["0", "1", "2"]
    assert len(tokens.journal("initialize")) == (2 if mode == ROUND else 1), "no session was opened again"
    assert set(failures(gateway)) == {0}
    assert gateway.pool("pool")["rotations"] == 0
    assert not gateway.log("credential rejected") and not gateway.log("credential rotated")


@pytest.mark.parametrize("status", [401, 404, 405])
async def test_stream_is_refused_when_it_comes_back(pool, tokens, status):
    """A caller that has its stream keeps it while the server refuses the one behind it, and it is asked for without haste."""
    gateway = pool("A B", FAILOVER)
    async with await Listener.open(gateway) as listener:
        await until("the stream is open", lambda: tokens.home() == "A")
        tokens.script(A={"GET": status, "*": 200})
        tokens.drop_streams()
        await until("it is asked for twice", lambda: tokens.sends("GET") == "A A A", 10)
        first, second = (entry["t"] for entry in tokens.journal("GET")[1:])
        assert second - first >= 0.9
        tokens.script(A=200)
        await until("the stream is back", lambda: tokens.home() == "A", 15)
        tokens.broadcast(CHANGED)
        await until("and heard", lambda: listener.count(CHANGED["method"]) == 1)
    assert tokens.sends("initialize") == "A" and failures(gateway) == [0, 0]


# Sessions that the upstream forgets.


@pytest.mark.parametrize("names, mode", [("A", None), ("A B", ROUND)], ids=["one token", ROUND])
@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_upstream_restarts_under_a_listener(pool, tokens, isolation, names, mode):
    """Whoever only listens hears the server again after that lost every session: one stream for each, none twice."""
    gateway = pool(names, mode, isolation=isolation)
    async with await Listener.open(gateway) as listener:
        for _ in names.split():
            assert "result" in await listener.caller.ask("echo", {})
        await until("all streams are open", lambda: sorted(tokens.home().split()) == names.split())
        opened = len(tokens.journal("initialize"))
        tokens.restart()
        await until("all streams are open again", lambda: sorted(tokens.home().split()) == names.split(), 10)
        assert len(tokens.journal("initialize")) == opened + len(names.split())
        tokens.broadcast(CHANGED)
        await until("it is heard", lambda: listener.count(CHANGED["method"]) >= 1)
        # The next restart is found out by a call.
        tokens.restart()
        assert "result" in await listener.caller.ask("echo", {})
        await until("all streams are open again", lambda: sorted(tokens.home().split()) == names.split(), 10)
        tokens.broadcast({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "end"}})
        assert "result" in await listener.caller.ask("echo", {})
        assert listener.count(CHANGED["method"]) == 1, listener.came


# Listeners.


async def test_two_first_listeners_at_once(pool, tokens):
    """However many GETs of one session come at once, on whatever event loops, there is one stream upstream; ids go on."""
    gateway = pool("A")
    caller = await Caller.open(gateway, "pool")
    opened = await asyncio.gather(*(caller.stream() for _ in range(8)))
    try:
        assert {answer.status for _, answer in opened} == {200}
        await until("one stream is open", lambda: tokens.home() == "A")
        tokens.broadcast(CHANGED)
        assert text_of(await caller.ask("echo", {"text": "x"})) == "x"
        assert tokens.sends("GET") == "A"
    finally:
        for wire, _ in opened:
            wire.abort()
