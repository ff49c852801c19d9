# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Callers that go away in the middle, told from what the upstream saw.

2026-07-28: closing the stream is the cancellation. The handshake's revisions: it is not, and the call runs to its end.
"""

import json
import secrets
import time

import pytest
from harness.processes import until
from harness.wire import Wire, headers_of, initialize, message, post, split

AT_ONCE = 0.1


async def start(route, name, era, tool, nonce, seconds, session=""):
    """Sends a call that takes this long, and gives its connection once the upstream runs it."""
    params = {"name": tool, "arguments": {"seconds": seconds, "nonce": nonce}, "_meta": {"progressToken": nonce}}
    call = message("tools/call", params, id=7, era=era)
    port, path = split(route.url(name))
    wire = await Wire.open(port, route.seen)
    await wire.request("POST", path, headers_of(era, call, route.token, session), json.dumps(call).encode())
    return wire


def phases(server, nonce):
    return [entry["phase"] for entry in server.journal(nonce)["tools"]]


def exchange(server, nonce):
    """What the upstream saw of the one request that carries the nonce."""
    requests = [r for r in server.journal(nonce)["requests"] if r["rpc"] == "tools/call"]
    assert len(requests) == 1, requests
    return requests[0]


@pytest.mark.parametrize("flavor", [pytest.param(f, marks=pytest.mark.xdist_group(f)) for f in ("2x", "2x-json")])
@pytest.mark.parametrize("tool", ["slow", "watched"])
async def test_stateless_departure_cancels(routes, route_kind, servers, flavor, tool):
    """The upstream's exchange is closed within 100 ms, before the first byte of the answer and after it."""
    route, server, nonce = routes.get(route_kind, flavor), servers[flavor], secrets.token_hex(8)
    wire = await start(route, flavor, "stateless", tool, nonce, 60)
    await until("the tool runs", lambda: "started" in phases(server, nonce))
    if tool == "watched" and flavor == "2x":
        answer = await wire.head()
        await anext(wire.events(answer))
    left = time.monotonic()
    wire.abort()
    await until("the upstream's exchange ends", lambda: exchange(server, nonce)["ended"], 5)
    seen = exchange(server, nonce)
    assert seen["ended"] == "caller gone"
    assert seen["t_ended"] - left < AT_ONCE, f"{seen['t_ended'] - left:.3f} s"
    if flavor == "2x":  # the SDK's JSON mode does not look after its caller
        await until("the tool is cancelled", lambda: "cancelled" in phases(server, nonce), 5)


@pytest.mark.gateway_only
@pytest.mark.parametrize("flavor", [pytest.param(f, marks=pytest.mark.xdist_group(f)) for f in ("2x", "2x-json", "1x")])
async def test_handshake_departure_does_not_cancel(routes, route_kind, servers, flavor):
    """The call runs to its end, and the upstream can give its whole answer."""
    route, server, nonce = routes.get(route_kind, flavor), servers[flavor], secrets.token_hex(8)
    session = await initialize(route.url(flavor), route.token, route.seen)
    wire = await start(route, flavor, "handshake", "slow", nonce, 1, session)
    await until("the tool runs", lambda: "started" in phases(server, nonce))
    wire.abort()
    await until("the tool finishes", lambda: "finished" in phases(server, nonce))
    await until("the answer is taken", lambda: exchange(server, nonce)["ended"])
    assert exchange(server, nonce)["ended"] == "answered"
    again = await post(
        route.url(flavor),
        message("tools/call", {"name": "echo", "arguments": {"text": nonce}}, id=8),
        token=route.token,
        session=session,
    )
    assert nonce in json.dumps(again.reply(8)["result"]), "the session goes on"


@pytest.mark.gateway_only
@pytest.mark.xdist_group("2x")
async def test_half_close_is_no_departure(routes, route_kind, servers):
    """A handshake caller that has said all it has to say still gets its answer (decision 0002)."""
    era = "handshake"
    route, nonce = routes.get(route_kind, "2x"), secrets.token_hex(8)
    session = await initialize(route.url("2x"), route.token, route.seen)
    wire = await start(route, "2x", era, "slow", nonce, 0.3, session)
    wire.writer.write_eof()
    answer = await wire.rest(await wire.head())
    assert nonce in json.dumps(answer.reply(7)["result"])


async def test_caller_that_does_not_read(gateway_of, faults):
    """It costs no more than a bounded buffer, holds the upstream back, and is cut after `slowReader`."""
    entry = {"url": f"http://127.0.0.1:{faults.port}/mcp/huge-body?n={256 << 20}", "protocol": "handshake"}
    gateway = gateway_of({"huge": entry}, limits={"slowReader": "1s"}, log_level="info")
    before = gateway.child.rss()
    call = message("tools/call", {"name": "x", "arguments": {}})
    port, path = split(gateway.url("huge"))
    wires = []
    for _ in range(20):
        wires.append(await Wire.open(port))
        await wires[-1].request("POST", path, headers_of("handshake", call, gateway.token), json.dumps(call).encode())
        wires[-1].writer.transport.pause_reading()
    began = time.monotonic()

    def cut():
        return gateway.child.descriptors() <= gateway._descriptors + 4

    await until("all are cut", cut, 15)
    assert time.monotonic() - began < 10
    assert gateway.child.rss("VmHWM") - before < 20 * 1024 * 1024, gateway.child.rss("VmHWM") - before
    for wire in wires:
        wire.abort()
