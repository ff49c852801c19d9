# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The first caller of a server that speaks the handshake alone, if it asks `server/discover` first, as SDKs 2.x do."""

import pytest
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

HANDSHAKE = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
SHARED, OWN = {"options": {"isolation": "shared"}}, {"options": {"isolation": "session"}}


async def test_client_that_discovers_first(clients, servers, gateway_of):
    """Before anybody has initialized it is told which versions there are, and so it goes on: at every kind of server."""
    entries = {
        "sse": servers["1x-sse"].entry,
        "sse-shared": servers["1x-sse"].entry | SHARED,
        "http-untyped": {"url": servers["1x"].url},
        "http-shared": servers["1x"].entry | SHARED,
        "http-handshake": servers["1x"].entry | {"protocol": "handshake"},
        "stdio": servers["1x-stdio"].entry,
        "stdio-own": servers["1x-stdio"].entry | OWN,
    }
    gateway = gateway_of(entries, options={"pingInterval": 0})
    gateway.wait_until_ready()
    for name in entries:
        body = message("server/discover", {}, id=7, era="stateless")
        answer = await post(gateway.url(name), body, era="stateless", token=gateway.token, seen=gateway.seen)
        error = answer.reply(7)["error"]
        assert answer.status == 400 and error["code"] == -32022, (name, answer.body)
        assert error["data"] == {"supported": HANDSHAKE, "requested": "2026-07-28"}, name
    for name in entries:
        assert clients.run("2x-auto", "tools", gateway.url(name), gateway.token) == "handshake", name
