# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Credential pools at upstreams of the HTTP+SSE transport of 2024-11-05, where a session lives and dies with its token."""

import asyncio
import json

import pytest
from harness.callers import Caller, text_of
from harness.errors import gateway_error
from harness.processes import until
from harness.wire import message

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
REJECTED, EXHAUSTED = {"credential_rejected"}, {"credentials_exhausted"}
NO = {"no"}
KINDS = ["session", "shared"]
CLIENT = {"name": "someone", "version": "7"}
INITIALIZE = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}, id=0)


@pytest.fixture
def sse_of(pool_of, tokens):
    """Starts a gateway with a pool before the upstream's streams; the journal is empty then."""

    def start(names, mode=None, **auth):
        gateway = pool_of(names, mode, path="/sse", **auth)
        tokens.clear()
        return gateway

    yield start
    tokens.no_token_strays()


async def refused(caller, reasons=REJECTED, executed=NO):
    """The data of the error with which a call fails."""
    return gateway_error(await caller.call("echo", {"text": "x"}, id=77), 77, "handshake", "pool", reasons, executed)


async def says(caller, text="hello"):
    assert text_of(await caller.ask("echo", {"text": text})) == text


def failures(gateway):
    return [slot["failures"] for slot in gateway.pool("pool")["slots"]]


async def again(caller):
    """Calls until it works: a lost stream may be noticed late."""

    async def works():
        return "result" in await caller.ask("echo", {"text": "again"})

    await until("calls work again", works)


async def opens(gateway):
    """The first caller whose `initialize` is answered with a result."""

    async def opened():
        caller = Caller(gateway.url("pool"), gateway.token, gateway.seen)
        answer = await caller.post(INITIALIZE)
        caller.session = answer.header("mcp-session-id")
        return caller if "result" in answer.reply(0) else None

    return await until("a session is opened", opened)


@pytest.mark.parametrize("status", [401, 403])
async def test_stream_goes_to_the_next_token(sse_of, tokens, status):
    """F20: a stream refused to one token is opened with the next, and so is every later one, at once."""
    gateway = sse_of("A B", FAILOVER)
    tokens.script(A=status)
    caller = await Caller.open(gateway, "pool")
    await says(caller)
    assert tokens.sends("GET") == "A B"
    assert set(tokens.sends("initialize", "notifications/initialized", "tools/call").split()) == {"B"}
    assert failures(gateway) == [1, 0] and gateway.pool("pool")["current"] == 1
    tokens.hang_up()
    await again(caller)
    assert tokens.sends("GET") == "A B B"


@pytest.mark.parametrize("status", [401, 403])
async def test_shared_stream_goes_to_the_next_token(sse_of, tokens, status):
    """The stream that all share is opened with the next token when it is lost and its own is refused."""
    gateway = sse_of("A B", FAILOVER, isolation="shared")
    callers = [await Caller.open(gateway, "pool") for _ in range(3)]
    tokens.script(A=status)
    tokens.hang_up()
    for caller in callers:
        await again(caller)
    assert tokens.sends("GET") == "A B" and tokens.sends("initialize") == "B"
    assert failures(gateway) == [1, 0] and gateway.pool("pool")["current"] == 1
    tokens.hang_up()
    await again(callers[0])
    assert tokens.sends("GET") == "A B B"


@pytest.mark.parametrize("isolation", KINDS)
@pytest.mark.parametrize("mode", [ROUND, FAILOVER])
def test_start_counts_for_no_token(pool_of, tokens, isolation, mode):
    """What the gateway asks at its start is no caller's: a revoked token is passed over, not counted, and moves nothing."""
    tokens.script(A=401)
    gateway = pool_of("A B", mode, path="/sse", isolation=isolation)
    assert gateway.get("/_readyz") == (200, b'{"status":"ready","upstreams":{}}')
    assert failures(gateway) == [0, 0] and gateway.pool("pool")["current"] == 0 and gateway.pool("pool")["rotations"] == 0
    assert gateway.metric("credential_requests_total") == 0


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_message(sse_of, tokens, status):
    """F21: the message's call fails and did not run; its session is opened again with the next token, as its caller began it."""
    gateway = sse_of("A B", FAILOVER)
    caller = Caller(gateway.url("pool"), gateway.token, gateway.seen)
    answer = await caller.post(INITIALIZE)
    caller.session = answer.header("mcp-session-id")
    await caller.post(message("notifications/initialized", id=None))
    await says(caller)
    tokens.script(A={"tools/call": status})
    data = await refused(caller)
    assert data["status"] == status and "statuses" not in data
    await says(caller, "in time")
    assert tokens.sends("GET") == "A B"
    assert tokens.sends("tools/call") == "A A B"
    bodies = [json.loads(entry["body"]) for entry in tokens.journal("initialize")]
    assert [body["params"] for body in bodies] == [INITIALIZE["params"]] * 2, "the caller's own"
    assert tokens.sends("initialize", "notifications/initialized") == "A A B B"
    assert failures(gateway) == [1, 0] and gateway.pool("pool")["current"] == 1


async def test_calls_meanwhile_wait(sse_of, tokens):
    """Calls that come while the session is opened again wait for it; each is sent once."""
    gateway = sse_of("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    await says(caller)
    tokens.script(A={"tools/call": 401}, B={"GET": {"status": 200, "ms": 500}})
    await refused(caller)
    answers = await asyncio.gather(*(caller.call("echo", {"text": str(n)}, id=n) for n in range(100, 110)))
    assert [text_of(answer.reply(n)) for n, answer in enumerate(answers, 100)] == [str(n) for n in range(100, 110)]
    assert tokens.sends("GET") == "A B"
    assert sorted(tokens.sends("tools/call").split()) == ["A", "A", *["B"] * 10]


async def test_other_calls_of_a_refused_session(sse_of, tokens):
    """A call that waits in the session when its token is refused is told that it may have run."""
    gateway = sse_of("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    slow = asyncio.create_task(caller.call("sleep", {"ms": 3000}, id=50))
    await until("it runs", lambda: tokens.journal("tools/call"))
    tokens.script(A={"tools/call": 401})
    await refused(caller)
    gateway_error(await slow, 50, "handshake", "pool", {"upstream_closed"}, {"unknown"})
    await says(caller)


@pytest.mark.parametrize("limit,statuses", [(None, [401, 403, 401]), (2, [401, 403])])
async def test_all_refused_at_connect(sse_of, tokens, limit, statuses):
    """When every token that may be tried is refused the stream, the caller is told with what; the next goes on from there."""
    gateway = sse_of("A B C", FAILOVER, **({"maxRetries": limit} if limit else {}))
    tokens.script(A={"GET": [401, 200]}, B=403, C={"GET": [401, 200] if not limit else 200})
    caller = Caller(gateway.url("pool"), gateway.token, gateway.seen)
    data = gateway_error(await caller.post(INITIALIZE), 0, "handshake", "pool", EXHAUSTED, NO)
    assert data["statuses"] == statuses and data["attempts"] == len(statuses)
    assert tokens.sends("GET") == "A B C"[: 2 * len(statuses) - 1]
    assert failures(gateway) == ([1, 1, 0] if limit else [1, 1, 1])
    await says(await opens(gateway))
    assert tokens.sends("GET") == ("A B C" if limit else "A B C A")


async def test_all_refused_to_the_shared_stream(sse_of, tokens):
    """Where all callers share one stream each is told, and all are served once a token is accepted."""
    gateway = sse_of("A B", FAILOVER, isolation="shared")
    callers = [await Caller.open(gateway, "pool") for _ in range(2)]
    tokens.script(A={"GET": [401] * 2 + [200]}, B=403)
    tokens.hang_up()
    await until("all are refused", lambda: tokens.sends("GET").count("B"))
    answer = await callers[0].call("echo", {"text": "x"}, id=5)
    if "result" not in answer.reply(5):
        assert gateway_error(answer, 5, "handshake", "pool", EXHAUSTED, NO)["statuses"] == [401, 403]
    for caller in callers:
        await again(caller)


async def test_one_token(sse_of, tokens):
    """A pool of one: a refusal is `credential_rejected`, at connect and later, and the next call tries the token again."""
    gateway = sse_of("A")
    tokens.script(A={"GET": [401, 200], "tools/call": [401, 200]})
    caller = Caller(gateway.url("pool"), gateway.token, gateway.seen)
    data = gateway_error(await caller.post(INITIALIZE), 0, "handshake", "pool", REJECTED, NO)
    assert data["status"] == 401
    caller = await Caller.open(gateway, "pool")
    await refused(caller)
    await says(caller)
    assert failures(gateway) == [0]


async def test_round_robin_spreads_sessions(sse_of, tokens):
    """Sessions take turns; all messages of one go with the token that opened its stream."""
    gateway = sse_of("A B C", ROUND)
    callers = [await Caller.open(gateway, "pool") for _ in range(6)]
    for n, caller in enumerate(callers):
        await says(caller, str(n))
        await says(caller, str(n))
    opened = tokens.sends("GET").split()
    assert sorted(opened) == ["A", "A", "B", "B", "C", "C"] and opened[:3] == opened[3:]
    assert tokens.sends("tools/call").split() == [token for token in opened for _ in range(2)]


async def test_round_robin_refused_at_connect(sse_of, tokens):
    """With one attempt a refused stream fails its caller; the next caller's takes the next token."""
    gateway = sse_of("A B", ROUND)
    tokens.script(A={"GET": 401}, B={"GET": 401})
    for _ in range(2):
        caller = Caller(gateway.url("pool"), gateway.token, gateway.seen)
        gateway_error(await caller.post(INITIALIZE), 0, "handshake", "pool", REJECTED, NO)
    assert sorted(tokens.sends("GET").split()) == ["A", "B"]
    assert failures(gateway) == [1, 1]


@pytest.mark.parametrize("sessions", [1, 2, 3])
async def test_round_robin_reopens_with_the_next(sse_of, tokens, sessions):
    """A session that loses its token is opened again with the one after it, however many other sessions there are."""
    gateway = sse_of("A B", ROUND)
    callers = [await Caller.open(gateway, "pool") for _ in range(sessions)]
    mine = tokens.sends("GET").split()[0]
    tokens.script(**{mine: 401})
    await refused(callers[0])
    await says(callers[0], "with the other")
    assert tokens.journal("tools/call")[-1]["token"] != mine


async def test_shared_stream(sse_of, tokens):
    """One stream for all callers, opened once, with one token at a time; a refusal moves all of them."""
    gateway = sse_of("A B", FAILOVER, isolation="shared")
    tokens.hang_up()
    callers = await asyncio.gather(*(Caller.open(gateway, "pool") for _ in range(5)))
    await again(callers[0])
    await asyncio.gather(*(says(caller, f"caller {n}") for n, caller in enumerate(callers)))
    assert tokens.sends("GET") == "A" and tokens.sends("initialize") == "A"
    tokens.script(A=401)
    await refused(callers[0])
    await asyncio.gather(*(says(caller, f"caller {n}") for n, caller in enumerate(callers)))
    assert tokens.sends("GET") == "A B" and tokens.sends("initialize") == "A B"
    ids = [entry["id"] for entry in tokens.journal("tools/call")]
    assert len(ids) == len(set(ids))


async def test_herd(sse_of, tokens):
    """Many calls of many sessions meet one revoked token: it moves once, and nobody's next call fails."""
    gateway = sse_of("A B C", FAILOVER)
    callers = [await Caller.open(gateway, "pool") for _ in range(20)]
    tokens.script(A=401)
    await asyncio.gather(*(refused(caller) for caller in callers))
    await asyncio.gather(*(says(caller) for caller in callers))
    assert gateway.pool("pool")["current"] == 1 and gateway.pool("pool")["rotations"] == 1
    assert set(tokens.sends("GET").split()) == {"A", "B"}


@pytest.mark.parametrize("isolation", KINDS)
async def test_initialize_refused_in_the_new_stream(sse_of, tokens, isolation):
    """A token that may open a stream and not speak in it is passed over, or said to be refused; never called silence."""
    gateway = sse_of("A B C", FAILOVER, isolation=isolation)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": 401}, B={"initialize": 403})
    await refused(caller)
    answer = await caller.call("echo", {"text": "x"}, id=5)
    if "result" not in answer.reply(5):
        gateway_error(answer, 5, "handshake", "pool", REJECTED | EXHAUSTED, NO)
    await again(caller)
    assert failures(gateway)[:2] == [1, 1]


async def test_status_that_is_no_reason(sse_of, tokens):
    """A status outside `retryOn` is the call's own affair: nothing is counted, and the session goes on."""
    gateway = sse_of("A B", FAILOVER, retryOn=[401])
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": [403, 200]})
    data = await refused(caller)
    assert data["status"] == 403
    await says(caller)
    assert failures(gateway) == [0, 0] and gateway.pool("pool")["current"] == 0
    assert tokens.sends("GET") == "A", "the stream goes on"


@pytest.mark.parametrize("isolation", KINDS)
async def test_other_failures_say_nothing_of_the_token(sse_of, tokens, isolation):
    """429 and 500 on a message, 503 on a stream: not counted, no move."""
    gateway = sse_of("A B", FAILOVER, isolation=isolation)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A={"tools/call": [429, 500, 200]})
    await refused(caller, {"rate_limited"})
    await refused(caller, {"upstream_status"}, {"unknown"})
    await says(caller)
    assert set(tokens.sends().split()) == {"A"}
    assert failures(gateway) == [0, 0]


@pytest.mark.parametrize("isolation", KINDS)
async def test_readiness(sse_of, tokens, isolation):
    """An upstream is usable while one token works, whoever was just refused, and `rejected` when none does."""
    gateway = sse_of("A B", FAILOVER, isolation=isolation)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A=401)
    await refused(caller)
    status, body = gateway.get("/_readyz")
    assert status == 200, body
    await says(caller)
    assert gateway.get("/_readyz")[0] == 200
    tokens.script(B=403)
    await refused(caller)
    await refused(caller, REJECTED | EXHAUSTED)
    await until("nothing works", lambda: gateway.get("/_readyz")[0] == 503)
    assert b"rejected" in gateway.get("/_readyz")[1], gateway.get("/_readyz")


@pytest.mark.parametrize("isolation", KINDS)
async def test_slot_on_the_access_line(sse_of, tokens, isolation):
    """The access line of a call says which slot it used."""
    gateway = sse_of("A B", FAILOVER, isolation=isolation)
    tokens.script(A={"GET": 401})
    tokens.hang_up()
    caller = await Caller.open(gateway, "pool")
    await again(caller)
    lines = await until("it is logged", lambda: [line for line in gateway.log('"access"') if line["method"] == "tools/call"])
    assert str(lines[0].get("slot")) == "1", lines
