# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What a measurement starts, each program on its core, and the call that it sends."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROXY_CORE, LOAD_CORE = 0, 1
VERSION = {"handshake": "2025-11-25", "stateless": "2026-07-28"}

NGINX = """
daemon off; master_process off; worker_processes 1; pid {directory}/{name}.pid; error_log {directory}/{name}.log error;
worker_rlimit_nofile 20000;
events {{ worker_connections 8192; }}
{http}
"""


def fail(text):
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr)
    sys.exit(1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pinned(core, argv):
    return (["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []) + [str(a) for a in argv]


def reach(port, deadline=10):
    """Waits until something listens on the port; the seconds that it took."""
    began = time.monotonic()
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return time.monotonic() - began
        if time.monotonic() - began > deadline:
            fail(f"nothing listens on port {port} after {deadline} s")
        time.sleep(0.0005)


class Program:
    """A pinned process, its CPU time and its memory."""

    def __init__(self, name, core, argv, port, directory, env=None):
        self.name, self.port = name, port
        self.errors = open(directory / f"{name}.stderr", "wb")
        self.process = subprocess.Popen(pinned(core, argv), stdout=self.errors, stderr=self.errors, env=env)
        self.first_accept = reach(port)

    def cpu(self):
        """Seconds of CPU time so far, user and system, of all threads that it has or had."""
        return time.clock_gettime(~self.process.pid << 3 | 2)  # what clock_getcpuclockid(3) gives

    def rss(self, what="VmRSS"):
        """Its memory in bytes; with `VmHWM` the most that it ever had."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
        return 0

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def json_answer(size, opens=False):
    """A tools/call result for id 1 of exactly this many bytes: what comes before its filler, and after.

    `opens`: it is one of `initialize` as well.
    """
    initialized = f'"protocolVersion":"{VERSION["handshake"]}","capabilities":{{}},"serverInfo":{{"name":"bench","version":"1"}},'
    head = '{"jsonrpc":"2.0","id":1,"result":{' + (initialized if opens else "") + '"content":[{"type":"text","text":"'
    tail = '"}],"isError":false}}'
    return head, tail, size - len(head) - len(tail)


def start_nginx(name, core, port, http, directory, before=()):
    """`before`: the program that starts it, with its arguments."""
    configuration = directory / f"{name}.conf"
    configuration.write_text(NGINX.format(directory=directory, name=name, http=http))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return Program(name, core, [*before, program, "-c", configuration, "-p", directory], port, directory)


def temporary_paths(directory):
    return " ".join(f"{kind}_temp_path {directory};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def run_gateway(name, binary, configuration, port, directory, arguments=(), before=()):
    """The gateway on the core of the proxies, with one event loop; `before` as for nginx."""
    threads = ["--threads", "1"] if "--threads" in subprocess.run(
        [binary, "serve", "--help"], capture_output=True, text=True, check=False).stdout else []
    env = {**os.environ, "MCP_PROXY_LOOPS": "1"}
    argv = [*before, binary, "--config", configuration, *threads, *arguments]
    return Program(name, PROXY_CORE, argv, port, directory, env)


def session_of(url):
    """The id of a session at this place, which is opened once."""
    if url not in _sessions:
        params = {"protocolVersion": VERSION["handshake"], "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
        fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, body, fields), timeout=10) as answer:
            answer.read()
            _sessions[url] = answer.headers["Mcp-Session-Id"]
    return _sessions[url]


_sessions: dict[str, str] = {}


def request_of(scenario, url=""):
    """Header fields and body of the call that is sent there over and over."""
    era = "stateless" if scenario == "stateless" else "handshake"
    params = {"name": "echo", "arguments": {"text": "hello there, how are you today?"}}
    fields = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION[era],
    }
    if era == "stateless":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": VERSION[era],
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        fields |= {"Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    if scenario.startswith("session"):
        fields["Mcp-Session-Id"] = session_of(url)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, separators=(",", ":"))
    return fields, body
