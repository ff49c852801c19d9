# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Clients beside each other: the same JSON-RPC ids and progress tokens at the same time, and never each other's answers."""

import asyncio
import json
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.processes import until
from harness.wire import Wire, headers_of, initialize, message, post, split

pytestmark = pytest.mark.xdist_group("2x")


def test_official_clients_side_by_side(clients, routes, route_kind, servers):
    """Twelve clients of both SDKs and both eras, 15 calls each, five at once, all counting their ids from the start."""
    url, token = routes.get(route_kind, "2x").url("2x"), routes.get(route_kind, "2x").token
    kinds = ["2x-legacy", "2x-2026", "1x"]
    with ThreadPoolExecutor() as pool:
        rows = [pool.submit(clients.run_apart, kind, "same_ids", url, token, clients=4, calls=15) for kind in kinds]
        for row in rows:
            row.result()


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_equal_ids_and_tokens(routes, route_kind, servers, era):
    """Twenty callers use id 1 and progress token 1 at the same time; each sees its own progress and its own answer."""
    route = routes.get(route_kind, "2x")

    async def caller(n):
        label = f"caller-{n}-{secrets.token_hex(4)}"
        session = await initialize(route.url("2x"), route.token, route.seen) if era == "handshake" else ""
        params = {"name": "labelled", "arguments": {"label": label, "steps": 5}, "_meta": {"progressToken": 1}}
        call = message("tools/call", params, id=1, era=era)
        answer = await post(route.url("2x"), call, era=era, token=route.token, session=session, seen=route.seen)
        assert answer.reply(1)["result"]["content"][0]["text"] == label
        steps = [m["params"] for m in answer.messages() if m.get("method") == "notifications/progress"]
        assert [step["message"] for step in steps] == [f"{label} {n}" for n in range(5)]
        assert all(step["progressToken"] == 1 for step in steps), "the token comes back as it was given"

    await asyncio.gather(*(caller(n) for n in range(20)))


async def test_other_tokens_session(gateway_of, servers):
    """A session is its opener's alone: to another token its id is like one that never was."""
    other = "CANARY-other-" + secrets.token_hex(16)
    first = "CANARY-first-" + secrets.token_hex(16)
    server = servers["2x"]
    gateway = gateway_of({"2x": {"url": server.url}}, options={"authTokens": [first, other]})
    url = gateway.url("2x")
    mine = await initialize(url, first, gateway.seen)
    call = message("tools/call", {"name": "echo", "arguments": {"text": "x"}})
    answer = await post(url, call, token=first, session=mine, seen=gateway.seen)
    assert answer.status == 200

    theirs = await post(url, call, token=other, session=mine, seen=gateway.seen)
    unknown = await post(url, call, token=other, session="0" * len(mine), seen=gateway.seen)
    assert theirs.status == unknown.status == 404
    assert theirs.body == unknown.body and dict(theirs.fields).keys() == dict(unknown.fields).keys()

    port, path = split(url)
    for method, accepted in (("GET", "text/event-stream"), ("DELETE", "*/*")):
        async with await Wire.open(port, gateway.seen) as wire:
            fields = {"Authorization": f"Bearer {other}", "Mcp-Session-Id": mine, "Accept": accepted}
            assert (await wire.exchange(method, path, fields)).status == 404
    answer = await post(url, call, token=first, session=mine, seen=gateway.seen)
    assert answer.status == 200, "its owner still has it"


async def test_callers_notifications_stay_theirs(routes, route_kind, servers):
    """`notifications/cancelled` of one session does not reach the call of the same id in another."""
    route, server = routes.get(route_kind, "2x"), servers["2x"]
    sessions = [await initialize(route.url("2x"), route.token, route.seen) for _ in range(2)]
    nonce = secrets.token_hex(8)
    call = message("tools/call", {"name": "slow", "arguments": {"seconds": 1, "nonce": nonce}}, id=5)
    port, path = split(route.url("2x"))
    async with await Wire.open(port, route.seen) as wire:
        await wire.request("POST", path, headers_of("handshake", call, route.token, sessions[0]), json.dumps(call).encode())
        await until("the tool runs", lambda: server.journal(nonce)["tools"])
        cancel = message("notifications/cancelled", {"requestId": 5, "reason": nonce}, id=None)
        answer = await post(route.url("2x"), cancel, token=route.token, session=sessions[1], seen=route.seen)
        assert answer.status == 202
        answer = await wire.rest(await wire.head())
        assert nonce in json.dumps(answer.reply(5)["result"]), "it was not cancelled"


async def test_own_cancellation_reaches_the_call(routes, route_kind, servers):
    """`notifications/cancelled` of a handshake caller cancels its own call upstream."""
    route, server = routes.get(route_kind, "2x"), servers["2x"]
    session = await initialize(route.url("2x"), route.token, route.seen)
    nonce = secrets.token_hex(8)
    call = message("tools/call", {"name": "slow", "arguments": {"seconds": 60, "nonce": nonce}}, id="five")
    port, path = split(route.url("2x"))
    async with await Wire.open(port, route.seen) as wire:
        await wire.request("POST", path, headers_of("handshake", call, route.token, session), json.dumps(call).encode())
        await until("the tool runs", lambda: server.journal(nonce)["tools"])
        cancel = message("notifications/cancelled", {"requestId": "five", "reason": nonce}, id=None)
        answer = await post(route.url("2x"), cancel, token=route.token, session=session, seen=route.seen)
        assert answer.status == 202
        await until("it is cancelled", lambda: "cancelled" in [t["phase"] for t in server.journal(nonce)["tools"]], 5)
