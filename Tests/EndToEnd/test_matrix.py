# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Official clients against official servers, feature by feature: through the gateway as if it were not there."""

import pytest
from harness.clients import CLIENTS

SERVERS = ["2x", "2x-json", "1x", "1x-stateless"]
ROWS = [
    "tools",
    "unicode",
    "exact_numbers",
    "result_64_kib",
    "result_1_mib",
    "argument_1_mib",
    "failing_tool",
    "unknown_tool",
    "prompts",
    "resources",
    "templates",
    "completion",
    "progress",
    "logging",
    "elicitation",
    "sampling",
    "subscription",
    "ping",
    "calls_40",
]
HANDSHAKE_VERSIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]


def era(client: str, server: str) -> str:
    """The era in which the two meet."""
    return "stateless" if client in ("2x-auto", "2x-2026") and server.startswith("2x") else "handshake"


def possible(client: str, server: str, row: str) -> bool:
    """Whether the two can do this with nothing between them; `direct` proves each yes."""
    if client == "2x-2026" and server.startswith("1x"):
        return False  # they do not meet at all: test_version_refused
    if row == "ping":
        return era(client, server) == "handshake"  # removed in 2026-07-28
    if row in ("progress", "logging"):
        return server != "2x-json"  # one JSON answer has no room for notifications
    if row in ("elicitation", "sampling"):
        # A server's question needs a stream to go out on and a session to come back to; 2026-07-28 asks in the result.
        return era(client, server) == "stateless" or server in ("2x", "1x")
    if row == "subscription":
        return server != "1x-stateless"
    return True


CASES = [
    pytest.param(client, server, row, id=f"{client}-to-{server}-{row}", marks=pytest.mark.xdist_group(server))
    for server in SERVERS
    for client in CLIENTS
    for row in ROWS
    if possible(client, server, row)
]


@pytest.mark.parametrize("client,server,row", CASES)
def test_feature(clients, routes, route_kind, client, server, row):
    """A client does what it could do without a proxy."""
    route = routes.get(route_kind, server)
    result = clients.run(client, row, route.url(server), route.token)
    if row == "tools":
        assert result == era(client, server)


@pytest.mark.gateway_only
@pytest.mark.parametrize("server", [pytest.param(s, marks=pytest.mark.xdist_group(s)) for s in ("1x", "1x-stateless")])
def test_version_refused(clients, routes, route_kind, server):
    """A client that insists on 2026-07-28 learns from a handshake-only server's gateway which versions there are."""
    route = routes.get(route_kind, server)
    error = clients.run("2x-2026", "version_refused", route.url(server), route.token)
    assert error["code"] == -32022, error
    assert error["data"]["requested"] == "2026-07-28"
    assert error["data"]["supported"] and set(error["data"]["supported"]) <= set(HANDSHAKE_VERSIONS), error
