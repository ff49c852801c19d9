# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What a program is given by the gateway that starts it, and what becomes of what it writes to stderr."""

import hashlib
import json
import os
import time

import pytest
from harness.callers import Caller, text_of, works
from harness.children import FaultChild
from harness.processes import until

pytestmark = pytest.mark.gateway_only

OURS = {
    "AWS_SECRET_ACCESS_KEY": "not for children",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "SHARED_ONE": "1",
    "SHARED_TWO": "2",
    "LC_TIME": "C",
    "XDG_DATA_HOME": "/x",
}
ALLOWED = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"}
OWN = {"OWN", "OPENAI_API_KEY", "E2E_SECRET", "E2E_EXPANDED"}


async def test_what_the_program_is_given(child_of, tmp_path):
    """The environment of the allow-list and its own `env`, three descriptors, a group of its own, no shell's doing."""
    arguments = ["; touch pwned", "$HOME", "`id`", "two  words", "", "*"]
    env = {"OWN": "v\u00e4l ue $HOME", "OPENAI_API_KEY": "ours"}
    # In the configuration a dollar is written twice.
    written = {name: value.replace("$", "$$") for name, value in env.items()}
    given = [argument.replace("$", "$$") for argument in arguments]
    gateway, child = child_of("report-env", *given, environment=OURS, cwd=str(tmp_path), env=written)
    report = json.loads(text_of(await (await Caller.open(gateway, "child")).ask("report-env")))
    given = report["env"]
    assert {name for name in given if not name.startswith(("LC_", "XDG_"))} <= ALLOWED | OWN
    assert given["OWN"] == env["OWN"] and given["LC_TIME"] == "C" and given["XDG_DATA_HOME"] == "/x"
    assert given["PATH"] == os.environ["PATH"]
    secrets_of = {"E2E_SECRET": "child", "E2E_EXPANDED": "environment"}
    for name, kind in secrets_of.items():
        assert given[name] == hashlib.sha256(gateway.canaries.make(kind).encode()).hexdigest(), name
    assert report["cwd"] == str(tmp_path) and report["argv"][-len(arguments) :] == arguments
    assert set(report["descriptors"]) == {"0", "1", "2"}, report["descriptors"]
    assert report["group"] == report["pid"], "it leads its own group"
    assert report["umask"] == "077" and report["core"] == 0


@pytest.mark.parametrize(
    "inherit,names",
    [
        (True, {"AWS_SECRET_ACCESS_KEY", "HTTP_PROXY", "SHARED_ONE", "SHARED_TWO"}),
        (["SHARED_*"], {"SHARED_ONE", "SHARED_TWO"}),
        (["SHARED_ONE", "NOT_SET"], {"SHARED_ONE"}),
        (False, set()),
    ],
    ids=["all", "by-prefix", "by-name", "none"],
)
async def test_inherited_environment(child_of, inherit, names):
    """`inheritEnv` passes on what it names, and nothing beside the allow-list otherwise."""
    gateway, child = child_of("report-env", environment=OURS, inheritEnv=inherit)
    report = json.loads(text_of(await (await Caller.open(gateway, "child")).ask("report-env")))
    assert names == {name for name in report["env"] if name in OURS and not name.startswith(("LC_", "XDG_"))}
    assert not any(name.startswith("SWIFT_") for name in report["env"])


async def test_signals_of_the_program(child_of, tmp_path):
    """No signal is blocked or ignored that the program did not ask to."""
    status = tmp_path / "status"
    child = FaultChild(tmp_path, "ok")
    script = ["-c", 'grep ^Sig /proc/self/status >"$0"; exec "$@"', str(status), child.entry["command"], *child.entry["args"]]
    gateway, _ = child_of("ok", command="/bin/sh", args=script)
    await works(await Caller.open(gateway, "child"))
    masks = dict(line.split(":\t") for line in status.read_text().splitlines())
    assert int(masks["SigBlk"], 16) == 0 and not int(masks["SigIgn"], 16) & 0x7FFF_FFFF, masks


async def test_flood_on_stderr(child_of):
    """It is drained as fast as it comes, logged at 64 KiB a second at the most, and a secret in it is masked."""
    gateway, child = child_of("stderr-flood")
    caller = await Caller.open(gateway, "child")
    before, began = len(gateway.child.err), time.monotonic()
    assert "result" in await caller.ask("fault")
    took = time.monotonic() - began
    assert took < 15
    assert len(gateway.child.err) - before < (took + 2) * 4 * 64 * 1024, "escaped and labelled, but still bounded"


async def test_control_characters_on_stderr(child_of):
    """What the program writes is data in the log: no control character of its reaches a terminal."""
    gateway, child = child_of("stderr-control-chars")
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("fault")
    await until("it is logged", lambda: gateway.log("bell"))
    written = bytes(gateway.child.err).replace(b"\n", b"")
    assert not [byte for byte in set(written) if byte < 0x20 or byte == 0x7F]
    assert "\u202e" not in written.decode(), "nor one that turns the direction of text"
