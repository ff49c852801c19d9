# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The ways from a client to a server: straight (the control), through nginx (a proxy that is known to be right), and
through the gateway."""

import shutil
from pathlib import Path
from typing import Any

from .gateway import Gateway
from .processes import Child, Everything, StdioEverything, free_port, poll

Server = Everything | StdioEverything

_NGINX = """
daemon off; master_process off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory}; client_max_body_size 8m; client_body_buffer_size 8m;
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_buffering off; proxy_read_timeout 300s; proxy_set_header Connection "";
{locations}
  }}
}}
"""


class Direct:
    """No proxy: what the peers make of each other by themselves."""

    token = ""
    seen = bytearray()

    def __init__(self, servers: dict[str, Server]) -> None:
        self._servers = servers

    def url(self, name: str, transport: str = "") -> str:
        return self._servers[name].url  # the transport is the server's

    def close(self) -> None:
        pass


class Nginx:
    """nginx with one location a server."""

    token = ""
    seen = bytearray()

    def __init__(self, servers: dict[str, Server], directory: Path) -> None:
        self.port = free_port()
        locations = "\n".join(f"    location = /{n}/mcp {{ proxy_pass {s.url}; }}" for n, s in servers.items())
        configuration = directory / "nginx.conf"
        configuration.write_text(_NGINX.format(directory=directory, port=self.port, locations=locations))
        self.child = Child(shutil.which("nginx") or "/usr/sbin/nginx", "-c", configuration, "-p", directory)
        poll("nginx listens", lambda: self._listens())

    def _listens(self) -> bool:
        import socket

        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, name: str, transport: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/{name}/mcp"

    def close(self) -> None:
        self.child.kill()


class ThroughGateway:
    """The gateway with one entry a server; closing it asserts what must hold of every run."""

    def __init__(self, servers: dict[str, Server], directory: Path, **options: Any) -> None:
        entries = {name: server.entry for name, server in servers.items()}
        self.gateway = Gateway(directory, entries, **options)
        self.token = self.gateway.token
        self.seen = self.gateway.seen

    def url(self, name: str, transport: str = "mcp") -> str:
        return self.gateway.url(name, transport)

    def close(self) -> None:
        try:
            self.gateway.settle()
        finally:
            self.gateway.stop()


def make(kind: str, servers: dict[str, Server], directory: Path) -> Any:
    """The route called `direct`, `nginx` or `proxy`."""
    if kind == "direct":
        return Direct(servers)
    return {"nginx": Nginx, "proxy": ThroughGateway}[kind](servers, directory)
