# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the machine, or with a file of another program, is said before anything is dialled: who, where, what helps."""

import json
import os
import re
import shutil
import socket
import subprocess

import pytest
from harness.gateway import binary
from harness.processes import Child, environment

GATEWAY = {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:0", "name": "n", "version": "1"}
NO_SWIFT = re.compile(r"descriptor:|errno|Error\b|failedTo|NIO|Optional\(")


@pytest.fixture
def run(tmp_path):
    """Writes a configuration, runs a command with it to its end, and gives exit code and all that it wrote."""

    def run(*arguments, servers=None, env=None, mode=0o600, **gateway):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"mcpProxy": {**GATEWAY, **gateway}, "mcpServers": servers or {}}, indent=2))
        path.chmod(mode)
        argv = [str(binary().resolve()), *arguments, "--config", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment(**(env or {})), timeout=30, check=False)
        text = done.stdout + done.stderr
        assert not NO_SWIFT.search(text), f"words of the program's own: {text}"
        return done.returncode, text

    return run


@pytest.fixture
def serving(tmp_path):
    """Starts the gateway, waits until it listens, ends it, and gives what it wrote."""

    def start(servers, *before, env=None, **gateway):
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"mcpProxy": {**GATEWAY, **gateway}, "mcpServers": servers}))
        path.chmod(0o600)
        child = Child(*before, binary().resolve(), "--config", path, "--log-format", "json", env=environment(**(env or {})))
        try:
            child.wait_for(lambda: b'"listening"' in child.err, "it listens")
            child.process.terminate()
            assert child.wait(15) == 0
        finally:
            child.kill()
        return bytes(child.err).decode()

    return start


@pytest.fixture(scope="module")
def pems(certificates, tmp_path_factory):
    """Files that are no certificate or key, each in its own way."""
    directory = tmp_path_factory.mktemp("pems")
    for name in ("ca.pem", "origin.crt", "origin.key", "elsewhere.key"):
        shutil.copy(certificates / name, directory / name)
    (directory / "empty.pem").write_bytes(b"")
    (directory / "text.pem").write_text("not a certificate\n")
    openssl = ["openssl", "pkey", "-in", directory / "origin.key", "-out", directory / "locked.key", "-aes256"]
    subprocess.run([*openssl, "-passout", "pass:CANARY"], check=True)
    subprocess.run(["openssl", "x509", "-in", directory / "ca.pem", "-outform", "DER", "-out", directory / "ca.der"], check=True)
    return directory


FILES = [
    ({"caFile": "gone.pem"}, "caFile", "does not exist"),
    ({"caFile": "ca.der"}, "caFile", "is in DER form"),
    ({"caFile": "text.pem"}, "caFile", "holds no certificate"),
    ({"certFile": "empty.pem", "keyFile": "origin.key"}, "certFile", "is empty"),
    ({"certFile": "origin.crt", "keyFile": "elsewhere.key"}, "keyFile", "is not the key of the certificate"),
    ({"certFile": "origin.crt", "keyFile": "locked.key"}, "keyFile", "is encrypted with a passphrase"),
    ({"certFile": "origin.crt", "keyFile": "ca.pem"}, "keyFile", "holds no private key"),
]


def test_certificates_that_cannot_be_used(run, pems):
    """Each ends `check` and the start with 2, at the key that names it, with the file and what is wrong with it."""
    for tls, key, reason in FILES:
        server = {"url": "https://127.0.0.1:1/mcp", "tls": {k: str(pems / v) for k, v in tls.items()}}
        for command in (["check"], []):
            code, text = run(*command, servers={"s": server})
            assert code == 2 and f"mcpServers.s.tls.{key}: \"{pems / tls[key]}\" {reason}" in text, (tls, text)
            assert re.search(r"config\.json:\d+:\d+: error: mcpServers", text), text
    fine = {"caFile": "ca.pem", "certFile": "origin.crt", "keyFile": "origin.key"}
    server = {"url": "https://127.0.0.1:1/mcp", "tls": {k: str(pems / v) for k, v in fine.items()}}
    assert run("check", "--strict", servers={"s": server})[0] == 0


def test_program_that_cannot_be_started(run, tmp_path):
    """It is a warning at its command, before anything was started; the child's own PATH counts."""
    tool = tmp_path / "bin" / "some-tool"
    tool.parent.mkdir()
    tool.write_text("#!/usr/bin/env no-such-interpreter\n")
    own = {"env": {"PATH": str(tool.parent)}}
    for entry, reason in (
        ({"command": "no-such-tool"}, "is not in the program's PATH"),
        ({"command": "some-tool", **own}, "is not executable"),
        ({"command": "~/bin/x"}, "~ is not expanded"),
        ({"command": "sh", "cwd": str(tmp_path / "gone")}, "there is no directory"),
    ):
        code, text = run("check", servers={"s": entry})
        assert code == 0 and reason in text and "warning: mcpServers.s.c" in text, text
        assert run("check", "--strict", servers={"s": entry})[0] == 2
    tool.chmod(0o755)
    assert "wants \"no-such-interpreter\"" in run("check", servers={"s": {"command": "some-tool", **own}})[1]
    assert run("check", "--strict", servers={"s": {"command": "sh"}})[0] == 0


def test_proxy_variables_that_programs_do_not_get(run, serving):
    """`check` and the start say so once, with what passes them."""
    proxied = {"HTTPS_PROXY": "http://CANARY:CANARY@127.0.0.1:1", "NO_PROXY": "CANARY"}
    servers = {"s": {"command": "cat"}, "t": {"command": "cat"}, "u": {"command": "cat", "inheritEnv": True}}
    code, text = run("check", "--strict", servers=servers, env=proxied)
    assert code == 0 and text.count("[proxy-not-passed]") == 1 and "CANARY" not in text, text
    assert 'the program of s, t; "inheritEnv": ["HTTPS_PROXY", "NO_PROXY"] passes them' in text
    log = serving(servers, env=proxied)
    assert log.count('"proxy-not-passed"') == 1 and "CANARY" not in log, log


def test_file_that_others_can_read(run):
    """It is worth a warning if it spells out a secret, and the warning says where."""
    server = {"url": "https://127.0.0.1:1/mcp"}
    assert "file-readable" not in run("check", servers={"s": server}, mode=0o644)[1]
    named = {**server, "headers": {"Authorization": "Bearer ${HOME}"}}
    assert "file-readable" not in run("check", servers={"s": named}, mode=0o644)[1]
    literal = {**server, "headers": {"Authorization": "Bearer CANARY-secret"}}
    code, text = run("check", servers={"s": literal}, mode=0o644)
    assert code == 0 and "warning: mcpServers.s.headers.Authorization: others can read this file" in text, text
    assert "CANARY" not in text and "file-readable" not in run("check", servers={"s": literal}, mode=0o600)[1]


def test_restrictions_of_other_programs(run, serving):
    """A login that nobody would ask for ends the start; a server that its client switched off does not run."""
    server = {"url": "http://127.0.0.1:1/mcp"}
    for command in (["check"], []):
        code, text = run(*command, servers={"s": server}, oauth2={"enabled": True, "users": [{"password": "CANARY"}]})
        assert code == 2 and "mcpProxy.oauth2: " in text and "mcpProxy.options.authTokens" in text, text
        assert "CANARY" not in text
    log = serving({"s": {**server, "disabled": True}, "t": {"command": "false", "enabled": False, "autoApprove": ["x"]}})
    assert '"serving"' not in log and "child" not in log, log
    assert log.count('"foreign-key"') == 2 and log.count('"client-key"') == 1, log


def test_proxy_without_a_url(run):
    """Nobody is reached past a proxy that was half described, whoever describes it."""
    servers = {"s": {"url": "http://127.0.0.1:1/mcp"}}
    half = {"auth": {"username": "u", "password": "CANARY"}}
    for arguments in ({"servers": {"s": {**servers["s"], "options": {"proxy": half}}}},
                      {"servers": servers, "options": {"proxy": half}}):
        for command in (["check"], []):
            code, text = run(*command, **arguments)
            assert code == 2 and "options.proxy.url: " in text and "CANARY" not in text, text


def test_address_that_is_taken(run):
    """Who has the port is said, where to change it, and nothing of how the program came to know."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        code, text = run(addr=f"127.0.0.1:{port}")
        assert code == 1 and re.search(r"config\.json:4:\d+: mcpProxy\.addr: ", text), text
        assert f"127.0.0.1:{port} is taken by " in text and f"(pid {os.getpid()})" in text, text
        demo = subprocess.run(
            [binary(), "demo", "--port", str(port)], capture_output=True, text=True, env=environment(), timeout=30, check=False
        )
        assert demo.returncode == 1 and "change --port" in demo.stderr and "mcpProxy" not in demo.stderr, demo
    code, text = run(addr="203.0.113.77:0")
    assert code == 1 and "203.0.113.77 is no address of this machine" in text, text
    code, text = run(addr="no-such-host.invalid:0")
    assert code == 1 and "the host no-such-host.invalid has no address" in text, text


def test_limit_of_open_files(serving):
    """A little less than the default is no word worth; little, or less than what was asked for, is, with what to do."""
    limited = ("bash", "-c", 'ulimit -n "$1" && shift && exec "$@"', "-")
    assert "limits.connections" not in serving({}, *limited, 20_000)
    for files, limits in ((1_024, {}), (20_000, {"connections": 20_000})):
        log = serving({}, *limited, files, limits=limits)
        assert log.count("limits.connections lowered") == 1 and "LimitNOFILE=" in log, log
