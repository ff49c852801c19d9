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
@pytest.mark.parametrize("wave", [FIRST, SESSIONS - FIRST], ids=["in-waves", "at-once"])
async def test_abandoned_sessions(gateway_of, raw, wave):
    """After `sessionIdle` their memory is given back and the upstream is told, each of them.

    In waves of a thousand nothing may add up; all at once, what so many needed for two seconds is not kept either.
    """
    entry = {"url": f"http://127.0.0.1:{raw.port}/sessions", "protocol": "handshake"}
    limits = {"sessionIdle": "2s", "sessions": 2 * SESSIONS, "sessionsPerToken": 2 * SESSIONS}
    options = {"pingInterval": 0, "logEnabled": False}
    gateway = gateway_of({"s": entry}, limits=limits, options=options, log_level="info")
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

    def grown():
        return (gateway.child.rss() - resident) / MEGABYTE

    async def forgotten():
        await until("all are forgotten", lambda: gateway.metric("sessions", server="s") == 0, 30)
        await until("and upstream", lambda: raw.control("/control/clear")["sessions"] == 0, 30)

    await open_all(FIRST)
    resident = gateway.child.rss()
    await forgotten()
    descriptors = gateway.child.descriptors()
    for _ in range((SESSIONS - FIRST) // wave):
        await open_all(wave)
        last = time.monotonic()
        await forgotten()
    assert opened == SESSIONS
    while (left := last + 30 - time.monotonic()) > 0 and not (grown() < 5 and gateway.child.descriptors() <= descriptors + 2):
        await asyncio.sleep(min(0.2, left))
    print(f"{grown():.1f} MiB more than after the first {FIRST}")
    assert grown() < 5, f"{grown():.1f} MiB more than after the first {FIRST}"
    assert gateway.child.descriptors() <= descriptors + 2
    for wire in wires:
        wire.abort()
