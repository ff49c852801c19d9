# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Clients that never say goodbye: ten thousand sessions are opened and left, and nothing is left of them."""

import asyncio
import json
import time

import pytest
from harness.callers import CLIENT
from harness.processes import until
from harness.wire import Wire, headers_of, message, split

pytestmark = pytest.mark.gateway_only

SESSIONS = 10_000
FIRST = 1000
CONNECTIONS = 50
MEGABYTE = 1 << 20
PARAMS = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
INITIALIZE = message("initialize", PARAMS, id=0)
CALL = message("tools/call", {"name": "x", "arguments": {}}, id=1)


@pytest.mark.long
@pytest.mark.deadline(120)
async def test_abandoned_sessions(gateway_of, raw):
    """After `sessionIdle` their memory is given back and the upstream is told, each of them."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/sessions", "protocol": "handshake"}
    limits = {"sessionIdle": "2s", "sessions": 2 * SESSIONS, "sessionsPerToken": 2 * SESSIONS}
    options = {"pingInterval": 0, "logEnabled": False}
    gateway = gateway_of({"s": entry}, limits=limits, options=options, log_level="warning")
    gateway.wait_until_ready()
    port, path = split(gateway.url("s"))
    wires = [await Wire.open(port) for _ in range(CONNECTIONS)]
    opened = 0

    async def open_and_leave(wire, count):
        nonlocal opened
        for _ in range(count):
            session = ""
            for body in (INITIALIZE, CALL):
                fields = headers_of("handshake", body, gateway.token, session)
                answer = await wire.exchange("POST", path, fields, json.dumps(body).encode())
                assert answer.status == 200 and "result" in answer.json(), (answer.status, answer.body)
                session = session or answer.header("mcp-session-id")
            opened += 1
            wire.seen.clear()

    async def open_all(count):
        began = time.monotonic()
        await asyncio.gather(*(open_and_leave(wire, count // CONNECTIONS) for wire in wires))
        print(f"{count} sessions in {time.monotonic() - began:.1f} s, {gateway.child.rss() >> 10} KiB")

    async def forgotten():
        await until("all are forgotten", lambda: gateway.metric("sessions", server="s") == 0, 30)
        await until("and upstream", lambda: raw.control("/control/clear")["sessions"] == 0, 30)

    await open_all(FIRST)
    resident = gateway.child.rss()
    await forgotten()
    descriptors = gateway.child.descriptors()
    await open_all(SESSIONS - FIRST)
    last = time.monotonic()
    await forgotten()
    assert opened == SESSIONS
    await until("memory is given back", lambda: gateway.child.rss() - resident < 5 * MEGABYTE, 30)
    await until("descriptors are back", lambda: gateway.child.descriptors() <= descriptors + 2, 30)
    assert time.monotonic() - last < 30
    print(f"{gateway.child.rss() >> 10} KiB after all, {resident >> 10} KiB after the first {FIRST}")
    for wire in wires:
        wire.abort()
