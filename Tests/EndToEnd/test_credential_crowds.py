# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Credential pools under many calls at once: each refusal is told from the news of it (credentials §4.2, §4.4)."""

import asyncio
import json
from collections import Counter

import pytest
from harness.callers import Caller, call_of, messages_of, text_of
from harness.processes import until
from harness.wire import Wire, headers_of, message, split

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
CROWD = 1000
LETTERS = "A B C D E F G H I J"


@pytest.fixture
def crowd_of(pool_of):
    """Starts a gateway for crowds, which writes no log of each call."""

    def start(names, mode, path="/plain", **auth):
        return pool_of(names, mode, path, log_level="info", options={"logEnabled": False}, limits={"queueWait": "20s"}, **auth)

    return start


async def crowd(gateway, count, calls_each=1):
    """The replies to calls of so many callers at once, each over a connection of its own that is kept."""
    port, path = split(gateway.url("pool"))
    everybody = asyncio.Barrier(count)

    async def caller(n):
        replies = []
        async with await Wire.open(port, gateway.seen) as wire:
            await everybody.wait()
            for id in range(n * calls_each, (n + 1) * calls_each):
                body = message("tools/call", {"name": "echo", "arguments": {"text": f"{id}"}}, id=id, era="stateless")
                fields = headers_of("stateless", body, gateway.token)
                answer = await wire.exchange("POST", path, fields, json.dumps(body).encode())
                replies.append(answer.reply(id))
        return replies

    return [reply for replies in await asyncio.gather(*(caller(n) for n in range(count))) for reply in replies]


def all_answered(replies):
    """Asserts that each has the result of its own call."""
    failed = Counter(json.dumps(reply["error"]) for reply in replies if "error" in reply)
    assert not failed, failed.most_common(3)
    assert all(text_of(reply) == str(reply["id"]) for reply in replies)


def lines(gateway):
    return len(gateway.log("credential rotated")) + len(gateway.log("credential rejected"))


async def test_revoked_under_a_thousand_calls(crowd_of, tokens):
    """C02: a token that is revoked under a thousand calls moves the pool once, and every caller has its answer."""
    gateway = crowd_of("A B C", FAILOVER)
    tokens.script(A={"status": 401, "gate": True})
    running = asyncio.create_task(crowd(gateway, CROWD))
    await until("all are with A", lambda: tokens.count("tools/call") == CROWD, 20)
    tokens.open_gate()
    all_answered(await running)
    sends = Counter(tokens.sends("tools/call").split())
    assert sends == {"A": CROWD, "B": CROWD}
    assert gateway.metric("credential_rotations_total", server="pool") == 1
    state = gateway.credentials()
    assert (state["current"], state["rotations"]) == (1, 1)
    first, second, third = state["slots"]
    assert (first["failures"], first["rejections"], first["inFlight"]) == (CROWD, 1, 0)
    assert [(slot["failures"], slot["inFlight"]) for slot in (second, third)] == [(0, 0)] * 2
    await until("it is logged", lambda: lines(gateway))
    assert lines(gateway) <= 10, "one incident, not a thousand lines"


async def test_revoked_one_after_the_other(crowd_of, tokens):
    """Five of ten tokens die under the same calls: the pool moves five times and ends on one that is good."""
    gateway = crowd_of(LETTERS, FAILOVER)
    tokens.script(**{name: {"status": 401, "ms": 50} for name in LETTERS.split()[:5]})
    all_answered(await crowd(gateway, 200, calls_each=3))
    state = gateway.credentials()
    assert state["current"] == 5
    assert gateway.metric("credential_rotations_total", server="pool") == state["rotations"] == 5
    sends = Counter(tokens.sends("tools/call").split())
    assert sends["F"] == 600 and all(sends[name] <= 200 for name in "ABCDE") and not set("GHIJ") & set(sends), sends


@pytest.mark.parametrize("names, shares", [(LETTERS, [100] * 10), ("A B C", [334, 333, 333])], ids=["R05", "R06"])
async def test_turns_are_even(crowd_of, tokens, names, shares):
    """R05, R06: a thousand calls at once are spread evenly, to the call."""
    gateway = crowd_of(names, ROUND)
    all_answered(await crowd(gateway, CROWD))
    sends = Counter(tokens.sends("tools/call").split())
    assert sorted(sends.values(), reverse=True) == shares
    assert all(slot["inFlight"] == 0 for slot in gateway.credentials()["slots"])


async def test_all_dead_and_back(crowd_of, tokens):
    """When every token is refused every caller is told what happened to each; once they are good again calls work."""
    gateway = crowd_of(LETTERS, FAILOVER)
    names = LETTERS.split()
    tokens.script(**{name: 401 if n % 2 else 403 for n, name in enumerate(names)})
    replies = await crowd(gateway, CROWD)
    for reply in replies:
        data = reply["error"]["data"]
        assert (data["reason"], data["executed"]) == ("credentials_exhausted", "no"), data
        assert sorted(data["statuses"]) == [401] * 5 + [403] * 5, "each token once"
    sends = Counter(tokens.sends("tools/call").split())
    assert sends == {name: CROWD for name in names}, "ten of each call and no more"
    assert gateway.metric("credentials_exhausted_total", server="pool") == CROWD
    assert gateway.get("/_readyz")[0] == 503, "rejected"
    before = tokens.count("tools/call")
    tokens.script(**{name: 200 for name in names})
    all_answered(await crowd(gateway, 20))
    assert tokens.count("tools/call") == before + 20, "none of them needed a second token"
    assert gateway.get("/_readyz")[0] == 200


@pytest.mark.parametrize("mode", [ROUND, FAILOVER])
async def test_many_sessions_lose_a_token(crowd_of, tokens, mode):
    """Fifty callers with sessions lose a token at once: each has one more session, and no token another's."""
    gateway = crowd_of("A B", mode, path="/sessions", maxRetries=2)
    callers = [await Caller.open(gateway, "pool") for _ in range(50)]
    tokens.script(A={"tools/call": 401, "initialize": 401, "*": 200})

    async def use(caller):
        return [(await caller.ask("echo", {"text": f"{n}"}))["result"]["content"][0]["text"] for n in range(4)]

    assert await asyncio.gather(*(use(caller) for caller in callers)) == [["0", "1", "2", "3"]] * 50
    assert not tokens.state()["strays"]
    issued = Counter(entry["token"] for entry in tokens.journal("initialize") if "issued" in entry)
    assert issued["B"] == 50 and issued["A"] == (25 if mode == ROUND else 50), issued


async def test_answers_to_many_questions(crowd_of, tokens):
    """Twenty callers are asked by three slots each, all under one id: no answer goes astray."""
    gateway = crowd_of("A B C", ROUND, path="/sessions")
    callers = [await Caller.open(gateway, "pool", capabilities={"roots": {}}) for _ in range(20)]

    async def asked(caller, n, k):
        async with await caller.send(call_of("ask", id=f"{n}-{k}")) as wire:
            async for told in messages_of(wire, await wire.head()):
                if "method" not in told:
                    return json.loads(text_of(told))["roots"][0]["uri"]
                roots = {"roots": [{"uri": f"file:///{n}-{k}"}]}
                assert (await caller.post({"jsonrpc": "2.0", "id": told["id"], "result": roots})).status == 202

    # In one session questions have one id, so a caller asks each of its slots once.
    for n, caller in enumerate(callers):
        uris = await asyncio.gather(*(asked(caller, n, k) for k in range(3)))
        assert uris == [f"file:///{n}-{k}" for k in range(3)]
    assert not tokens.state()["strays"]
