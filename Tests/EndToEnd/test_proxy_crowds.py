# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Many calls through one outbound proxy: a password that was rejected is not tried again by each of them, and a proxy that
comes back is not run over."""

import asyncio
import time
from collections import Counter

import pytest
from harness.callers import Caller, call_of, text_of
from harness.errors import gateway_error, gateway_reply
from harness.processes import free_port, until
from harness.proxies import PASSWORD, USER, FaultProxy, Relay
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

CROWD = 50
STREAMS = 300
CALLS = 100
WINDOW = 10
"""How many handshakes with a proxy the gateway begins at once before one has succeeded."""
QUIET = {"pingInterval": 0, "autoReconnect": False}


@pytest.fixture
def faulty():
    """Starts proxies that misbehave."""
    started = []

    def start(**options):
        started.append(FaultProxy(**options))
        return started[-1]

    yield start
    for proxy in started:
        proxy.kill()


@pytest.fixture
def relay_of():
    """Starts honest proxies: `relay_of(port, hold=…, asks=…)`."""
    started = []

    def start(port=0, **options):
        started.append(Relay(port, **options))
        return started[-1]

    yield start
    for relay in started:
        relay.kill()


def entry(tokens, proxy, path="/plain", era="stateless", **more):
    """An upstream with a pool of two tokens, behind this proxy."""
    entry = tokens.entry(path, "A B", "on-first-failed", **more)
    entry["options"]["proxy"] = proxy
    return {**entry, "protocol": era}


def start(gateway_of, servers, **options):
    """A gateway that knows its upstreams by now, or knows that they are not reached."""
    gateway = gateway_of(servers, **{"log_level": "debug", "options": QUIET, **options})
    gateway.canaries.add("proxy user", USER)
    gateway.canaries.add("proxy password", PASSWORD)
    gateway.wait_until_looked()
    return gateway


async def call(gateway, name, id=1, tool="echo", **arguments):
    body = message("tools/call", {"name": tool, "arguments": {"text": f"{id}", **arguments}}, id=id, era="stateless")
    return await post(gateway.url(name), body, era="stateless", token=gateway.token, seen=gateway.seen)


async def refused(gateway, name, id=1):
    """The data of the error with which a call ends."""
    data = gateway_error(await call(gateway, name, id), id, "stateless", name, {"outbound_proxy"}, {"no"})
    assert data["proxyError"] == "proxy.auth.rejected" and data["stage"] == "auth" and not data["retryable"], data
    return data


async def crowd(gateway, name, count=CROWD):
    """The data of so many at once, and the seconds that all of them took."""
    began = time.monotonic()
    told = await asyncio.gather(*(refused(gateway, name, id) for id in range(1, count + 1)))
    return told, time.monotonic() - began


def no_token_is_blamed(gateway, name):
    pool = gateway.credentials(name)
    assert [slot["failures"] for slot in pool["slots"]] == [0, 0] and pool["current"] == 0, pool


def login(proxy, mode, user=USER):
    return {"url": proxy.url(mode, knows=False), "auth": {"username": user, "password": PASSWORD}}


@pytest.mark.parametrize("mode", ["http-407-always", "http-401-basic", "socks-auth-fail", "socks-auth-fail-open"])
async def test_rejected_password_is_tried_once(gateway_of, tokens, faulty, mode):
    """F63: fifty calls at once cost one login; all the others fail at once, and so do those of a server with the same.

    Another user at the same proxy has its own luck.
    """
    proxy = faulty(closed=True)
    same, other = login(proxy, mode), login(proxy, mode, user=f"{USER}other")
    gateway = start(gateway_of, {"one": entry(tokens, same), "two": entry(tokens, same), "other": entry(tokens, other)})
    proxy.open()
    told, took = await crowd(gateway, "one")
    assert proxy.dials() == 1
    assert took < 3, took
    waits = [data["retryAfterMs"] for data in told if "retryAfterMs" in data]
    assert len(waits) >= CROWD - 1, "those who did not try know when somebody will"
    assert all(0 < wait <= 10_000 for wait in waits), waits
    again = await refused(gateway, "one")
    shared = await refused(gateway, "two")
    assert 0 < again["retryAfterMs"] <= 10_000 and 0 < shared["retryAfterMs"] <= 10_000
    assert proxy.dials() == 1, "the same user and password, at the same proxy"
    await refused(gateway, "other")
    assert proxy.dials() == 2, "another user"
    for name in ("one", "two", "other"):
        no_token_is_blamed(gateway, name)
    assert not tokens.journal(), "nothing reached the upstream"


async def test_rejected_password_at_the_start(gateway_of, tokens, faulty):
    """F63: the look at the upstream with which the gateway starts counts: it and fifty calls cost one login."""
    proxy = faulty()
    gateway = gateway_of({"s": entry(tokens, login(proxy, "http-407-always"))}, options=QUIET, log_level="debug")
    await crowd(gateway, "s")
    assert proxy.dials() == 1


async def test_rejected_password_of_forwarded_requests(gateway_of, tokens, faulty):
    """F63: the same where the login goes out with each request and not with a tunnel (`tunnel: never`)."""
    proxy = faulty(closed=True)
    told = {**login(proxy, "http-407-always"), "tunnel": "never"}
    gateway = start(gateway_of, {"s": entry(tokens, told)})
    proxy.open()
    await crowd(gateway, "s")
    assert proxy.head("http-407-always")[0].startswith("POST http://127.0.0.1:")
    assert proxy.dials() == 1
    no_token_is_blamed(gateway, "s")


async def test_slowly_rejected_password(gateway_of, tokens, relay_of):
    """F63: a proxy that takes its time to say no is not shown the password again meanwhile."""
    port = free_port()
    wrong = {"url": f"http://127.0.0.1:{port}", "auth": {"username": USER, "password": f"{PASSWORD}0"}}
    gateway = start(gateway_of, {"s": entry(tokens, wrong)})
    relay = relay_of(port, hold=2500, asks=True)
    await crowd(gateway, "s")
    assert relay.counts()["dials"] == 1
    no_token_is_blamed(gateway, "s")


async def test_reset_at_accept(gateway_of, tokens, faulty):
    """F61: a proxy that resets what it has accepted is there, and refused nothing: whenever the reset comes, it is dialled
    once and did not speak the protocol."""
    proxy = faulty(closed=True)
    gateway = start(gateway_of, {"s": entry(tokens, proxy.url("http-rst-at-accept"))})
    proxy.open()
    told = Counter()
    for _ in range(10):
        answers = await asyncio.gather(*(call(gateway, "s", id) for id in range(20)))
        for id, answer in enumerate(answers):
            data = gateway_error(answer, id, "stateless", "s", {"outbound_proxy"}, {"no"})
            told[(data["proxyError"], data["stage"])] += 1
    assert told == {("proxy.protocol", "tunnel"): 200}
    assert proxy.dials() == 200


@pytest.mark.parametrize("mode", ["http-hang", "socks-hang-greeting"])
async def test_hanging_proxy_frees_its_place(gateway_of, tokens, faulty, mode):
    """F62: those who wait for another's login hear of it when their own time is over, and do not dial any more then."""
    proxy = faulty(closed=True)
    gateway = start(gateway_of, {"s": entry(tokens, login(proxy, mode))}, limits={"connectTimeout": "1s"})
    proxy.open()

    async def hangs(id):
        data = gateway_error(await call(gateway, "s", id), id, "stateless", "s", {"outbound_proxy"}, {"no"})
        assert data["proxyError"] == "proxy.connect.timeout" and data["retryable"], data

    began = time.monotonic()
    await asyncio.gather(*(hangs(id) for id in range(CROWD)))
    assert 0.9 < time.monotonic() - began < 2.5
    dialled = proxy.dials()
    assert dialled <= CROWD / 5, "the others' time is over with the first one's, or a moment later"
    await asyncio.sleep(1.5)
    assert proxy.dials() == dialled, "somebody dials whom nobody waits for"
    began = time.monotonic()
    await hangs(1)
    assert 0.9 < time.monotonic() - began < 2.5
    assert proxy.dials() == dialled + 1
    no_token_is_blamed(gateway, "s")


@pytest.mark.long
async def test_rejected_password_is_tried_again_later(gateway_of, tokens, faulty):
    """F63: for 10 s nobody tries, then one does; after that it takes longer."""
    proxy = faulty(closed=True)
    gateway = start(gateway_of, {"s": entry(tokens, login(proxy, "http-407-always"))})
    proxy.open()
    await refused(gateway, "s")
    began = time.monotonic()
    while (left := began + 9.3 - time.monotonic()) > 0:
        told, _ = await crowd(gateway, "s", 5)
        assert all(data["retryAfterMs"] <= 10_000 for data in told)
        await asyncio.sleep(min(1, left))
    assert proxy.dials() == 1, "within ten seconds"
    await asyncio.sleep(began + 10.3 - time.monotonic())
    await crowd(gateway, "s")
    assert proxy.dials() == 2, "after ten seconds"
    told, _ = await crowd(gateway, "s")
    assert proxy.dials() == 2
    assert all(10_000 < data["retryAfterMs"] <= 20_000 for data in told), told
    no_token_is_blamed(gateway, "s")


async def test_unknown_password_goes_alone(gateway_of, tokens, relay_of):
    """Until a user and password were accepted once, one login is under way at a time; then there are many."""
    port = free_port()
    proxy = {"url": f"http://127.0.0.1:{port}", "auth": {"username": USER, "password": PASSWORD}}
    gateway = start(gateway_of, {"s": entry(tokens, proxy)})
    relay = relay_of(port, hold=100, asks=True)
    answers = await asyncio.gather(*(call(gateway, "s", id) for id in range(CROWD)))
    assert [text_of(answer.reply(id)) for id, answer in enumerate(answers)] == [f"{id}" for id in range(CROWD)]
    began = relay.counts()["crowd"]
    assert [open for open, made in began if made == 0] == [1], began
    assert max(open for open, _ in began) > 1, began
    within_the_window(began)


def within_the_window(crowd):
    """Asserts that no more handshakes were under way at once than the gateway may have begun."""
    over = [pair for pair in crowd if pair[0] > WINDOW + pair[1]]
    assert not over, f"{len(over)} of {len(crowd)} dials, the first of them {over[:5]}; it all began {crowd[:20]}"


@pytest.mark.deadline(120)
async def test_proxy_dies_under_streams(gateway_of, tokens, relay_of):
    """F80: the proxy dies with 300 streams and 100 calls in it: each call hears of it within a second, and when the proxy
    is back so are the streams, without running it over."""
    relay = relay_of(hold=20, asks=True)
    port = relay.port
    limits = {"sessionsPerToken": 2 * STREAMS}
    options = {"pingInterval": 0, "reconnectInterval": "1s", "logEnabled": False}
    servers = {"s": entry(tokens, relay.entry(), "/sessions", "handshake"), "t": entry(tokens, relay.entry())}
    gateway = start(gateway_of, servers, options=options, limits=limits, log_level="info")
    within_the_window(relay.counts()["crowd"])
    wires = []
    try:
        callers = [await Caller.open(gateway, "s")]
        while len(callers) < STREAMS:
            callers += await asyncio.gather(*(Caller.open(gateway, "s") for _ in range(min(50, STREAMS - len(callers)))))
        streams = await asyncio.gather(*(caller.stream() for caller in callers))
        wires += [wire for wire, _ in streams]
        assert all(answer.status == 200 for _, answer in streams)
        await until("all are open upstream", lambda: len(tokens.state()["streams"]) == STREAMS, 30)
        calls = await asyncio.gather(*(c.send(call_of("sleep", {"ms": 60_000}, id=1)) for c in callers[:CALLS]))
        wires += calls
        await until("all calls run", lambda: tokens.count("tools/call") == CALLS, 30)

        relay.process.kill()
        died = time.monotonic()

        async def told(wire):
            answer = await wire.rest(await wire.head())
            data = gateway_reply(answer.reply(1), "s", {"upstream_closed"}, {"unknown"})
            return data, time.monotonic() - died

        heard = await asyncio.gather(*(told(wire) for wire in calls))
        assert max(after for _, after in heard) < 1, sorted(after for _, after in heard)[-5:]
        relay.process.wait(10)  # the system closes the connections of a dying process one by one, and perhaps its port last
        answer = await call(gateway, "t")
        if answer.reply(1)["error"]["data"]["reason"] == "upstream_closed":
            answer = await call(gateway, "t")  # the first crossed with the end of a connection that was kept
        data = gateway_error(answer, 1, "stateless", "t", {"outbound_proxy"}, {"no"})
        assert data["proxyError"] == "proxy.connect.refused" and data["retryable"], data
        await asyncio.sleep(max(0, died + 1 - time.monotonic()))

        relay.kill()
        relay = relay_of(port, hold=50, asks=True)
        back = time.monotonic()

        async def works():
            return "result" in (await call(gateway, "t")).reply(1)

        await until("a call works", works, 5)
        first = time.monotonic() - back
        await until("all streams are back", lambda: len(tokens.state()["streams"]) == STREAMS, 20)
        print(f"the first call after {first:.2f} s, the last stream after {time.monotonic() - back:.2f} s")
        counts = relay.counts()
        within_the_window(counts["crowd"])
        assert counts["dials"] <= 2 * STREAMS, "each stream dials once, or nearly"
        tokens.broadcast()

        async def event(wire, answer):
            async for event in wire.events(answer, 10):
                if "list_changed" in event.get("data", ""):
                    return
            raise AssertionError("the stream ended without its event")

        await asyncio.gather(*(event(wire, answer) for wire, answer in streams))
    finally:
        for wire in wires:
            wire.abort()
    for name in servers:
        no_token_is_blamed(gateway, name)


@pytest.mark.parametrize("path, era", [("/plain", "stateless"), ("/sessions", "handshake")])
async def test_slow_answer_burns_no_token(gateway_of, tokens, relay_of, path, era):
    """A call that times out through a proxy says nothing of the token: the next goes out with the same."""
    relay = relay_of(asks=True)
    gateway = start(gateway_of, {"s": entry(tokens, relay.entry(), path, era, timeout="1s")})
    tokens.clear()
    caller = await Caller.open(gateway, "s") if era == "handshake" else None

    async def ask(id, tool, **arguments):
        if caller is None:
            return await call(gateway, "s", id, tool, **arguments)
        return await caller.call(tool, {"text": f"{id}", **arguments}, id)

    slow = await ask(1, "sleep", ms=5000)
    gateway_error(slow, 1, era, "s", {"upstream_timeout"}, {"unknown"})
    no_token_is_blamed(gateway, "s")
    assert text_of((await ask(2, "echo")).reply(2)) == "2"
    assert tokens.sends("tools/call") == "A A"
