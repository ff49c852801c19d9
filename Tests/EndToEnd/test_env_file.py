# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Variables that stand in a file: below those of the environment, said plainly where a line means nothing, and never shown."""

import json
import re
import subprocess

import pytest
from harness.gateway import binary
from harness.processes import Child, environment

GATEWAY = {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:0", "name": "n", "version": "1"}


@pytest.fixture
def run(tmp_path):
    """Writes a file of variables and a configuration with this member of `mcpProxy`, and runs a command to its end."""

    def run(variables, *command, name="${TEST_NAME}", env=None, expand="true"):
        (tmp_path / "variables").write_bytes(variables)
        path = tmp_path / "config.json"
        servers = {"s": {"command": "cat", "args": []}}
        path.write_text(json.dumps({"mcpProxy": {**GATEWAY, "name": name}, "mcpServers": servers}))
        path.chmod(0o600)
        argv = [binary().resolve(), *command, "--config", "config.json", "--env-file", "variables", "--expand-env", expand]
        done = subprocess.run(
            [str(argument) for argument in argv],
            capture_output=True,
            cwd=tmp_path,
            env=environment(**(env or {})),
            timeout=30,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    return run


@pytest.mark.parametrize(
    "variables,value",
    [
        (b"TEST_NAME=plain\n", "plain"),
        (b"# TEST_NAME=no\n\nexport TEST_NAME = two words # a comment\r\n", "two words"),
        (b"TEST_NAME='$HOME # ${HOME}'", "$HOME # ${HOME}"),
        (b'TEST_NAME="a \\"b\\" \\\\ \\$c"', 'a "b" \\ $c'),
        (b"TEST_NAME=first\nTEST_NAME=last", "last"),
        (b"\xef\xbb\xbfTEST_NAME=marked", "marked"),
    ],
)
def test_variables_from_a_file(run, variables, value):
    """They are what the file says, for `check`, with nothing expanded that they bring in."""
    code, text = run(variables, "check", "--strict")
    assert code == 0, text
    assert value in text or json.dumps(value)[1:-1] in text, text


def test_environment_wins(run):
    """What the environment has counts, also if it is empty; what it has not is the file's."""
    file = b"TEST_NAME=of-the-file\nTEST_OTHER=of-the-file-too\n"
    code, text = run(file, "check", name="${TEST_NAME} ${TEST_OTHER}", env={"TEST_NAME": "of-the-environment"})
    assert code == 0 and "of-the-environment of-the-file-too" in text and "of-the-file " not in text, text
    code, text = run(file, "check", name="x${TEST_NAME}y", env={"TEST_NAME": ""})
    assert code == 0 and "xy" in text and "of-the-file" not in text, text
    code, text = run(file, "check", name="x${TEST_NAME}y", expand="false")
    assert code == 0 and "of-the-file" not in text, text


def test_lines_that_mean_nothing(run):
    """Each ends `check` and the start with 2, with file, line and column, and shows nothing of what stands there."""
    for variables, place, reason in (
        (b"A=1\nCANARY", "2:7", "expected = behind the name"),
        (b"A=1\n9CANARY=1", "2:1", "no name of a variable begins here"),
        (b"A='CANARY\n'", "1:3", "this quote has no end"),
        (b'A="CANARY\\t"', "1:10", "in double quotes a backslash begins"),
        (b"A='1'CANARY", "1:6", "expected the end of the line"),
        (b"A=CANARY\0", "1:9", "NUL byte"),
        (b"A=CANARY\xe9", "1:9", "not UTF-8"),
    ):
        for command in ([], ["check"], ["explain", "proxy", "https://example.com/"]):
            code, text = run(variables, *command, name="n")
            assert code == 2 and reason in text and "CANARY" not in text, (variables, command, text)
            assert re.search(rf"^variables:{place}: error: ", text, re.M), (variables, text)


def test_files_that_cannot_be_read(tmp_path):
    """A file that is missing, a directory or too large ends the start with 2 and is named."""
    (tmp_path / "config.json").write_text(json.dumps({"mcpProxy": GATEWAY, "mcpServers": {}}))
    (tmp_path / "config.json").chmod(0o600)
    (tmp_path / "directory").mkdir()
    (tmp_path / "large").write_bytes(b"#" * (1024 * 1024 + 1))
    for name, reason in (("gone", "no such file"), ("directory", "is a directory"), ("large", "larger than 1 MiB")):
        for command in ([], ["check"]):
            argv = [str(binary().resolve()), *command, "--env-file", name]
            done = subprocess.run(
                argv, capture_output=True, text=True, cwd=tmp_path, env=environment(), timeout=30, check=False
            )
            assert done.returncode == 2 and f"{name}: {reason}" in done.stderr, (name, done)


def test_proxy_variables_from_a_file(run):
    """They decide as those of the environment do, where that has none."""
    file = b"HTTPS_PROXY=http://u:CANARY@proxy.test:3128\n"
    explain = ("explain", "proxy", "https://example.com/")
    code, text = run(file, *explain, name="n")
    assert code == 0 and "through http://•••@proxy.test:3128" in text and "CANARY" not in text, text
    code, text = run(file, *explain, name="n", env={"HTTPS_PROXY": "http://other.test:1"})
    assert code == 0 and "through http://other.test:1" in text, text


def test_programs_get_what_the_configuration_gives_them(tmp_path):
    """A program inherits nothing of the file, gets what its `env` names, and no line of the log has it."""
    (tmp_path / "variables").write_text("TEST_TOKEN=CANARY-token-1234\nTEST_OTHER=CANARY-other-1234\n")
    script = 'echo "got $TEST_TOKEN, ${TEST_OTHER:-nothing} and no more" >&2; exec cat'
    said = {
        "command": "sh",
        "args": ["-c", script.replace("$", "$$")],
        "env": {"TEST_TOKEN": "${TEST_TOKEN}"},
        "inheritEnv": ["TEST_OTHER"],
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"mcpProxy": GATEWAY, "mcpServers": {"s": said}}))
    path.chmod(0o600)
    options = ["--env-file", tmp_path / "variables", "--log-format", "json", "--log-level", "debug"]
    child = Child(binary().resolve(), "--config", path, *options, env=environment())
    try:
        child.wait_for(lambda: b"and no more" in child.err, "the program has said what it got")
        child.process.terminate()
        assert child.wait(15) == 0
    finally:
        child.kill()
    log = bytes(child.err).decode()
    assert "got •••, nothing and no more" in log and "CANARY" not in log, log
