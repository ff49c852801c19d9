# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The first minute: no configuration, the file of an MCP client as it is, and what a beginner mistypes."""

import json
import os
import subprocess
import time
from types import SimpleNamespace

import pytest
from harness.callers import Caller, text_of
from harness.children import FaultChild
from harness.gateway import binary
from harness.processes import ROOT, Child, environment, free_port

CLIENTS = ROOT / "Tests" / "GatewayConfigurationTests" / "Inputs" / "clients"
VARIABLES = {
    "TICKETS_TOKEN": "CANARY-1",
    "API_KEY": "CANARY-2",
    "MY_SERVICE_TOKEN": "CANARY-3",
    "SEARCH_KEY": "CANARY-4",
    "DB_CONNECTION_STRING": "CANARY-5",
    "EXTERNAL_API_KEY": "CANARY-6",
    "AUTH_TOKEN": "CANARY-7",
    "REMOTE_TOKEN": "CANARY-8",
}


@pytest.fixture
def command(tmp_path):
    """Runs the program to its end in an empty directory; gives its code, both outputs, and how long it took."""

    def run(*arguments, **variables):
        began = time.monotonic()
        argv = [str(binary().resolve()), *map(str, arguments)]
        done = subprocess.run(
            argv, capture_output=True, text=True, cwd=tmp_path, env=environment(**variables), timeout=20, check=False
        )
        return done.returncode, done.stdout, done.stderr, time.monotonic() - began

    return run


@pytest.fixture
def served(tmp_path):
    """Serves a client's file at a free port; gives what callers need, and the program. It ends with 0 on SIGTERM."""
    started = []

    def serve(document, *arguments, variables=None):
        port = free_port()
        path = tmp_path / ".mcp.json"
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        argv = [binary().resolve(), "--config", ".mcp.json", "--addr", f"127.0.0.1:{port}", *arguments]
        child = Child(*argv, "--log-format", "json", env=environment(**(variables or {})), cwd=tmp_path)
        started.append(child)
        child.wait_for(lambda: b'"listening"' in child.err, "it listens")
        return SimpleNamespace(
            child=child, port=port, path=path, token="", seen=bytearray(), url=lambda name: f"http://127.0.0.1:{port}/{name}/mcp"
        )

    yield serve
    for child in started:
        child.process.terminate()
        try:
            assert child.wait(31) == 0, child.tail()
        finally:
            child.kill()


@pytest.fixture
def child(tmp_path):
    made = FaultChild(tmp_path, "ok")
    yield made
    made.sweep()


@pytest.mark.parametrize("there", [None, ".mcp.json", ".vscode/mcp.json"])
def test_no_configuration(command, tmp_path, there):
    """In a directory without `config.json` it ends with 2 in a second and says how to begin; a client's file is named and not taken."""
    if there:
        (tmp_path / there).parent.mkdir(exist_ok=True)
        (tmp_path / there).write_text(json.dumps({"mcpServers": {"s": {"command": "touch", "args": [f"{tmp_path}/started"]}}}))
    for arguments in ((), ("serve",), ("check",)):
        code, out, err, seconds = command(*arguments)
        assert code == 2 and not out and seconds < (1 if not os.environ.get("CI") else 5), (code, out, err, seconds)
        first, second = err.splitlines()
        if there:
            assert first == f"no config.json here. Found {there}: mcp-proxy --config {there}"
        else:
            assert first.startswith("no config.json here. --config names another file")
        assert second.startswith("Or: ") and second.endswith("mcp-proxy demo")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("name", sorted(path.name for path in CLIENTS.iterdir()))
def test_files_of_clients(command, tmp_path, name):
    """What ten clients document is served with nothing but info, or is refused with one line that says whose it is."""
    path = tmp_path / name
    path.write_bytes((CLIENTS / name).read_bytes())
    path.chmod(0o600)
    (tmp_path / "local.env").write_text("REGION=eu\n")
    code, out, err, seconds = command("check", "--config", name, HOME="/home/x", **VARIABLES)
    assert "CANARY" not in out + err and "-in-here" not in out + err
    lines = [line for line in out.splitlines() if line.startswith(f"{name}:")]
    levels = {line.split(" ")[1] for line in lines}
    if name in ("codex.toml", "continue.yaml", "zed.json"):
        assert code == 2 and len(lines) == 1 and levels == {"error:"} and "[foreign-file]" in lines[0], out
        assert "write its servers into a file of JSON" in lines[0]
        assert command("--config", name)[0] == 2
    else:
        # Programs that this machine does not have are no fault of the file.
        doubts = [line for line in lines if ": info: " not in line and "[unusable-" not in line]
        assert code == 0 and out.endswith("ok\n") and not doubts, out
        assert "listens on: 127.0.0.1:9090\n" in out


async def test_served_as_it_is(served, child, tmp_path):
    """A file with only servers is served, and so is what stands in it in a client's words."""
    (tmp_path / "keys.env").write_text("FROM_FILE=file\nBOTH=file\n")
    entry = {**child.entry, "type": "stdio", "envFile": "keys.env", "alwaysAllow": ["echo"]}
    entry["env"] = {"BOTH": "env", "NUMBER": 8080, "INPUT": "${input:the-key}", "EDITOR": "${env:OURS}"}
    inputs = [{"type": "promptString", "id": "the-key", "description": "The key"}]
    gateway = served({"inputs": inputs, "servers": {"files": entry}}, variables={"THE_KEY": "asked", "OURS": "ours"})
    caller = await Caller.open(gateway, "files")
    given = json.loads(text_of(await caller.ask("report-env")))["env"]
    wanted = {"FROM_FILE": "file", "BOTH": "env", "NUMBER": "8080", "INPUT": "asked", "EDITOR": "ours"}
    assert {name: given.get(name) for name in wanted} == wanted
    log = bytes(gateway.child.err).decode()
    assert f"http://127.0.0.1:{gateway.port}/files/mcp" in log, "the URL follows --addr"
    configuration = [json.loads(line) for line in log.splitlines() if '"configuration"' in line]
    assert {line["level"] for line in configuration} == {"info"}, configuration


async def test_what_a_client_restricts(served, child, tmp_path):
    """A server that its client has switched off is not started, and a tool that it hides is neither shown nor called."""
    other = FaultChild(tmp_path, "ok")
    gateway = served(
        {
            "mcpServers": {
                "on": {**child.entry, "excludeTools": ["note"], "disabled": False},
                "off": {**other.entry, "disabled": True},
            }
        }
    )
    caller = await Caller.open(gateway, "on")
    names = {tool["name"] for tool in (await caller.post(json.loads(LIST))).reply(7)["result"]["tools"]}
    assert "echo" in names and "note" not in names
    refusal = await caller.ask("note", {"text": "x"})
    assert refusal["error"]["code"] == -32602 and "Unknown tool" in refusal["error"]["message"]
    assert (await Caller(gateway.url("off")).post(json.loads(LIST))).status == 404
    assert other.starts() == 0 and not child.messages("tools/call")


LIST = '{"jsonrpc": "2.0", "id": 7, "method": "tools/list"}'


async def test_read_again(served, child):
    """`--addr` counts for a reload, too: another server is there, and nothing needs a restart."""
    gateway = served({"mcpServers": {"one": child.entry}}, "--watch", "off")
    gateway.path.write_text(json.dumps({"mcpServers": {"one": child.entry, "two": {**child.entry, "type": "local"}}}))
    done = subprocess.run(
        [binary(), "reload", "--config", gateway.path, "--addr", f"127.0.0.1:{gateway.port}"],
        capture_output=True, text=True, env=environment(), timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "added two" in done.stdout and "restart" not in done.stdout + done.stderr, done
    await Caller.open(gateway, "two")


def test_address_of_the_command(command, tmp_path):
    """`--addr` comes before `mcpProxy.addr`; one that is taken or means nothing is named as it was given."""
    gateway = {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:1", "name": "n", "version": "1"}
    (tmp_path / "config.json").write_text(json.dumps({"mcpProxy": gateway, "mcpServers": {}}))
    port = free_port()
    first = Child(binary().resolve(), "--addr", f"127.0.0.1:{port}", cwd=tmp_path)
    try:
        first.wait_for(lambda: f"127.0.0.1:{port}".encode() in first.err, "it listens")
        code, _, err, _ = command("--addr", f"127.0.0.1:{port}")
        assert code == 1 and f"127.0.0.1:{port} is taken" in err and "change --addr" in err, err
    finally:
        first.kill()
    code, _, err, _ = command("--addr", "nowhere")
    assert code == 2 and "--addr takes HOST:PORT" in err, err


@pytest.mark.parametrize(
    "arguments,words",
    [
        (("chekc",), "did you mean mcp-proxy check?"),
        (("relaod", "--config", "x"), "did you mean mcp-proxy reload?"),
        (("run",), '{"mcpServers": {"NAME": {"command": "PROGRAM"'),
        (("uvx", "mcp-server-time"), '{"mcpServers": {"NAME": {"command": "PROGRAM"'),
        (("--port", "8080", "uvx", "x"), "here it is --addr HOST:PORT"),
        (("serve", "--port", "8080"), "here it is --addr HOST:PORT"),
        (("--named-server-config", "servers.json"), "--config FILE"),
        (("https://h/mcp?key=CANARY",), '{"mcpServers": {"NAME": {"url": "URL"}}}'),
    ],
)
def test_what_was_meant(command, arguments, words):
    """A misspelt command and the arguments of other programs are answered with ours, and not with a page of usage."""
    code, out, err, _ = command(*arguments)
    assert code == 2 and not out and words in err and len(err.splitlines()) <= 3 and "CANARY" not in err, err
