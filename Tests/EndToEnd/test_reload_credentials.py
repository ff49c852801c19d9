# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Tokens that are replaced, put in another order or taken away while the gateway runs: those of servers, and of callers."""

import asyncio
import secrets
import time

import pytest
from harness.callers import Caller, SSECaller, messages_of, text_of, works
from harness.processes import until
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
GATED = {"tools/call": {"status": 200, "gate": True}}
IN_FLIGHT = 500
STREAMS = 50
REVOKED = 1
"""Seconds in which the streams of a token end that was taken away."""


@pytest.fixture
def pool(unwatched, tokens):
    """Starts a gateway before one pool of tokens as `pool`: `pool("A B", mode, path)`."""

    def start(names, mode, path="/sessions", log_level="trace", **auth):
        gateway = unwatched({"pool": tokens.entry(path, names, mode, **auth)}, log_level=log_level)
        tokens.clear()
        return gateway

    return start


def take(gateway, tokens, names, mode, path="/sessions", result="applied", **auth):
    """Lets the pool have these tokens, and nothing else."""
    gateway.reconfigure({"pool": tokens.entry(path, names, mode, **auth)})
    last = gateway.reload(result)
    assert not last["added"] + last["removed"] + last["replaced"], last
    return last


async def call(gateway, era="stateless", **arguments):
    """A call without a session."""
    body = message("tools/call", {"name": "echo", "arguments": arguments}, era=era)
    return (await post(gateway.url("pool"), body, era=era, token=gateway.token)).reply(1)


def counted(gateway, credential):
    return gateway.metric("credential_requests_total", server="pool", credential=str(credential))


# Tokens of servers.


async def test_one_of_three_is_replaced(pool, tokens):
    """With 500 calls in flight: each is answered, the new token takes its turn at once, the old one begins nothing more, and
    the figures of the other two go on."""
    gateway = pool("A B C", ROUND, "/plain", log_level="info")
    tokens.script(**dict.fromkeys("ABCD", GATED))
    flying = [asyncio.create_task(call(gateway, text=str(n))) for n in range(IN_FLIGHT)]
    await until("all are there", lambda: tokens.count("tools/call") == IN_FLIGHT, 20)
    assert take(gateway, tokens, "A D C", ROUND, "/plain")["tuned"] == ["pool"]
    applied = time.monotonic()
    tokens.script(**dict.fromkeys("ABCD", 200))
    for _ in range(6):
        assert "result" in await call(gateway)
    assert sorted(tokens.sends("tools/call").split()[IN_FLIGHT:]) == list("AACCDD")
    assert not any(task.done() for task in flying)
    tokens.open_gate()
    assert [text_of(reply) for reply in await asyncio.gather(*flying)] == [str(n) for n in range(IN_FLIGHT)]
    sent = tokens.journal("tools/call")
    assert max(entry["t"] for entry in sent if entry["token"] == "B") < applied
    for position, name in ((0, "A"), (2, "C")):
        assert counted(gateway, position) == sum(entry["token"] == name for entry in sent), "the count goes on"
    assert counted(gateway, 1) == 2, "the count of the new one is its own"


ORDERS = [(ROUND, {}), (ROUND, {"affinity": "session"}), (FAILOVER, {}), (ROUND, {"isolation": "shared"}), (FAILOVER, {"isolation": "shared"})]


@pytest.mark.parametrize("mode, more", ORDERS, ids=lambda value: value if isinstance(value, str) else "-".join(value.values()))
async def test_another_order(pool, tokens, mode, more):
    """Nothing changes but the order: sessions keep their tokens, and no token comes into the session of another."""
    gateway = pool("A B C", mode, **more)
    callers = [await Caller.open(gateway, "pool") for _ in range(3)]
    for caller in callers:
        await works(caller)
    opened = tokens.state()["sessions"]
    stays = more.get("affinity") == "session" or mode == FAILOVER
    for names in ("C A B", "B C A", "A B C"):
        tokens.clear()
        take(gateway, tokens, names, mode, **more)
        for caller in callers:
            await works(caller)
        if stays:
            assert {entry["session"] for entry in tokens.journal("tools/call")} <= set(opened), "no session is opened"
            assert not tokens.journal("initialize")
    tokens.no_token_strays()
    if mode == FAILOVER:
        assert gateway.pool("pool")["rotations"] == 0 and set(tokens.sends("tools/call").split()) == {"A"}


REMOVALS = [
    # mode, tokens before and after, the token of the next call
    (FAILOVER, "A B", "B", "B"),
    (FAILOVER, "A B C", "C B", "B"),
    (ROUND, "A B", "B", "B"),
    (None, "A", "B", "B"),
]


@pytest.mark.parametrize("path", ["/sessions", "/sse"])
@pytest.mark.parametrize("mode, before, after, follows", REMOVALS)
async def test_home_is_removed(pool, tokens, mode, before, after, follows, path):
    """A session whose token is taken away goes on with another from its next message, without its caller's doing, and the
    call that it has with the old one is answered."""
    gateway = pool(before, mode, path, **({"affinity": "session"} if mode == ROUND else {}))
    caller = await Caller.open(gateway, "pool")
    await works(caller)
    if path == "/sessions":
        assert "result" in (await caller.post(message("resources/subscribe", {"uri": "memo://a"}, id="s"))).reply("s")
    assert tokens.sends("tools/call") == "A"
    flying = asyncio.create_task(caller.ask("sleep", {"ms": 800, "text": "old"}))
    await until("it is there", lambda: tokens.sends("tools/call") == "A A")
    tokens_before = len(tokens.journal())
    take(gateway, tokens, after, mode, path, **({"affinity": "session"} if mode == ROUND else {}))
    assert text_of(await caller.ask("echo", {"text": "new"})) == "new"
    assert text_of(await flying) == "old"
    since = tokens.journal()[tokens_before:]
    assert {entry["token"] for entry in since} == {follows}, "nothing begins with what was taken away"
    if path == "/sessions":
        await until("it is subscribed again", lambda: tokens.sends("resources/subscribe").split()[-1] == follows)
    tokens.no_token_strays()


async def test_removed_while_it_is_refused(pool, tokens):
    """A call whose token is refused and taken away meanwhile goes on with one that is there."""
    gateway = pool("A B", FAILOVER, "/plain")
    tokens.script(A={"status": 401, "gate": True})
    flying = asyncio.create_task(call(gateway, text="late"))
    await until("it is there", lambda: tokens.sends("tools/call") == "A")
    take(gateway, tokens, "C", FAILOVER, "/plain")
    tokens.open_gate()
    assert text_of(await flying) == "late"
    assert tokens.sends("tools/call") == "A C"


async def test_token_that_comes_back(pool, tokens):
    """A value that was taken away and comes back knows nothing of its refusals."""
    gateway = pool("A B", FAILOVER, "/plain")
    tokens.script(A=401)
    assert "result" in await call(gateway)
    assert [slot["failures"] for slot in gateway.credentials()["slots"]] == [1, 0]
    take(gateway, tokens, "B", FAILOVER, "/plain")
    take(gateway, tokens, "B A", FAILOVER, "/plain")
    slots = gateway.credentials()["slots"]
    assert [slot["failures"] for slot in slots] == [0, 0] and slots[1]["state"] == "unused"
    assert "result" in await call(gateway)
    assert tokens.sends("tools/call") == "A B B"


RULES = [
    # mode and rules before and after, and how many tokens the next four calls go with
    ((ROUND, {}), (FAILOVER, {}), 1),
    ((FAILOVER, {}), (ROUND, {}), 2),
    ((FAILOVER, {"maxRetries": 1}), (FAILOVER, {"maxRetries": 2}), 1),
]


@pytest.mark.parametrize("before, after, used", RULES)
async def test_rules(pool, tokens, before, after, used):
    """How tokens take turns can change, and sessions stay."""
    gateway = pool("A B", before[0], **before[1])
    caller = await Caller.open(gateway, "pool")
    await works(caller)
    assert take(gateway, tokens, "A B", after[0], **after[1])["tuned"] == ["pool"]
    tokens.clear()
    for _ in range(4):
        await works(caller)
    assert len(set(tokens.sends("tools/call").split())) == used


async def test_pool_that_comes_and_goes(pool, tokens):
    """A server that gets tokens, or loses them all, is another server: no session of the one goes on in the other."""
    gateway = pool("A B", FAILOVER)
    caller = await Caller.open(gateway, "pool")
    entry = {key: value for key, value in tokens.entry("/sessions", "A").items() if key != "options"}
    gateway.reconfigure({"pool": entry})
    assert gateway.reload()["replaced"] == ["pool"]
    await works(caller)
    await works(await Caller.open(gateway, "pool"))
    gateway.reconfigure({"pool": tokens.entry("/sessions", "A B", FAILOVER)})
    assert gateway.reload()["replaced"] == ["pool"]
    await works(caller)
    await works(await Caller.open(gateway, "pool"))
    tokens.no_token_strays()


# Tokens of callers.


@pytest.fixture
def let_in(unwatched, tokens):
    """A gateway that takes two tokens of callers: its own, and the one that is given with it."""
    other = f"CANARY-other-{secrets.token_hex(16)}"
    gateway = unwatched({"s": {"url": f"http://127.0.0.1:{tokens.port}/sessions"}, "old": sse(tokens)}, log_level="info")
    gateway.reconfigure(options={"authTokens": [gateway.token, other]})
    gateway.reload()
    return gateway, other


def sse(tokens):
    return {"url": f"http://127.0.0.1:{tokens.port}/sse", "transportType": "sse"}


async def test_another_order_of_callers_tokens(let_in):
    """A session belongs to the value of its token: in another order everybody has their own, and nobody another's."""
    gateway, other = let_in
    mine, theirs = await Caller.open(gateway, "s"), await Caller.open(gateway, "s", token=other)
    for order in ([other, gateway.token], [other, gateway.token, gateway.canaries.make("third")], [gateway.token, other]):
        gateway.reconfigure(options={"authTokens": order})
        gateway.reload("applied", "unchanged")
        for caller in (mine, theirs):
            await works(caller)
        mixed = Caller(mine.url, theirs.token, gateway.seen)
        mixed.session = mine.session
        assert (await mixed.call("echo")).status == 404


async def test_revoked(let_in, tokens):
    """A token that is taken away is 401 from then on, and its streams end within a second; calls that it has are answered,
    and those of other tokens notice nothing."""
    gateway, other = let_in
    callers = await asyncio.gather(*(Caller.open(gateway, "s", token=other) for _ in range(STREAMS)))
    stay = await asyncio.gather(*(Caller.open(gateway, "s") for _ in range(5)))
    streams = [await caller.stream() for caller in callers]
    staying = [await caller.stream() for caller in stay]
    assert all(stream.status == 200 for _, stream in [*streams, *staying])
    flying = asyncio.create_task(callers[0].ask("sleep", {"ms": 1500, "text": "late"}))
    await until("it is there", lambda: tokens.count("tools/call") == 1)
    await until("all listen", lambda: len(tokens.state()["streams"]) == STREAMS + 5)
    gateway.reconfigure(options={"authTokens": [gateway.token]})
    await asyncio.to_thread(gateway.reload)

    async def ends(wire, stream):
        await wire.rest(stream, REVOKED)
        return not stream.cut

    async with asyncio.timeout(REVOKED):
        assert all(await asyncio.gather(*(ends(*each) for each in streams)))
    for caller in callers[:5]:
        assert (await caller.call("echo")).status == 401
        assert (await caller.stream())[1].status == 401
    assert text_of(await flying) == "late"
    for caller in stay:
        await works(caller)
    tokens.broadcast()
    for wire, stream in staying:
        assert (await anext(messages_of(wire, stream, 5)))["method"] == "notifications/tools/list_changed"
    await until("their sessions end at the upstream", lambda: len(tokens.state()["streams"]) == 5)


async def test_revoked_on_the_old_transport(let_in):
    """The stream of a caller of 2024-11-05 ends when it has the answers to its calls."""
    gateway, other = let_in
    gateway_token, gateway.token = gateway.token, other
    try:
        caller = await SSECaller.open(gateway, "old")
        idle = await SSECaller.open(gateway, "old")
    finally:
        gateway.token = gateway_token
    async with caller, idle:
        flying = asyncio.create_task(caller.call("sleep", {"ms": 1200, "text": "late"}, id=5))
        await until("it is under way", lambda: gateway.held()["inFlight"])
        gateway.reconfigure(options={"authTokens": [gateway.token]})
        await asyncio.to_thread(gateway.reload)
        await until("the idle one ends", lambda: idle.ended, REVOKED)
        assert (await caller.post(message("ping", id=9))).status == 401
        assert text_of(await flying) == "late"
        await until("it ends", lambda: caller.ended, REVOKED + 1)
        assert not caller.answer.cut and not idle.answer.cut


async def test_revoked_and_back(let_in):
    """A session does not come back with its token."""
    gateway, other = let_in
    caller = await Caller.open(gateway, "s", token=other)
    gateway.reconfigure(options={"authTokens": [gateway.token]})
    gateway.reload()
    gateway.reconfigure(options={"authTokens": [gateway.token, other]})
    gateway.reload()
    assert (await caller.call("echo")).status == 404
    await works(await Caller.open(gateway, "s", token=other))


async def test_first_token_of_a_server(unwatched, tokens):
    """A server that was open to all and gets tokens lets nobody in without one any more, sessions of before included."""
    entry = {"url": f"http://127.0.0.1:{tokens.port}/sessions"}
    gateway = unwatched({"s": {**entry, "options": {"authTokens": []}}, "other": entry})
    caller = await Caller.open(gateway, "s", token="")
    wire, stream = await caller.stream()
    gateway.reconfigure({"s": {**entry, "options": {"authTokens": [gateway.token]}}})
    assert gateway.reload()["tuned"] == ["s"]
    await wire.rest(stream, REVOKED)
    assert (await caller.call("echo")).status == 401
    caller.token = gateway.token
    assert (await caller.call("echo")).status == 404, "it is nobody's session now"
    await works(await Caller.open(gateway, "s"))
