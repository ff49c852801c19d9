# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Servers of others over HTTP: the official SDKs list the same tools through the gateway as without it.

Each server has a gateway of its own with three entries: without `transportType`, with it, and shared. The SDK 2.x comes first,
in the mode that it is in when nobody sets one, and then the SDK 1.x; both over streamable HTTP and over HTTP+SSE.
"""

import argparse
import contextlib
import dataclasses
import socket
from pathlib import Path
from typing import Any, Iterator

from harness.clients import Clients
from harness.gateway import Gateway
from harness.processes import ROOT, Child, environment, free_port, poll

from .programs import LAST, NEW, NOW, OLD

BRIDGE = ".venvf/clients-1x"
TRANSPORTS = {"2x-auto": "mcp", "1x": "mcp", "2x-auto-sse": "sse", "1x-sse": "sse"}
DIRECT = {"mcp": {"2x": "2x-auto", "1x": "1x"}, "sse": {"2x": "2x-sse", "1x": "1x-sse"}}
"""Which client asks a server of this transport without the gateway, by its SDK."""


@dataclasses.dataclass(frozen=True)
class WebServer:
    """How it is started (`{port}` stands for its port), and where it serves."""

    environment: str
    command: str
    arguments: tuple[str, ...]
    path: str = "/mcp"
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def transport(self) -> str:
        return "sse" if self.path == "/sse" else "mcp"

    @contextlib.contextmanager
    def running(self, directory: Path) -> Iterator[str]:
        """Its URL, while it runs."""
        port = free_port()
        arguments = [argument.format(port=port) for argument in self.arguments]
        variables = {name: value.format(port=port) for name, value in self.variables}
        program = ROOT / self.environment / "bin" / self.command
        child = Child(program, *arguments, env=environment(HOME=str(directory), **variables), cwd=directory)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            poll(f"{self.command} listens", listens, 60)
            yield f"http://127.0.0.1:{port}{self.path}"
        finally:
            child.kill()


def bridge(environment: str, *more: str, path: str = "/mcp") -> WebServer:
    """A stdio server of this environment behind the other program that is called mcp-proxy."""
    return WebServer(BRIDGE, "mcp-proxy", (*more, "--port", "{port}", f"{ROOT}/{environment}/bin/mcp-server-time"), path)


PORT = ("--port", "{port}")
WEBSERVERS = {
    "wikipedia, http": WebServer(NEW, "wikipedia-mcp", ("--transport", "http", *PORT)),
    "wikipedia, sse": WebServer(NEW, "wikipedia-mcp", ("--transport", "sse", *PORT), "/sse"),
    "excel, http": WebServer(
        NEW, "excel-mcp-server", ("streamable-http", *PORT), variables=(("FASTMCP_HOST", "127.0.0.1"), ("FASTMCP_PORT", "{port}"))
    ),
    "duckduckgo, http": WebServer(NEW, "duckduckgo-mcp-server", ("--transport", "streamable-http", *PORT)),
    "duckduckgo, sse": WebServer(NEW, "duckduckgo-mcp-server", ("--transport", "sse", *PORT), "/sse"),
    "code-index, http": WebServer(LAST, "code-index-mcp", ("--transport", "streamable-http", *PORT)),
    "code-index, sse": WebServer(LAST, "code-index-mcp", ("--transport", "sse", *PORT), "/sse"),
    "mcp-proxy, http": bridge(NOW),
    "mcp-proxy, http with a slash": bridge(NOW, path="/mcp/"),
    "mcp-proxy, stateless": bridge(NOW, "--stateless"),
    "mcp-proxy, sse": bridge(NOW, path="/sse"),
    "mcp-proxy, sse, SDK 1.6": bridge(OLD, path="/sse"),
}


def look_at(server: WebServer, clients: Clients, directory: Path) -> dict[str, dict[str, str]]:
    """What went wrong, by entry and client; an empty text where nothing did."""
    directory.mkdir()
    found: dict[str, dict[str, str]] = {}
    with server.running(directory) as url:
        wanted = {sdk: clients.run(client, "any_tools", url) for sdk, client in DIRECT[server.transport].items()}
        kind = "sse" if server.transport == "sse" else "streamable-http"
        shared = {"options": {"isolation": "shared"}}
        entries: dict[str, dict[str, Any]] = {
            "untyped": {"url": url, "transportType": None},
            "typed": {"url": url, "transportType": kind},
            "shared": {"url": url, "transportType": None, **shared},
        }
        gateway = Gateway(directory, entries, log_level="info")
        try:
            gateway.wait_until_looked(60)
            for entry in entries:
                found[entry] = {}
                for client, transport in TRANSPORTS.items():
                    try:
                        tools = clients.run(client, "any_tools", gateway.url(entry, transport), gateway.token)
                        differs = tools != wanted[client.partition("-")[0]]
                        found[entry][client] = f"{len(tools)} tools: {tools}" if differs else ""
                    except AssertionError as error:
                        found[entry][client] = next(line for line in reversed(str(error).splitlines()) if "Error" in line)
            gateway.stop()
        finally:
            gateway.child.kill()
    return found


def run(directory: Path, options: argparse.Namespace) -> list[str]:
    """Prints the table; gives what failed."""
    names = [name for name in WEBSERVERS if not options.only or name in options.only]
    failures: list[str] = []
    if not names:
        return failures
    clients = Clients()
    print(f"\n{'server over HTTP':32}" + "".join(f"{client:>14}" for client in TRANSPORTS))
    try:
        for number, name in enumerate(names):
            try:
                found = look_at(WEBSERVERS[name], clients, directory / f"web-{number}")
            except Exception as error:
                failures.append(f"{name}: {type(error).__name__}: {error}")
                print(f"{name:32}{'?':>14}", flush=True)
                continue
            cells = {
                client: ", ".join(entry for entry, failed in found.items() if failed[client]) or "ok" for client in TRANSPORTS
            }
            print(f"{name:32}" + "".join(f"{cells[client]:>14}" for client in TRANSPORTS), flush=True)
            failures += [
                f"{name}, {entry}, {client}: {failure}"
                for entry, failed in found.items()
                for client, failure in failed.items()
                if failure
            ]
    finally:
        clients.close()
    return failures
