# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A program is of the era of the first request that it reads: one for each era, whose callers share it."""

import asyncio
import json
import os
import secrets
import signal
import time

import pytest
from harness.callers import Caller, text_of
from harness.errors import gateway_error
from harness.processes import StdioEverything, until
from harness.wire import Wire, headers_of, message, post, split

pytestmark = [pytest.mark.gateway_only, pytest.mark.xdist_group("2x-stdio")]

ERA = "stateless"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


@pytest.fixture
def server():
    made = StdioEverything("2x-stdio")
    yield made
    made.kill()


@pytest.fixture(params=["shared", "session"])
def gateway(request, gateway_of, server):
    """Both ways of isolation: it has no effect on callers without sessions."""
    entry = {**server.entry, "options": {"isolation": request.param}}
    started = gateway_of({"up": entry}, options={"pingInterval": 0})
    started.wait_until_ready()
    return started


def call_of(tool, arguments, id=1, token=None):
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    return message("tools/call", {"name": tool, "arguments": arguments, **meta}, id=id, era=ERA)


async def call(gateway, tool, arguments, id=1, token=None):
    body = call_of(tool, arguments, id, token)
    return await post(gateway.url("up"), body, era=ERA, token=gateway.token, seen=gateway.seen)


async def start(gateway, body):
    """Sends a request and gives its connection."""
    port, path = split(gateway.url("up"))
    wire = await Wire.open(port, gateway.seen)
    await wire.request("POST", path, headers_of(ERA, body, gateway.token), json.dumps(body).encode())
    return wire


def phases(server, nonce):
    return [tool["phase"] for tool in server.journal(nonce)["tools"]]


async def test_one_program_an_era(gateway, server):
    """Callers of 2026-07-28 share one program; those of the handshake have another."""
    handshake = await Caller.open(gateway, "up")
    assert text_of(await handshake.ask("slow", {"seconds": 0, "nonce": "old"})) == "old"
    nonces = [secrets.token_hex(8) for _ in range(5)]
    answers = await asyncio.gather(*(call(gateway, "slow", {"seconds": 0.2, "nonce": nonce}) for nonce in nonces))
    assert [text_of(answer.reply(1)) for answer in answers] == nonces
    pids = {tool["pid"] for nonce in nonces for tool in server.journal(nonce)["tools"]}
    assert len(pids) == 1 and pids.isdisjoint(tool["pid"] for tool in server.journal("old")["tools"])


async def test_equal_ids_and_tokens(gateway):
    """Twenty callers use the same id and token at once; each sees its own progress and answer, as they were given."""

    async def one(n):
        label, id = f"caller-{n}-{secrets.token_hex(4)}", 1 if n % 2 else "1"
        answer = await call(gateway, "labelled", {"label": label, "steps": 5}, id=id, token=id)
        assert answer.status == 200 and text_of(answer.reply(id)) == label
        steps = [m["params"] for m in answer.messages() if m.get("method") == "notifications/progress"]
        assert [step["message"] for step in steps] == [f"{label} {n}" for n in range(5)]
        assert all(step["progressToken"] == id and type(step["progressToken"]) is type(id) for step in steps)

    await asyncio.gather(*(one(n) for n in range(20)))


async def test_departure_cancels(gateway, server):
    """Closing the stream is the cancellation: the program is told, and others are not disturbed."""
    goes, stays = secrets.token_hex(8), secrets.token_hex(8)
    staying = asyncio.create_task(call(gateway, "slow", {"seconds": 1, "nonce": stays}))
    async with await start(gateway, call_of("slow", {"seconds": 60, "nonce": goes})):
        await until("both run", lambda: phases(server, goes) and phases(server, stays))
    await until("it is cancelled", lambda: "cancelled" in phases(server, goes), 3)
    assert text_of((await staying).reply(1)) == stays


async def test_listeners(gateway):
    """Each listener is told of what it asked for, under the id of its own request."""
    uris = {"1": "memo://a", "2": "memo://b"}
    wires = []
    for id in ("1", "2", 1):
        wanted = {"resourceSubscriptions": [uris[str(id)]]}
        wire = await start(gateway, message("subscriptions/listen", {"notifications": wanted}, id=id, era=ERA))
        answer = await wire.head()
        assert answer.status == 200, await wire.rest(answer)
        events = wire.events(answer)
        first = json.loads((await anext(events))["data"])
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["_meta"][SUBSCRIPTION] == id and type(first["params"]["_meta"][SUBSCRIPTION]) is type(id)
        wires.append((id, wire, events))
    for uri in ("memo://b", "memo://a"):
        assert (await call(gateway, "touch", {"uri": uri}, id="touch")).status == 200
    for id, wire, events in wires:
        update = json.loads((await anext(events))["data"])
        assert update["method"] == "notifications/resources/updated", update
        assert update["params"]["uri"] == uris[str(id)]
        assert update["params"]["_meta"][SUBSCRIPTION] == id and type(update["params"]["_meta"][SUBSCRIPTION]) is type(id)
        wire.abort()


async def test_killed_program(gateway, server):
    """`kill -9` of the program of one era: its calls are told, the next works within 2 s of its own start, the other era sees nothing."""
    handshake = await Caller.open(gateway, "up")
    nonces = [secrets.token_hex(8) for _ in range(2)]
    old = asyncio.create_task(handshake.call("slow", {"seconds": 2, "nonce": nonces[0]}, id=1))
    began = time.monotonic()
    new = asyncio.create_task(call(gateway, "slow", {"seconds": 30, "nonce": nonces[1]}))
    await until("both run", lambda: all(phases(server, nonce) for nonce in nonces))
    started = time.monotonic() - began  # What this machine needs to start a program that uses the SDK.
    os.kill(server.journal(nonces[1])["tools"][0]["pid"], signal.SIGKILL)
    gateway_error(await new, 1, ERA, "up", {"child_exited"}, {"unknown"})
    began = time.monotonic()
    assert text_of((await call(gateway, "echo", {"text": "again"})).reply(1)) == "again"
    assert time.monotonic() - began < 2 + 2 * started, f"the program's first start took {started:.1f} s"
    assert "result" in (await old).reply(1)


async def test_what_is_discovered(gateway_of, servers):
    """`server/discover` is the program's own answer; of one that knows only the handshake it is -32022."""
    gateway = gateway_of({flavor: servers[flavor].entry for flavor in ("2x-stdio", "1x-stdio")})
    gateway.wait_until_ready()
    discover = message("server/discover", id="d", era=ERA)
    answer = await post(gateway.url("2x-stdio"), discover, era=ERA, token=gateway.token, seen=gateway.seen)
    assert answer.status == 200 and "2026-07-28" in answer.reply("d")["result"]["supportedVersions"]
    answer = await post(gateway.url("1x-stdio"), discover, era=ERA, token=gateway.token, seen=gateway.seen)
    assert answer.status == 400 and answer.reply("d")["error"]["code"] == -32022
    assert answer.reply("d")["error"]["data"]["requested"] == "2026-07-28"
