# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What the gateway says at `info` of twenty healthy servers while nothing happens, and of servers that are broken.

Of a healthy server it says at most three lines in all. Of a broken one it says at least one, and each names the cause.
"""

import argparse
import collections
import contextlib
import http.server
import json
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Iterator

from harness.gateway import Gateway
from harness.processes import FIXTURES, Everything, Upstream, free_port

from .programs import PROGRAMS, configured

MOST_LINES = 3
HEALTHY = 20
LISTENING = 15
"""Seconds for which broken servers are listened to: they are tried again and again meanwhile."""
QUIET = {"logEnabled": False}
ROUTES = "upstream"
"""The member of a log line that names the server."""
LOGIN = b"<!doctype html><html><title>Sign in</title><body><form>Password</form></body></html>"
ANSWERS = {"401": (401, "application/json", b"{}"), "html": (200, "text/html", LOGIN), "404": (404, "text/plain", b"not here")}
CAUSES = {
    "missing command": r"not found",
    "not executable": r"permission|not executable",
    "exits at once": r"exited.*3",
    "killed by its start": r"signal",
    "port refused": r"refused",
    "name unknown": r"\bdns\b|resolve|not known",
    "401": r"401",
    "html": r"html|login|page|content.type",
    "404": r"404",
    "authority unknown": r"authority|issuer",
    "certificate expired": r"expired",
    "certificate of another": r"not for this host",
    "https to http": r"\btls|https",
}
"""What each line about a server has to name, the typed and the untyped entry alike."""


@contextlib.contextmanager
def pages() -> Iterator[int]:
    """A port that gives each of ANSWERS at its path, to every method."""

    class Pages(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, kind, body = ANSWERS[self.path.split("?")[0].strip("/")]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def about(gateway: Gateway) -> dict[str, list[dict[str, Any]]]:
    """The lines so far by the server that they are about; an empty name for those about none."""
    lines = collections.defaultdict(list)
    for line in gateway.log():
        lines[line.get(ROUTES, "")].append(line)
    return lines


def said(line: dict[str, Any]) -> str:
    """A line without what is the same in all."""
    return json.dumps({key: value for key, value in line.items() if key not in ("ts", "seq", ROUTES)})


def healthy(directory: Path, options: argparse.Namespace) -> list[str]:
    names = options.only or list(PROGRAMS)[: HEALTHY - 2]
    http_server, sse_server = Everything("2x"), Everything("1x-sse")
    servers = {f"up-{n}": configured(PROGRAMS[name].entry(directory / str(n))) for n, name in enumerate(names)}
    servers["http"] = {"url": http_server.url, "transportType": None}
    servers["sse"] = {"url": sse_server.url, "transportType": None}
    gateway = Gateway(directory, servers, options=QUIET, log_level="info")
    try:
        time.sleep(options.seconds)
        lines = about(gateway)
        state = json.loads(gateway.get("/_readyz")[1])["upstreams"]
        gateway.stop()
    finally:
        for started in (gateway.child, http_server, sse_server):
            started.kill()
    failures = []
    print(f"\n{len(servers)} healthy servers for {options.seconds} s\n{'server':24}{'state':14}{'lines':>6}")
    for route in servers:
        name = names[int(route[3:])] if route.startswith("up-") else route
        print(f"{name:24}{state.get(route, 'usable'):14}{len(lines[route]):6}")
        if len(lines[route]) > MOST_LINES:
            failures.append(f"{name}: {len(lines[route])} lines")
            failures += [f"  {said(line)[:300]}" for line in lines[route][:8]]
    print(f"{'about none':38}{len(lines['']):6}")
    return failures


def broken(directory: Path) -> list[str]:
    certificates = directory / "certificates"
    certificates.mkdir()
    subprocess.run([FIXTURES / "gen-certs.sh", certificates], check=True, capture_output=True)
    leaves = {"authority unknown": "otherca-leaf", "certificate expired": "expired", "certificate of another": "wrongname"}
    secure = {
        cause: Upstream("2x", FIXTURES / "origin.py", "0", "--tls", str(certificates / f"{leaf}.pem"))
        for cause, leaf in leaves.items()
    }
    silent = directory / "not-executable"
    silent.write_text("#!/bin/sh\n")
    tls = {"caFile": str(certificates / "ca.pem")}
    with pages() as port:
        urls = {
            "port refused": {"url": f"http://127.0.0.1:{free_port()}/mcp"},
            "name unknown": {"url": "http://no-such-host.invalid/mcp"},
            "https to http": {"url": f"https://127.0.0.1:{port}/html"},
            **{cause: {"url": f"http://127.0.0.1:{port}/{cause}"} for cause in ANSWERS},
            **{cause: {"url": f"https://127.0.0.1:{origin.port}/echo", "tls": tls} for cause, origin in secure.items()},
        }
        commands = {
            "missing command": {"command": "no-such-program-anywhere"},
            "not executable": {"command": str(silent)},
            "exits at once": {"command": "/bin/sh", "args": ["-c", "echo it cannot start >&2; exit 3"]},
            "killed by its start": {"command": "/bin/sh", "args": ["-c", "kill -9 $$$$"]},
        }
        entries = {(cause, "stdio"): entry for cause, entry in commands.items()}
        for kind in (None, "streamable-http", "sse"):
            entries |= {(cause, kind or "untyped"): {**entry, "transportType": kind} for cause, entry in urls.items()}
        routes = {f"up-{n}": key for n, key in enumerate(entries)}
        servers = {route: entries[key] for route, key in routes.items()}
        gateway = Gateway(directory, servers, options=QUIET, log_level="info")
        try:
            gateway.wait_until_looked(60)
            time.sleep(LISTENING)
            lines = about(gateway)
            gateway.stop()
        finally:
            gateway.child.kill()
            for origin in secure.values():
                origin.kill()
    failures = []
    print(f"\nbroken servers\n{'what is wrong':26}{'type':18}{'lines':>6}  the worst of them")
    for route, (cause, kind) in routes.items():
        bad = [line for line in lines[route] if line["level"] not in ("info", "debug")]
        nameless = [line for line in bad if not re.search(CAUSES[cause], said(line), re.IGNORECASE)]
        shown = (nameless or bad or [{}])[0]
        print(f"{cause:26}{kind:18}{len(bad):6}  {said(shown)[:150]}")
        if not bad:
            failures.append(f"{cause} ({kind}): not a line")
        failures += [f"{cause} ({kind}): {said(line)[:300]}" for line in nameless[:3]]
    return failures


def run(directory: Path, options: argparse.Namespace) -> list[str]:
    """Prints the tables; gives what failed."""
    failures = broken(directory)
    return failures + healthy(directory, options)
