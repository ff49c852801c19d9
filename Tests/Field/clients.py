# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote, through the gateway, at every kind of upstream.

Each client has a gateway of its own, which has seen nobody before, and goes to every upstream over streamable HTTP and then
over HTTP+SSE, in the mode that it is in when nobody sets one: it lists the tools and calls one. What fails is tried without
the gateway: if that fails as well it is not the gateway's.
"""

import argparse
import concurrent.futures
import re
from pathlib import Path
from typing import Any

from harness.clients import ForeignClient
from harness.gateway import Gateway
from harness.processes import ROOT, Everything, StdioEverything

ENVIRONMENTS = {
    "mcp-2x": (".venv", "requirements.txt", "mcp"),
    "mcp-1x": (".venv1", "requirements-1x.txt", "mcp"),
    "fastmcp": (".venvc", "requirements-clients.txt", "fastmcp"),
    "openai-agents": (".venvc", "requirements-clients.txt", "openai-agents"),
    "pydantic-ai": (".venvc", "requirements-clients.txt", "pydantic-ai-slim"),
    "strands": (".venvc", "requirements-clients.txt", "strands-agents"),
    "google-adk": (".venvf/clients-2x", "requirements-field-clients-2x.txt", "google-adk"),
    "llama-index": (".venvf/clients-2x", "requirements-field-clients-2x.txt", "llama-index-tools-mcp"),
    "agno": (".venvf/clients-2x", "requirements-field-clients-2x.txt", "agno"),
    "haystack": (".venvf/clients-2x", "requirements-field-clients-2x.txt", "mcp-haystack"),
    "langchain": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "langchain-mcp-adapters"),
    "mcp-use": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "mcp-use"),
    "mcp-proxy": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "mcp-proxy"),
    "smolagents": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "smolagents"),
    "autogen": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "autogen-ext"),
    "semantic-kernel": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "semantic-kernel"),
    "huggingface": (".venvf/clients-1x", "requirements-field-clients-1x.txt", "huggingface-hub"),
}
"""Each client's environment, the file with its version, and what it is called there."""

SHARED = {"isolation": "shared"}
OWN = {"isolation": "session"}
POOL = {"auth": {"tokens": ["first-token-of-the-pool", "second-token-of-the-pool"], "rotationMode": "round-robin"}}
HTTP, SSE = "streamable-http", "sse"
UPSTREAMS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "both eras, http": ("2x", HTTP, {}),
    "both eras, http, untyped": ("2x", None, {}),
    "both eras, http, shared": ("2x", HTTP, SHARED),
    "both eras, http, pool": ("2x", HTTP, POOL),
    "handshake, http": ("1x", HTTP, {}),
    "handshake, http, untyped": ("1x", None, {}),
    "handshake, http, shared": ("1x", HTTP, SHARED),
    "handshake, http, untyped, shared": ("1x", None, SHARED),
    "handshake, http, pool": ("1x", HTTP, POOL),
    "handshake, http, pool, shared": ("1x", HTTP, {**POOL, **SHARED}),
    "handshake, http without sessions": ("1x-stateless", HTTP, {}),
    "handshake, http without sessions, untyped": ("1x-stateless", None, {}),
    "handshake, HTTP+SSE": ("1x-sse", SSE, {}),
    "handshake, HTTP+SSE, untyped": ("1x-sse", None, {}),
    "handshake, HTTP+SSE, shared": ("1x-sse", SSE, SHARED),
    "handshake, HTTP+SSE, untyped, shared": ("1x-sse", None, SHARED),
    "handshake, HTTP+SSE, pool": ("1x-sse", SSE, POOL),
    "HTTP+SSE of the SDK 2.x, untyped": ("2x-sse", None, {}),
    "both eras, stdio, shared": ("2x-stdio", None, SHARED),
    "both eras, stdio, own": ("2x-stdio", None, OWN),
    "handshake, stdio, shared": ("1x-stdio", None, SHARED),
    "handshake, stdio, own": ("1x-stdio", None, OWN),
}
"""The everything server of the tests, what its entry says of the transport, and its options."""
TOOLS = {"echo", "numbers", "big", "fail", "progress", "labelled", "watched", "slow", "speak", "touch", "ask", "sample"}

Servers = dict[str, Everything | StdioEverything]


def version(client: str) -> str:
    """As the requirements pin it."""
    _, requirements, package = ENVIRONMENTS[client]
    pinned = re.search(rf"^{package}==(\S+)", (ROOT / "Tests" / requirements).read_text(), re.MULTILINE)
    return pinned[1] if pinned else "?"


def entry(servers: Servers, flavor: str, kind: str | None, options: dict[str, Any]) -> dict[str, Any]:
    server = servers[flavor]
    if isinstance(server, StdioEverything):
        return {**server.entry, "options": options}
    return {"url": server.url, "transportType": kind, "options": options}


def try_it(client: ForeignClient, url: str, token: str, text: str) -> str:
    """Nothing, or what went wrong."""
    try:
        tools, said = client.use(url, token, text)
    except AssertionError as error:
        return str(error)
    return "" if (tools, said) == (TOOLS, text) else f"it saw {sorted(tools)} and {said!r}"


def through_gateway(name: str, servers: Servers, directory: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """What a client met at each upstream over each of its transports: a mark for the table, and what went wrong."""
    routes = {f"up-{n}": upstream for n, upstream in enumerate(UPSTREAMS)}
    gateway = Gateway(directory, {route: entry(servers, *UPSTREAMS[upstream]) for route, upstream in routes.items()})
    client = ForeignClient(name, ROOT / ENVIRONMENTS[name][0] / "bin" / "python")
    found = {}
    try:
        gateway.wait_until_ready(60)
        for transport in ("mcp", "sse"):
            for route, upstream in routes.items():
                text = f"{name} to {upstream} \u00e9"
                failure = try_it(client, gateway.url(route, transport), gateway.token, text)
                server = servers[UPSTREAMS[upstream][0]]
                if not failure:
                    mark = "ok"
                elif isinstance(server, Everything) and try_it(client, server.url, "", text):
                    mark = "(-)"
                else:
                    mark = "FAIL"
                found[upstream, transport] = (mark, failure)
        gateway.assert_at_rest(20)
        gateway.stop()
    except AssertionError as error:
        found["the gateway", "mcp"] = ("FAIL", str(error))
    finally:
        client.child.kill()
        gateway.child.kill()
    return found


def run(directory: Path, options: argparse.Namespace) -> list[str]:
    """Prints the table; gives what failed."""
    names = options.only or list(ENVIRONMENTS)
    servers: Servers = {}
    for flavor, _, _ in UPSTREAMS.values():
        if flavor not in servers:
            servers[flavor] = StdioEverything(flavor) if flavor.endswith("-stdio") else Everything(flavor)
    for number, upstream in enumerate(UPSTREAMS, 1):
        print(f"{number:3} {upstream}")
    print("(-): not without the gateway either\n")
    print(f"{'client':24} {'over':4}" + "".join(f"{number:5}" for number in range(1, len(UPSTREAMS) + 1)), flush=True)
    failures = []
    try:
        with concurrent.futures.ThreadPoolExecutor(options.side_by_side) as pool:
            for name, found in zip(names, pool.map(lambda name: through_gateway(name, servers, directory), names)):
                for transport in ("mcp", "sse"):
                    marks = [found.get((upstream, transport), ("?", ""))[0] for upstream in UPSTREAMS]
                    print(f"{name + ' ' + version(name):24} {transport:4}" + "".join(f"{mark:>5}" for mark in marks), flush=True)
                failures += [
                    f"{name} over {transport} to {upstream}: {failure}"
                    for (upstream, transport), (mark, failure) in found.items()
                    if mark == "FAIL"
                ]
    finally:
        for server in servers.values():
            server.kill()
    return failures
