# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Limits and timeouts: what is too much is refused, said so, and costs the others nothing."""

import asyncio
import json
import secrets
import time

import pytest
from harness.errors import gateway_error
from harness.processes import until
from harness.wire import Wire, headers_of, initialize, message, post, split

ERAS = ["handshake", "stateless"]
CALL = message("tools/call", {"name": "x", "arguments": {}})


def entry(raw, path, era="handshake", **more):
    return {"url": f"http://127.0.0.1:{raw.port}{path}", "protocol": era, **more}


async def open_stream(gateway, name, session):
    """A GET stream of the session: its connection and the head of the answer."""
    port, path = split(gateway.url(name))
    wire = await Wire.open(port, gateway.seen)
    fields = {"Authorization": f"Bearer {gateway.token}", "Accept": "text/event-stream"}
    if session:
        fields["Mcp-Session-Id"] = session
    await wire.request("GET", path, fields)
    return wire, await wire.head()


@pytest.mark.parametrize("era", ERAS)
async def test_busy_upstream(gateway_of, raw, era):
    """Beyond what runs and what waits a call is `overloaded`, and never ran; another upstream notices nothing."""
    limits = {"inFlightPerUpstream": 2, "queuePerUpstream": 1, "queueWait": "300ms"}
    gateway = gateway_of({"busy": entry(raw, "/fast?ms=1500", era), "free": entry(raw, "/fast", era)}, limits=limits)

    async def call(name, id):
        began = time.monotonic()
        body = message("tools/call", {"name": "x", "arguments": {}}, id=id, era=era)
        answer = await post(gateway.url(name), body, era=era, token=gateway.token, seen=gateway.seen)
        return id, answer, time.monotonic() - began

    busy = [asyncio.ensure_future(call("busy", id)) for id in range(4)]

    def ran():
        return [e for e in raw.control("/control/journal")["entries"] if e["rpc"] == "tools/call"]

    await until("two run", lambda: len(ran()) == 2)
    _, answer, took = await call("free", 99)
    assert answer.status == 200 and took < 1
    refused = []
    for id, answer, took in await asyncio.gather(*busy):
        if "error" in answer.reply(id):
            data = gateway_error(answer, id, era, "busy", {"overloaded"}, {"no"})
            assert data["retryable"], data
            assert era == "handshake" or answer.header("retry-after")
            refused.append(took)
    assert len(refused) == 2 and min(refused) < 0.25 and 0.25 < max(refused) < 1.2, refused
    assert len(ran()) == 3, "two, and the one of the other upstream"


async def test_sessions(gateway_of, raw):
    """At the cap the session that was idle the longest makes room; if all are in use, 503 says when to come again."""
    gateway = gateway_of({"s": entry(raw, "/sessions")}, limits={"sessions": 2})
    url, token = gateway.url("s"), gateway.token
    first = await initialize(url, token, gateway.seen)
    second = await initialize(url, token, gateway.seen)
    assert (await post(url, CALL, token=token, session=first)).status == 200  # now the second is the idler
    third = await initialize(url, token, gateway.seen)
    assert (await post(url, CALL, token=token, session=second)).status == 404
    assert (await post(url, CALL, token=token, session=first)).status == 200

    held = [await open_stream(gateway, "s", session) for session in (first, third)]
    assert [answer.status for _, answer in held] == [200, 200]
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
    answer = await post(url, message("initialize", params), token=token, seen=gateway.seen)
    assert answer.status == 503 and answer.header("retry-after"), (answer.status, answer.body)
    for wire, _ in held:
        wire.abort()


async def test_idle_session_ends(gateway_of, raw):
    """After `sessionIdle` without a call or stream a session is gone, here and upstream."""
    gateway = gateway_of({"s": entry(raw, "/sessions")}, limits={"sessionIdle": "1s"})
    session = await initialize(gateway.url("s"), gateway.token, gateway.seen)
    await until("the upstream's session is ended", lambda: raw.control("/control/journal")["sessions"] == 0, 15)
    answer = await post(gateway.url("s"), CALL, token=gateway.token, session=session, seen=gateway.seen)
    assert answer.status == 404


async def test_streams(gateway_of, raw):
    """One stream more than allowed is refused with 503 and a time."""
    gateway = gateway_of({"s": entry(raw, "/sessions")}, limits={"streams": 2})
    sessions = [await initialize(gateway.url("s"), gateway.token, gateway.seen) for _ in range(3)]
    held = [await open_stream(gateway, "s", session) for session in sessions]
    assert [answer.status for _, answer in held] == [200, 200, 503]
    assert held[2][1].header("retry-after")
    for wire, _ in held:
        wire.abort()


async def test_connections(gateway_of, raw):
    """A connection beyond the cap is told 503 and closed; when one goes there is room again."""
    gateway = gateway_of({"s": entry(raw, "/fast")}, limits={"connections": 3})
    port, path = split(gateway.url("s"))
    body = json.dumps(CALL).encode()
    fields = headers_of("handshake", CALL, gateway.token)
    held = [await Wire.open(port, gateway.seen) for _ in range(3)]
    for wire in held:
        assert (await wire.exchange("POST", path, fields, body)).status == 200
    async with await Wire.open(port, gateway.seen) as extra:
        answer = await extra.rest(await extra.head(5))
        assert answer.status == 503 and answer.header("retry-after")
        assert await extra.closed(5)
    held.pop().abort()

    async def served():
        async with await Wire.open(port, gateway.seen) as wire:
            try:
                return (await wire.exchange("POST", path, fields, body)).status == 200
            except (ConnectionError, asyncio.IncompleteReadError):
                return False

    for _ in range(100):
        if await served():
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("no room although one has gone")
    for wire in held:
        wire.abort()


async def test_bodies_are_held_within_bounds(gateway_of, raw):
    """Bodies on their way cost at most twice their size and 64 KiB each, by the gauge and by the memory."""
    gateway = gateway_of({"s": entry(raw, "/fast")}, log_level="info")
    port, path = split(gateway.url("s"))
    size, count, sent = 2 << 20, 20, 1 << 20
    before = gateway.child.rss()
    wires = []
    for n in range(count):
        call = message("tools/call", {"name": "x", "arguments": {"pad": ""}}, id=n)
        fields = {**headers_of("handshake", call, gateway.token), "Content-Length": str(size)}
        wires.append(await Wire.open(port))
        await wires[-1].request("POST", path, fields, json.dumps(call).encode()[:-3] + b"a" * sent)

    def held():
        return gateway.metric("buffered_bytes") >= count * sent * 0.9

    await until("all that was sent is held", held)
    assert gateway.metric("buffered_bytes") <= count * (2 * sent + 64 * 1024)
    assert gateway.child.rss() - before < count * (2 * sent + 64 * 1024) + (8 << 20)
    for wire in wires:
        wire.abort()
    await until("nothing is held when they have gone", lambda: gateway.metric("buffered_bytes") == 0)


@pytest.mark.xdist_group("2x")
@pytest.mark.parametrize("era", ERAS)
async def test_progress_keeps_a_call_alive(gateway_of, servers, era):
    """A call whose progress comes may take longer than `timeout`; a silent one may not."""
    gateway = gateway_of({"s": {"url": servers["2x"].url, "timeout": "1s"}})
    session = await initialize(gateway.url("s"), gateway.token, gateway.seen) if era == "handshake" else ""
    params = {"name": "progress", "arguments": {"steps": 10, "interval": 0.25}, "_meta": {"progressToken": "p"}}
    more = {"era": era, "token": gateway.token, "session": session, "seen": gateway.seen}
    answer = await post(gateway.url("s"), message("tools/call", params, id=3, era=era), **more)
    assert answer.reply(3)["result"]["content"][0]["text"] == "10 steps"


@pytest.mark.xdist_group("2x")
@pytest.mark.parametrize("era", ERAS)
async def test_timeout_is_passed_on(gateway_of, servers, era):
    """When its time is over the caller is told, and the upstream's tool is cancelled in the way of its era."""
    gateway, server = gateway_of({"s": {"url": servers["2x"].url, "timeout": "1s"}}), servers["2x"]
    session = await initialize(gateway.url("s"), gateway.token, gateway.seen) if era == "handshake" else ""
    nonce = secrets.token_hex(8)
    call = message("tools/call", {"name": "slow", "arguments": {"seconds": 30, "nonce": nonce}}, id=11, era=era)
    began = time.monotonic()
    answer = await post(gateway.url("s"), call, era=era, token=gateway.token, session=session, seen=gateway.seen)
    assert 0.9 < time.monotonic() - began < 3
    gateway_error(answer, 11, era, "s", {"upstream_timeout"}, {"unknown"})
    await until("the tool is cancelled", lambda: "cancelled" in [t["phase"] for t in server.journal(nonce)["tools"]], 5)


async def test_upstream_comes_back(gateway_of):
    """Within two seconds of an upstream's return its calls are answered again."""
    from harness.processes import PEERS, Upstream, free_port

    port = free_port()
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{port}/fast"}}, startupGracePeriod="250ms")
    for _ in range(10):
        answer = await post(gateway.url("s"), CALL, token=gateway.token)
        gateway_error(answer, 1, "handshake", "s", {"unreachable"}, {"no"})
    upstream = await asyncio.to_thread(Upstream, "2x", PEERS / "raw_upstream.py", str(port))
    try:
        began = time.monotonic()
        while "error" in (answer := await post(gateway.url("s"), CALL, token=gateway.token)).reply(1):
            assert time.monotonic() - began < 2, answer.body
            await asyncio.sleep(0.05)
    finally:
        upstream.kill()


PER_TOKEN = 3
OTHER = "CANARY-other-" + "2" * 32
# What the sessions of one token differ in, one after the other: the server, and what is forwarded.
DIFFERENCES = {
    "users": [("one", f"user-{n}") for n in range(10)],
    "servers": [(("one", "two")[n % 2], "") for n in range(10)],
    "both": [(("one", "two")[n % 2], f"user-{n}") for n in range(10)],
}


@pytest.mark.gateway_only
@pytest.mark.parametrize("differ", DIFFERENCES)
async def test_sessions_of_one_token(gateway_of, raw, differ):
    """A token has `sessionsPerToken` sessions, whatever it forwards and wherever: the idlest makes room, and nobody else's."""
    servers = {name: entry(raw, "/sessions", options={"forwardHeaders": ["X-User"]}) for name in ("one", "two")}
    first = "CANARY-first-" + "1" * 32
    gateway = gateway_of(servers, limits={"sessionsPerToken": PER_TOKEN}, options={"authTokens": [first, OTHER]})
    gateway.token = first
    gateway.wait_until_ready()
    await until("the probes' sessions are ended", lambda: raw.control("/control/journal")["sessions"] == 0)

    async def open_as(name, user, token):
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
        more = {"token": token, "seen": gateway.seen, "more": {"X-User": user} if user else {}}
        answer = await post(gateway.url(name), message("initialize", params), **more)
        assert answer.status == 200, (answer.status, answer.body)
        return name, user, token, answer.header("mcp-session-id")

    async def status(name, user, token, session):
        more = {"token": token, "seen": gateway.seen, "more": {"X-User": user} if user else {}}
        return (await post(gateway.url(name), CALL, session=session, **more)).status

    others = await open_as("one", "", OTHER)
    opened = []
    for name, user in DIFFERENCES[differ]:
        opened.append(await open_as(name, user, first))
        await until("no more are open", lambda: raw.control("/control/journal")["sessions"] <= PER_TOKEN + 1, 3)
    assert [await status(*session) for session in opened] == [404] * (10 - PER_TOKEN) + [200] * PER_TOKEN
    assert await status(*others) == 200, "another token's is left alone"

    wires = []
    for name, user, token, session in opened[-PER_TOKEN:]:
        port, path = split(gateway.url(name))
        wires.append(await Wire.open(port, gateway.seen))
        fields = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream", "Mcp-Session-Id": session}
        await wires[-1].request("GET", path, {**fields, **({"X-User": user} if user else {})})
        assert (await wires[-1].head()).status == 200
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
    for name, user in DIFFERENCES[differ][:2]:
        more = {"X-User": user} if user else {}
        answer = await post(gateway.url(name), message("initialize", params), token=first, more=more)
        assert answer.status == 503 and answer.header("retry-after"), (answer.status, answer.body)
    assert await status(*await open_as("two", "", OTHER)) == 200, "all of one token's are in use, not the other's"
    for wire in wires:
        wire.abort()


@pytest.mark.gateway_only
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("limit,levels,is_read", [(16, 2, True), (16, 16, False), (300, 100, True), (300, 200, False)])
async def test_depth_of_a_filtered_list(gateway_of, raw, era, limit, levels, is_read):
    """A list of tools is filtered up to the nesting of `jsonDepth`; beyond it is an error, and not shown as it came."""
    # Each level of the schema is two of the message.
    filtered = entry(raw, f"/tools?depth={levels}", era, options={"toolFilter": {"mode": "block", "list": ["danger"]}})
    gateway = gateway_of({"s": filtered}, limits={"jsonDepth": limit})
    body = message("tools/list", era=era)
    answer = await post(gateway.url("s"), body, era=era, token=gateway.token, seen=gateway.seen)
    if is_read:
        assert [tool["name"] for tool in answer.reply(1)["result"]["tools"]] == ["echo"]
    else:
        gateway_error(answer, 1, era, "s", {"upstream_protocol"}, {"yes", "unknown"})
