# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Servers that people run: time, fetch and git from PyPI, over stdio, for clients of every kind and transport."""

import http.server
import json
import os
import subprocess
import threading

import pytest
from harness.clients import CLIENTS, SSE_CLIENTS
from harness.gateway import Gateway
from harness.processes import PYTHON, environment

pytestmark = [
    pytest.mark.xdist_group("reference-servers"),
    pytest.mark.parametrize("client", [*CLIENTS, *(pytest.param(c, marks=pytest.mark.gateway_only) for c in SSE_CLIENTS)]),
]

PAGE = b"<html><title>t</title><body><h1>A heading \xc3\xa9</h1><p>and <b>bold</b> words</p></body></html>"


@pytest.fixture(scope="module")
def page():
    """The URL of a page on loopback."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = PAGE if self.path == "/page" else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/page"
    server.shutdown()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A git repository with one commit and one change."""
    directory = tmp_path_factory.mktemp("repository")
    alone = environment(HOME=str(directory), GIT_CONFIG_NOSYSTEM="1")

    def git(*arguments):
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *identity, *arguments], cwd=directory, env=alone, check=True, capture_output=True, timeout=20)

    git("init", "-q", "-b", "main")
    (directory / "file.txt").write_text("one\n")
    git("add", ".")
    git("commit", "-q", "-m", "The first commit \u00e9")
    (directory / "file.txt").write_text("one\ntwo\n")
    return directory


@pytest.fixture(scope="module")
def entries(repository):
    programs = PYTHON["2x"].parent

    def entry(name, *arguments):
        return {"command": str(programs / f"mcp-server-{name}"), "args": list(arguments), "env": {"HOME": str(repository)}}

    return {
        "time": entry("time", "--local-timezone", "Europe/Lisbon"),
        "fetch": entry("fetch", "--ignore-robots-txt", "--allow-private-ips"),
        "git": entry("git", "--repository", str(repository)),
    }


@pytest.fixture(scope="module")
def reach(entries, route_kind, tmp_path_factory):
    """Gives the URL and the token for a server and a client."""
    if route_kind == "direct":
        yield lambda name, client: ("stdio:" + json.dumps(entries[name]), "")
        return
    gateway = Gateway(tmp_path_factory.mktemp("reference"), entries)
    gateway.wait_until_ready(30)
    yield lambda name, client: (gateway.url(name, "sse" if client in SSE_CLIENTS else "mcp"), gateway.token)
    gateway.stop()


def test_time(clients, reach, client):
    """Time zones are converted."""
    url, token = reach("time", client)
    assert clients.run(client, "any_tools", url, token) == ["convert_time", "get_current_time"]
    arguments = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Kolkata"}
    result = clients.run(client, "any_call", url, token, tool="convert_time", arguments=arguments)
    assert json.loads(result["content"][0]["text"])["time_difference"] == "+5.5h"
    wrong = clients.run(client, "any_call", url, token, tool="get_current_time", arguments={"timezone": "Mars/Olympus"})
    assert wrong["isError"] and "Mars/Olympus" in wrong["content"][0]["text"]


def test_fetch(clients, reach, client, page):
    """A page is fetched and simplified; prompts are there as well."""
    url, token = reach("fetch", client)
    result = clients.run(client, "any_call", url, token, tool="fetch", arguments={"url": page, "raw": True})
    assert "A heading \u00e9" in result["content"][0]["text"]
    assert clients.run(client, "any_prompts", url, token) == ["fetch"]


def test_git(clients, reach, client, repository):
    """A repository is read."""
    url, token = reach("git", client)
    where = {"repo_path": str(repository)}
    log = clients.run(client, "any_call", url, token, tool="git_log", arguments=where)
    assert "The first commit \u00e9" in log["content"][0]["text"]
    diff = clients.run(client, "any_call", url, token, tool="git_diff_unstaged", arguments=where)
    assert "+two" in diff["content"][0]["text"]
    outside = clients.run(client, "any_call", url, token, tool="git_log", arguments={"repo_path": os.path.dirname(repository)})
    assert outside["isError"], outside
