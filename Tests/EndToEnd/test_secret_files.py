# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Secrets that stand in files: read from the disk as they are, said plainly where that cannot be, and never shown."""

import json
import os
import re
import subprocess

import pytest
from harness.gateway import binary
from harness.processes import Child, environment

GATEWAY = {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:0", "name": "n", "version": "1"}


@pytest.fixture
def place(tmp_path):
    """A directory with a configuration in it that is not the one where the program runs."""
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


@pytest.fixture
def run(tmp_path, place):
    """Writes a configuration with this argument of a program, and runs a command with it to its end."""

    def run(value, *command, env=None):
        path = place / "config.json"
        servers = {"s": {"command": "cat", "args": [value]}}
        path.write_text(json.dumps({"mcpProxy": GATEWAY, "mcpServers": servers}, indent=2))
        path.chmod(0o600)
        argv = [str(binary().resolve()), *command, "--config", "etc/config.json"]
        done = subprocess.run(
            argv, capture_output=True, text=True, cwd=tmp_path, env=environment(**(env or {})), timeout=30, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


def secret(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)


def test_files_that_give_no_secret(run, place):
    """Each ends `check` and the start with 2, at line and column, and says what to do."""
    secret(place / "empty", b"")
    secret(place / "blank", b" \n\t\r\n")
    secret(place / "long", b"x" * 65 * 1024)
    secret(place / "latin", "CANARY-é".encode("latin-1"))
    secret(place / "nul", b"CANARY\0CANARY")
    (place / "directory").mkdir()
    (place / "loop").symlink_to("loop")
    os.mkfifo(place / "pipe")
    for name, reason in {
        "gone": 'there is no secret file "gone"; create it, or correct the path; relative paths count from',
        "gone/deeper": "there is no secret file",
        "empty": "is empty, or nothing but white space; write the secret into it",
        "blank": "is empty, or nothing but white space; write the secret into it",
        "directory": '"directory" is a directory; name the file in it',
        "loop": "this user cannot read the secret file",
        "pipe": "is no regular file",
        "long": "has more than 64 KiB",
        "latin": "is not UTF-8 text",
        "nul": "has a NUL byte",
        "${UNSET}/x": "the environment variable UNSET is not set",
        "x:-default": "has no default",
    }.items():
        for command in ([], ["check"]):
            code, text = run(f"${{file:{name}}}", *command)
            assert code == 2 and reason in text and "CANARY" not in text, (name, text)
            assert re.search(r"etc/config\.json:\d+:\d+: error: mcpServers\.s\.args\[0\]: ", text), text


def test_files_that_give_one(run, place):
    """64 KiB, relative and whole paths, links, and the directory of systemd's credentials are fine with `--strict`."""
    secret(place / "fine", b"secret\n")
    secret(place / "largest", b"x" * 64 * 1024)
    secret(place / "everybody", b"CANARY", mode=0o644)
    (place / "link").symlink_to("fine")
    credentials = {"CREDENTIALS_DIRECTORY": str(place)}
    for path in ("fine", "largest", "link", "../etc/fine", str(place / "fine"), "${CREDENTIALS_DIRECTORY}/fine"):
        code, text = run(f"${{file:{path}}}", "check", "--strict", env=credentials)
        assert code == 0, (path, text)
    code, text = run("${file:everybody}", "check", "--strict")
    assert code == 2 and "[secret-file-readable-by-others]" in text and "CANARY" not in text, text
    assert run("${file:${CREDENTIALS_DIRECTORY}/everybody}", "check", "--strict", env=credentials)[0] == 0


def test_secret_reaches_the_program_and_nothing_else(place):
    """The program has it as its argument, and no line of the log has it, whatever the program says."""
    secret(place / "token", b"CANARY-token-1234\n")
    said = {"command": "sh", "args": ["-c", 'echo "got $0" >&2; exec cat', "${file:token}"]}
    path = place / "config.json"
    path.write_text(json.dumps({"mcpProxy": GATEWAY, "mcpServers": {"s": said}}))
    path.chmod(0o600)
    options = ["--log-format", "json", "--log-level", "debug"]
    child = Child(binary().resolve(), "--config", path, *options, env=environment())
    try:
        child.wait_for(lambda: b"got" in child.err, "the program has said what it got")
        child.process.terminate()
        assert child.wait(15) == 0
    finally:
        child.kill()
    log = bytes(child.err).decode()
    assert "got •••" in log and "CANARY" not in log, log
