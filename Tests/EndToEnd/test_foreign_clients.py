# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote, in the mode that they are in when nobody sets one, at servers of both eras."""

import pytest
from harness.clients import ForeignClient
from harness.gateway import Gateway
from harness.processes import PYTHON

CLIENTS = {"mcp-2x": "2x", "fastmcp": "clients", "openai-agents": "clients", "pydantic-ai": "clients", "strands": "clients"}
"""By the environment that has it. Each asks `server/discover` first, and shakes hands when it is told to."""
UPSTREAMS = {
    "both-eras": ("2x", None, {}),
    "untyped": ("1x", None, {}),
    "shared": ("1x", "streamable-http", {"isolation": "shared"}),
    "legacy": ("1x-sse", "sse", {}),
    "legacy-untyped": ("1x-sse", None, {}),
    "legacy-shared": ("1x-sse", "sse", {"isolation": "shared"}),
    "legacy-untyped-shared": ("1x-sse", None, {"isolation": "shared"}),
}
"""The server, the `transportType` that its entry has, and its options."""
TOOLS = {"echo", "numbers", "big", "fail", "progress", "labelled", "watched", "slow", "speak", "touch", "ask", "sample"}

pytestmark = [pytest.mark.gateway_only, pytest.mark.xdist_group("foreign-clients")]


@pytest.fixture(scope="module")
def make_gateway(servers, tmp_path_factory):
    """A gateway before all of them; each that it gives has seen no caller yet."""
    started = []

    def make():
        entries = {
            name: {"url": servers[flavor].url, "transportType": kind, "options": options}
            for name, (flavor, kind, options) in UPSTREAMS.items()
        }
        started.append(Gateway(tmp_path_factory.mktemp("foreign"), entries))
        started[-1].wait_until_ready()
        return started[-1]

    yield make
    for gateway in started:
        gateway.stop()


@pytest.mark.parametrize("name", CLIENTS)
def test_lists_and_calls(name, make_gateway):
    """It lists the tools and calls one, at every kind of server, whoever else was there before it."""
    gateway = make_gateway()
    client = ForeignClient(name, PYTHON[CLIENTS[name]])
    try:
        failures = {}
        for upstream in UPSTREAMS:
            text = f"{name} at {upstream} \u00e9"
            try:
                found = client.use(gateway.url(upstream), gateway.token, text)
            except AssertionError as error:
                failures[upstream] = str(error)
                continue
            if found != (TOOLS, text):
                failures[upstream] = found
        assert not failures, "\n".join(f"{upstream}: {failure}" for upstream, failure in failures.items())
    finally:
        client.child.kill()
