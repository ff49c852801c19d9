# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Streams that last, and streams in thousands."""

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.processes import until
from harness.wire import Wire, headers_of, initialize, message, post, split

MINUTE = float(os.environ.get("E2E_STREAM_SECONDS", 60))
STREAMS = 2000
BYTES_PER_STREAM = 40 * 1000
PAIRS = [("2x-legacy", "2x"), ("2x-2026", "2x"), ("1x", "1x"), ("1x", "1x-stateless")]


@pytest.mark.long
@pytest.mark.gateway_only
@pytest.mark.deadline(MINUTE + 60)
async def test_open_for_a_minute(clients, gateway_of, servers):
    """Streams of calls stay open for a minute, each event promptly passed on; so do a silent call and a GET stream."""
    gateway = gateway_of({flavor: {"url": servers[flavor].url} for flavor in ("2x", "1x", "1x-stateless")})
    loop = asyncio.get_running_loop()
    url, token = gateway.url("2x"), gateway.token

    async def silent_call(era):
        session = await initialize(url, token, gateway.seen) if era == "handshake" else ""
        call = message("tools/call", {"name": "slow", "arguments": {"seconds": MINUTE, "nonce": "silence"}}, era=era)
        answer = await post(url, call, era=era, token=token, session=session, seen=gateway.seen, deadline=MINUTE + 30)
        assert "silence" in json.dumps(answer.reply(1)["result"])

    async def idle_stream():
        session = await initialize(url, token, gateway.seen)
        port, path = split(url)
        fields = {"Authorization": f"Bearer {token}", "Mcp-Session-Id": session, "Accept": "text/event-stream"}
        async with await Wire.open(port, gateway.seen) as wire:
            await wire.request("GET", path, fields)
            answer = await wire.head()
            assert answer.status == 200
            await asyncio.sleep(MINUTE)
            touch = message("tools/call", {"name": "touch", "arguments": {"uri": "memo://first"}})
            assert (await post(url, touch, token=token, session=session)).status == 200
            async for event in wire.events(answer):
                if "notifications/resources/updated" in event.get("data", ""):
                    return
            raise AssertionError("the stream ended")

    with ThreadPoolExecutor() as pool:
        ticking = [
            loop.run_in_executor(
                pool,
                lambda kind=kind, flavor=flavor: clients.run_apart(
                    kind, "ticks", gateway.url(flavor), token, deadline=MINUTE + 30, seconds=MINUTE, interval=0.5
                ),
            )
            for kind, flavor in PAIRS
        ]
        await asyncio.gather(silent_call("handshake"), silent_call("stateless"), idle_stream())
        for result in await asyncio.gather(*ticking):
            assert result["events"] == result["steps"], result
            assert result["lasted"] > 0.9 * MINUTE and result["longest"] < 3, result


@pytest.mark.deadline(120)
@pytest.mark.parametrize("kind", ["get", "listen"])
async def test_idle_streams_are_cheap(gateway_of, raw, kind):
    """2000 idle streams cost less than 40 KB each, both sides together, and each still gets its event."""
    path = {"get": "/sessions", "listen": "/listen"}[kind]
    era = {"get": "handshake", "listen": "stateless"}[kind]
    entry = {"url": f"http://127.0.0.1:{raw.port}{path}", "protocol": era}
    gateway = gateway_of({"s": entry}, limits={"sessionsPerToken": 5000, "inFlightPerUpstream": 5000}, log_level="info")
    port, target = split(gateway.url("s"))
    wires: list[Wire] = []
    heads = []

    async def open_stream(n):
        wire = await Wire.open(port)
        wires.append(wire)
        if kind == "get":
            params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
            body = message("initialize", params, id=0)
            opened = await wire.exchange("POST", target, headers_of(era, body, gateway.token), json.dumps(body).encode())
            session = opened.header("mcp-session-id")
            assert opened.status == 200 and session, (opened.status, opened.body)
            fields = {"Authorization": f"Bearer {gateway.token}", "Mcp-Session-Id": session}
            await wire.request("GET", target, {**fields, "Accept": "text/event-stream"})
        else:
            body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=n, era=era)
            await wire.request("POST", target, headers_of(era, body, gateway.token), json.dumps(body).encode())
        answer = await wire.head()
        assert answer.status == 200, await wire.rest(answer)
        heads.append((wire, answer))

    try:
        await open_stream(-1)  # what is made once, for the first, is not counted
        before = gateway.child.rss()
        for start in range(0, STREAMS, 50):
            await asyncio.gather(*(open_stream(n) for n in range(start, start + 50)))
        await until("all are open upstream", lambda: raw.control("/control/journal")["streams"] == STREAMS + 1, 30)
        each = (gateway.child.rss() - before) / STREAMS
        print(f"{kind}: {each / 1000:.1f} KB a stream, both sides together")
        assert each < BYTES_PER_STREAM, f"{each:.0f} bytes a stream"

        began = time.monotonic()
        assert (await asyncio.to_thread(raw.control, "/control/broadcast"))["streams"] == STREAMS + 1

        async def wait_for_event(wire, answer):
            async for event in wire.events(answer, 30):
                if "list_changed" in event.get("data", ""):
                    return
            raise AssertionError("the stream ended without its event")

        await asyncio.gather(*(wait_for_event(wire, answer) for wire, answer in heads))
        print(f"{kind}: the last of {STREAMS} events after {time.monotonic() - began:.2f} s")
    finally:
        for wire in wires:
            wire.abort()
    await asyncio.to_thread(gateway.settle, 20)
