# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The command line: what goes where, with which exit code, and never with a secret."""

import json
import os
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import jsonschema
import pytest
from harness.canaries import Canaries
from harness.gateway import binary
from harness.processes import ROOT, Child, environment, free_port

FINE = {
    "mcpProxy": {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:0", "name": "n", "version": "1"},
    "mcpServers": {"s": {"url": "http://127.0.0.1:1/mcp", "transportType": "streamable-http"}},
}


def with_proxy(**more):
    return {**FINE, "mcpProxy": {**FINE["mcpProxy"], **more}}


def with_server(**more):
    return {**FINE, "mcpServers": {"s": {**FINE["mcpServers"]["s"], **more}}}


class Result:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    def __repr__(self):
        return f"exit {self.code}\n{self.out}\n{self.err}"


@pytest.fixture
def command(tmp_path):
    """Runs the program to its end in a directory of its own."""

    def run(*arguments, env=None, deadline=20):
        argv = [str(binary().resolve()), *map(str, arguments)]
        done = subprocess.run(
            argv, capture_output=True, cwd=tmp_path, env=environment(**(env or {})), timeout=deadline, check=False
        )
        return Result(done)

    return run


@pytest.fixture
def config(tmp_path):
    """Writes a configuration and gives its path."""

    def write(content=FINE, name="config.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
        path.chmod(0o600)
        return path

    return write


@pytest.mark.parametrize("flag", ["--version", "-version"])
def test_version(command, flag):
    """The version goes to stdout, and nothing to stderr."""
    result = command(flag)
    assert result.code == 0 and re.search(r"\d+\.\d+", result.out) and not result.err, result


@pytest.mark.parametrize("flag", ["--help", "-help", "-h"])
def test_help(command, flag):
    """The help names every command."""
    result = command(flag)
    assert result.code == 0, result
    for name in ("serve", "check", "doctor", "explain", "schema", "demo", "--config"):
        assert name in result.out, name


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--config", "{}"),
        ("check", "--config={}"),
        ("check", "-config", "{}"),
        ("check", "-config={}"),
        ("--check-config", "--config", "{}"),
        ("-check-config", "-config", "{}"),
        ("check", "-config={}", "-expand-env=false"),
        ("check", "--config", "{}", "--expand-env", "false"),
        ("check", "--config", "{}", "-insecure"),
        ("check", "--config", "{}", "--http-timeout", "10"),
        ("check", "--config", "{}", "-http-timeout=2s", "-http-headers", "A:1;B:2"),
        ("check",),
    ],
)
def test_spellings(command, config, arguments):
    """Every spelling of the Go program is understood; without --config it is config.json in the working directory."""
    path = config()
    result = command(*(a.format(path) for a in arguments))
    assert result.code == 0, result


@pytest.mark.parametrize("arguments", [("--no-such-flag",), ("no-such-command",), ("check", "--config")])
def test_wrong_arguments(command, arguments):
    """Wrong arguments exit with 2, and say what is wrong on stderr."""
    result = command(*arguments)
    assert result.code == 2 and result.err and not result.out, result


def test_no_configuration(command):
    """No file: nothing runs, and the path is named."""
    result = command()
    assert result.code in (1, 2) and "config.json" in result.err, result
    result = command("--config", "elsewhere.json")
    assert result.code in (1, 2) and "elsewhere.json" in result.err, result


BROKEN = {
    "no JSON": ('{\n  "mcpProxy": nonsense\n}', 2, None),
    "a key twice": ('{"mcpProxy": {},\n "mcpProxy": {}}', 2, "mcpProxy"),
    "no proxy": ({"mcpServers": {}}, None, "mcpProxy"),
    "no name": ({**FINE, "mcpProxy": {k: v for k, v in FINE["mcpProxy"].items() if k != "name"}}, None, "name"),
    "a bad base URL": (with_proxy(baseURL="localhost"), 3, "mcpProxy.baseURL"),
    "a bad address": (with_proxy(addr="nowhere"), 4, "mcpProxy.addr"),
    "a bad type": (with_proxy(type="carrier-pigeon"), None, "mcpProxy.type"),
    "a bad URL": (with_server(url="ftp://x/"), None, "mcpServers.s.url"),
    "user-info in a URL": (with_server(url="http://u:CANARY-userinfo-secret@x/"), None, "mcpServers.s.url"),
    "a bad transport": (with_server(transportType="smoke"), None, "mcpServers.s.transportType"),
    "command and url": (with_server(command="x"), None, "mcpServers.s"),
    "a bad duration": (with_server(timeout="soon"), None, "mcpServers.s.timeout"),
    "a negative duration": (with_server(timeout="-5s"), None, "mcpServers.s.timeout"),
    "an unknown filter": (with_server(options={"toolFilter": {"mode": "maybe", "list": []}}), None, "toolFilter"),
    "an empty token": (with_server(options={"authTokens": [""]}), None, "authTokens"),
    "an unset token": (with_server(options={"authTokens": ["${NOT_SET_ANYWHERE}"]}), None, "authTokens"),
    "a forbidden forward": (with_server(options={"forwardHeaders": ["Cookie"]}), None, "forwardHeaders"),
    "routes that meet": ({**FINE, "mcpServers": {n: FINE["mcpServers"]["s"] for n in ("a", "a/mcp")}}, None, "a/mcp"),
    "a bad name": ({**FINE, "mcpServers": {"_x": FINE["mcpServers"]["s"]}}, None, "_x"),
    "a pool with a token that is no token": (
        with_server(options={"auth": {"tokens": ["CANARY-pool-secret\r\nvalue"]}}), None, "tokens[0]"
    ),
    "a bad outbound proxy": (
        with_server(options={"proxy": "http://u:CANARY-proxy-secret@p:99999"}), None, "mcpServers.s.options.proxy"
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_wrong_configuration(command, config, what):
    """Serving ends with 2 before it begins; the path, the place and the reason are named, and no secret."""
    content, line, named = BROKEN[what]
    path = config(content)
    for arguments in (("--config", path), ("check", "--config", path)):
        result = command(*arguments)
        both = result.out + result.err
        assert result.code == 2, result
        if arguments[0] != "check":
            assert not result.out, result
        assert named is None or named in both, result
        assert re.search(r"\b\d+:\d+\b" if line is None else rf"\b{line}:\d+\b", both), f"no place: {result}"
        assert "CANARY" not in both


def test_check_shows_no_secret(command, config):
    """`check` prints what it understood, with every secret as •••."""
    canaries = Canaries()
    content = with_server(
        url=f"http://127.0.0.1:1/mcp?api_key={canaries.make('query')[:-3]}",
        headers={"Authorization": "Bearer " + canaries.make("authorization"), "X-Key": "${SECRET_OF_TEST}"},
    )
    content["mcpProxy"] = {**content["mcpProxy"], "options": {"authTokens": [canaries.make("inbound")]}}
    result = command("check", "--config", config(content), env={"SECRET_OF_TEST": canaries.make("environment")})
    assert result.code == 0 and "•••" in result.out, result
    assert not canaries.find("check", (result.out + result.err).encode())
    for word in ("http://127.0.0.1:1/mcp", "X-Key", "streamable-http"):
        assert word in result.out, result


def test_strict(command, config):
    """`--strict` fails on warnings, which otherwise are only printed."""
    path = config({**with_server(tiemout="30s")})
    result = command("check", "--config", path)
    assert result.code == 0 and "tiemout" in result.out + result.err and "timeout" in result.out + result.err, result
    assert command("check", "--strict", "--config", path).code == 2
    assert command("check", "--strict", "--config", config()).code == 0


def test_schema(command):
    """The schema is valid itself, takes every example and every good configuration, and refuses the bad."""
    result = command("schema")
    assert result.code == 0 and not result.err, result
    schema = json.loads(result.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(FINE)
    for example in sorted(ROOT.glob("examples/*.json")):
        try:
            content = json.loads(example.read_text())
        except ValueError:
            continue  # comments and trailing commas are ours, not the schema's
        validator.validate(content)
    shape = ("no proxy", "no name", "a bad type", "a bad transport", "command and url", "an unknown filter")
    for what in shape:
        assert not validator.is_valid(BROKEN[what][0]), what


@pytest.mark.parametrize("arguments", [("doctor", "--config", "{}"), ("--doctor", "--config", "{}")])
def test_not_built_yet(command, config, arguments):
    """What comes later says so."""
    result = command(*(a.format(config()) for a in arguments))
    assert result.code == 1 and "not built yet" in result.err, result


PROXIED = {"HTTPS_PROXY": "http://u:CANARY-variable-secret@proxy.corp:3128", "NO_PROXY": "x.test, .corp, 192.168."}


@pytest.mark.parametrize(
    "url,env,decision,rule",
    [
        ("https://api.example.com/v1", PROXIED, "https://api.example.com:443: through http://•••@proxy.corp:3128", "HTTPS_PROXY"),
        ("https://wiki.corp/", PROXIED, "https://wiki.corp:443: direct", "NO_PROXY entry 2 (.corp)"),
        ("http://api.example.com/", {"ALL_PROXY": "socks5h://p"}, "http://api.example.com:80: through socks5h://p:1080", "ALL_PROXY"),
        ("https://www.示例.com:8443/", PROXIED, "https://www.xn--fsq092h.com:8443: through http://•••@proxy.corp:3128", "HTTPS_PROXY"),
    ],
)
def test_explain_proxy(command, url, env, decision, rule):
    """One line says what is taken and one why, and no configuration is needed for what the environment decides."""
    result = command("explain", "proxy", url, env=env)
    assert result.code == 0 and not result.err, result
    lines = result.out.splitlines()
    assert lines[:2] == [decision, f"rule: {rule}"]
    assert ("192.168." in result.out) == ("NO_PROXY" in env)
    assert "CANARY" not in result.out


def test_explain_proxy_of_a_server(command, config):
    """The options of the server that is named decide, its own or the inherited ones."""
    content = with_server(options={"proxy": {"url": "https://u:CANARY-secret@own.test", "noProxy": ["*.near.test"]}})
    content["mcpServers"]["t"] = FINE["mcpServers"]["s"]
    content["mcpProxy"] = {**content["mcpProxy"], "options": {"proxy": False}}
    path = config(content)
    for server, url, decision, rule in (
        ("s", "http://far.test/", "through https://•••@own.test:443", "mcpServers.s.options.proxy"),
        ("s", "http://a.near.test/", "direct", "options.proxy.noProxy entry 1 (*.near.test)"),
        ("t", "http://far.test/", "direct", "options.proxy"),
    ):
        result = command("explain", "proxy", url, "--server", server, "--config", path, env=PROXIED)
        assert result.code == 0, result
        assert result.out.splitlines()[0].endswith(f": {decision}") and f"rule: {rule}\n" in result.out, result
    unknown = command("explain", "proxy", "http://far.test/", "--server", "u", "--config", path)
    assert unknown.code == 2 and '"s", "t"' in unknown.err and not unknown.out, unknown


@pytest.mark.parametrize(
    "url,env,named",
    [
        ("api.example.com", {}, "no absolute http or https URL"),
        ("https://ａpi.example.com/", {}, "xn--"),
        ("https://api.example.com/", {"HTTPS_PROXY": "ftp://u:CANARY-secret@p"}, "HTTPS_PROXY"),
    ],
)
def test_explain_proxy_without_an_answer(command, url, env, named):
    """What is wrong is named, on standard error, and the value of a variable is not."""
    result = command("explain", "proxy", url, env=env)
    assert result.code == 2 and not result.out and named in result.err and "CANARY" not in result.err, result


@pytest.mark.parametrize("arguments", [("--config",), ("check", "--config")])
def test_variable_that_names_no_proxy(command, config, arguments):
    """A server that needs a variable which names no usable proxy ends the start; a direct connection is not tried."""
    path = config(with_server(url="https://api.example.com/mcp"))
    result = command(*arguments, path, env={"HTTPS_PROXY": "http://u:CANARY-secret"})
    both = result.out + result.err
    assert result.code == 2 and "CANARY" not in both, result
    assert 'environment variable HTTPS_PROXY is not a usable proxy URL (value withheld); upstream "s" needs it.' in both
    fine = command("check", "--config", config(with_server(url="https://api.example.com/mcp", options={"proxy": False})),
                   env={"HTTPS_PROXY": "http://u:CANARY-secret"})
    assert fine.code == 0 and "proxy: none (options.proxy)" in fine.out, fine


class ConfigurationServer:
    """Gives a configuration over HTTP to those who send the right header."""

    def __init__(self, content, status=200, delay=0.0):
        self.asked = []
        outer = self
        self.stopping = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(dict(self.headers))
                outer.stopping.wait(delay)
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/config.json?token=CANARY-url-secret-value"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()


def test_configuration_from_a_url(command):
    """It is fetched with the given headers; neither they nor the query are shown."""
    server = ConfigurationServer(FINE)
    try:
        headers = "X-Key: CANARY-header-secret; X-Other:2"
        result = command("check", "--config", server.url, "--http-headers", headers)
        assert result.code == 0, result
        assert server.asked[0]["X-Key"] == "CANARY-header-secret" and server.asked[0]["X-Other"] == "2"
        assert "CANARY" not in result.out + result.err
    finally:
        server.close()


@pytest.mark.parametrize("status,delay", [(404, 0), (200, 30)])
def test_configuration_url_fails(command, status, delay):
    """A refusal or a silence ends the start, in time and with the reason."""
    server = ConfigurationServer(FINE, status, delay)
    try:
        result = command("--config", server.url, "--http-timeout", "1", deadline=10)
        assert result.code in (1, 2) and result.err and "CANARY" not in result.err, result
    finally:
        server.close()


def test_port_in_use(command, config):
    """An address that is taken is a start that fails with 1, and is named."""
    port = free_port()
    path = config(with_proxy(addr=f"127.0.0.1:{port}"))
    first = Child(binary(), "--config", path)
    try:
        first.wait_for(lambda: str(port).encode() in first.err, "it listens")
        result = command("--config", path)
        assert result.code == 1 and str(port) in result.err, result
    finally:
        first.kill()


def test_panic_if_invalid(command, config):
    """With `panicIfInvalid` an upstream that cannot be initialised ends the start with 1."""
    path = config(with_server(options={"panicIfInvalid": True}))
    result = command("--config", path, deadline=40)
    assert result.code == 1 and result.err, result


def test_standard_streams_closed(config):
    """A log that nobody reads is no reason to die."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [binary(), "--config", config(), "--log-level", "trace"], stdout=writer, stderr=writer, env=environment()
    )
    os.close(writer)
    os.read(reader, 1)  # it runs, and has written
    os.close(reader)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_demo():
    """A newcomer's first minute: it prints three commands, and each works as it is printed."""
    demo = Child(binary(), "demo")
    try:

        def commands():
            """What follows a `$`, up to the next empty line."""
            blocks = re.split(r"\n\s*\n", bytes(demo.out).decode("utf-8", "replace"))
            found = [block.strip().removeprefix("$ ") for block in blocks if block.strip().startswith("$ ")]
            return found if len(found) >= 3 and b"Ctrl-C" in demo.out else None

        for shown in demo.wait_for(commands, "three commands are printed"):
            path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
            done = subprocess.run(
                ["bash", "-ceu", shown], capture_output=True, timeout=30, cwd=ROOT, env=environment(PATH=path), check=False
            )
            assert done.returncode == 0 and done.stdout.strip(), (shown, done)
        demo.process.terminate()
        assert demo.wait(31) == 0
    finally:
        demo.kill()


def test_configuration_from_a_pipe(command, tmp_path):
    """The configuration may be a pipe, as a shell makes one: it is opened once, so that its writer finds its reader."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for _ in range(8):
        writer = threading.Thread(target=pipe.write_text, args=(json.dumps(FINE),))
        writer.start()
        result = command("check", "--config", pipe, deadline=10)
        writer.join()
        assert result.code == 0, result
