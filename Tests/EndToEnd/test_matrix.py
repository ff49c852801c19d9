# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Official clients against official servers, feature by feature: through the gateway as if it were not there."""

import pytest
from harness.clients import CLIENTS, SSE_CLIENTS

HTTP_SERVERS = ["2x", "2x-json", "1x", "1x-stateless"]
SSE_SERVERS = ["2x-sse", "1x-sse"]
STDIO_SERVERS = ["2x-stdio", "1x-stdio"]
SERVERS = [*HTTP_SERVERS, *SSE_SERVERS, *STDIO_SERVERS]
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
    """The era in which the two meet: 2026-07-28 has no HTTP+SSE."""
    both = client in ("2x-auto", "2x-2026") and server in ("2x", "2x-json", "2x-stdio")
    return "stateless" if both else "handshake"


def possible(client: str, server: str, row: str) -> bool:
    """Whether the two can do this with nothing between them; `direct` proves each yes."""
    if client == "2x-2026" and era(client, server) == "handshake":
        return False  # they do not meet at all: test_version_refused
    if row == "ping":
        return era(client, server) == "handshake"  # removed in 2026-07-28
    if row in ("progress", "logging"):
        return server != "2x-json"  # one JSON answer has no room for notifications
    if row in ("elicitation", "sampling"):
        # A server's question needs a stream to go out on and a session to come back to; 2026-07-28 asks in the result.
        return era(client, server) == "stateless" or server not in ("2x-json", "1x-stateless")
    if row == "subscription":
        return server != "1x-stateless"
    if row in ("result_1_mib", "argument_1_mib"):
        return not client.startswith("2x") or client not in SSE_CLIENTS  # the SDK 2.x takes no SSE event above 1 MiB
    return True


def pairs(clients, servers):
    return [
        pytest.param(client, server, id=f"{client}-to-{server}", marks=pytest.mark.xdist_group(server))
        for server in servers
        for client in clients
        if possible(client, server, "tools")
    ]


def run(clients, routes, route_kind, client, server, row, **more):
    route = routes.get(route_kind, server)
    return clients.run(client, row, route.url(server, "sse" if client in SSE_CLIENTS else "mcp"), route.token, **more)


def run_all(clients, routes, route_kind, client, server):
    rows = [row for row in ROWS if possible(client, server, row)]
    results = run(clients, routes, route_kind, client, server, "several", names=rows)
    assert list(results) == rows and results["tools"] == era(client, server)


@pytest.mark.parametrize(
    "client,server,row",
    [
        pytest.param(*pair.values, row, id=f"{pair.id}-{row}", marks=pair.marks)
        for pair in pairs(CLIENTS, HTTP_SERVERS)
        for row in ROWS
        if possible(*pair.values, row)
    ],
)
def test_feature(clients, routes, route_kind, client, server, row):
    """A client does what it could do without a proxy, in a session for each thing that it does."""
    result = run(clients, routes, route_kind, client, server, row)
    if row == "tools":
        assert result == era(client, server)


@pytest.mark.parametrize("client,server", pairs([c for c in SSE_CLIENTS if c != "2x-auto-sse"], SSE_SERVERS))
def test_features_over_sse(clients, routes, route_kind, client, server):
    """The same over the transport of 2024-11-05, on both sides, in one session."""
    run_all(clients, routes, route_kind, client, server)


ACROSS = [
    *pairs(CLIENTS, [*SSE_SERVERS, *STDIO_SERVERS]),
    *pairs(SSE_CLIENTS, [*HTTP_SERVERS, *STDIO_SERVERS]),
    *pairs(["2x-auto-sse"], SSE_SERVERS),  # alone these two would speak 2026-07-28 over SSE, which no revision knows
]


@pytest.mark.gateway_only
@pytest.mark.parametrize("client,server", ACROSS)
def test_features_across_transports(clients, routes, route_kind, client, server):
    """What a server does for clients of its own transport it does for those of the others, in one session."""
    run_all(clients, routes, route_kind, client, server)


@pytest.mark.parametrize("client,server", pairs(CLIENTS, STDIO_SERVERS))
def test_features_of_a_program(clients, servers, client, server):
    """The control: what a client can do with a server that it starts itself, in one session."""
    rows = [row for row in ROWS if possible(client, server, row)]
    clients.run(client, "several", servers[server].url, names=rows)


@pytest.mark.gateway_only
@pytest.mark.parametrize(
    "server",
    [
        pytest.param(server, marks=pytest.mark.xdist_group(server))
        for server in SERVERS
        if era("2x-2026", server) == "handshake"
    ],
)
def test_version_refused(clients, routes, route_kind, server):
    """A client that insists on 2026-07-28 learns from a handshake-only server's gateway which versions there are."""
    route = routes.get(route_kind, server)
    error = clients.run("2x-2026", "version_refused", route.url(server), route.token)
    assert error["code"] == -32022, error
    assert error["data"]["requested"] == "2026-07-28"
    assert error["data"]["supported"] and set(error["data"]["supported"]) <= set(HANDSHAKE_VERSIONS), error
