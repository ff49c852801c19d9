# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""`mcp-proxy reload`: checks the file, has the gateway read it, and says what came of it."""

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest
from harness.gateway import binary
from harness.processes import Child, environment, free_port, poll

pytestmark = pytest.mark.gateway_only


@pytest.fixture
def gateway(unwatched, tokens):
    """A gateway whose configuration says where it listens."""
    return unwatched({"s": at(tokens)}, addr=f"127.0.0.1:{free_port()}")


@pytest.fixture
def reload(gateway, tmp_path):
    """Runs the command for the gateway's configuration: exit code, and all that it wrote."""

    def run(*arguments, config=None, deadline=20):
        argv = [binary().resolve(), "reload", "--config", config or gateway.source, *arguments]
        env = environment(E2E_CANARY=gateway.canaries.make("environment"))
        done = subprocess.run(
            [str(part) for part in argv], capture_output=True, cwd=tmp_path, env=env, timeout=deadline, check=False
        )
        gateway.seen += done.stdout + done.stderr
        return done.returncode, (done.stdout + done.stderr).decode()

    return run


def at(tokens, **more):
    return {"url": f"http://127.0.0.1:{tokens.port}/plain", "protocol": "stateless", **more}


def test_applied(gateway, reload, tokens):
    """It waits until the gateway has done it, and one line says which servers changed and how."""
    gateway.reconfigure({name: at(tokens) for name in ("wiki", "github", "old", "same")})
    code, text = reload()
    assert code == 0 and "(generation 2)" in text and gateway.source.name in text, text
    changes = {
        "maps": at(tokens),
        "wiki": at(tokens, headers={"X-Version": "2"}),
        "github": at(tokens, timeout="7s"),
        "old": None,
    }
    gateway.reconfigure(changes)
    code, text = reload()
    assert code == 0, text
    assert f"reloaded {gateway.source.name} (generation 3): " in text.replace(f"{gateway.source.parent}/", ""), text
    for part in ("added maps", "replaced wiki", "tuned github", "removed old", "2 unchanged"):
        assert part in text, (part, text)
    assert gateway.reloads() == 2 and gateway.generation() == 3
    assert gateway.status()["configuration"]["lastReload"]["trigger"] == "signal"


def test_unchanged(gateway, reload):
    """A file that says what runs is fine."""
    code, text = reload()
    assert code == 0 and "unchanged" in text, text
    assert (gateway.reloads(), gateway.generation()) == (1, 1)


def test_wrong_file(gateway, reload, tokens):
    """A wrong file is said with line and column, and the gateway is not even asked."""
    gateway.write(gateway.text.replace('"version": "1"', '"version": 1'))
    code, text = reload()
    assert code == 2 and ": error: mcpProxy.version" in text, text
    assert gateway.reloads() == 0
    gateway.source.unlink()
    assert reload()[0] in (1, 2) and gateway.reloads() == 0
    gateway.write()


def test_refused_by_the_gateway(gateway, reload, tokens, tmp_path):
    """What is fine here and wrong there is said with what the gateway found, and is a failure."""
    gateway.reconfigure({"t": at(tokens)})
    other = tmp_path / "other.json"
    other.write_text(gateway.text)
    other.chmod(0o600)
    gateway.write(gateway.text[:-20])
    code, text = reload(config=other)
    assert code not in (0, 2) or "refused" in text, (code, text)
    assert gateway.generation() == 1
    gateway.write()


def test_nobody_there(gateway, reload, tmp_path):
    """Where no gateway answers it says where it looked, and how to say it better."""
    config = json.loads(gateway.text)
    config["mcpProxy"]["addr"] = f"127.0.0.1:{free_port()}"
    moved = tmp_path / "moved.json"
    moved.write_text(json.dumps(config))
    moved.chmod(0o600)
    code, text = reload(config=moved)
    assert code == 1 and config["mcpProxy"]["addr"] in text and "--addr" in text and "--pid" in text, text
    assert gateway.reloads() == 0


@pytest.mark.parametrize("how", ["--addr", "--pid"])
def test_address_that_changed(gateway, reload, tokens, how):
    """When the file names another address than the gateway has, its address or its process says which one is meant."""
    address = gateway.configuration["mcpProxy"]["addr"]
    gateway.reconfigure({"t": at(tokens)}, addr=f"127.0.0.1:{free_port()}")
    assert reload()[0] == 1
    code, text = reload(how, address if how == "--addr" else str(gateway.pid))
    assert code == 0, text
    if how == "--addr":
        assert "added t" in text and "needs-restart" in text, text
    poll("it is applied", lambda: gateway.generation() == 2)


@pytest.mark.parametrize("arguments", [("--pid", "x"), ("--pid", "0"), ("--pid", "-1"), ("--addr", "nowhere"), ("--watch", "off")])
def test_wrong_arguments(gateway, reload, arguments):
    """Wrong arguments are said, and nobody gets a signal."""
    code, text = reload(*arguments)
    assert code in (1, 2) and text, text
    assert gateway.reloads() == 0


def test_pid_of_somebody_else(gateway, reload):
    """A process that is no gateway gets no signal, which would end it."""
    stranger = Child("sleep", "60")
    try:
        code, text = reload("--pid", str(stranger.pid))
        assert code == 1 and text, text
        assert stranger.process.poll() is None
        gone = Child("true")
        gone.wait(5)
        assert reload("--pid", str(gone.pid))[0] == 1
    finally:
        stranger.kill()


def test_somebody_else_at_the_address(gateway, reload, tokens):
    """Where another program answers, it is no gateway, and nobody gets a signal."""
    code, text = reload("--addr", f"127.0.0.1:{tokens.port}")
    assert code == 1 and text, text


async def test_many_at_once(gateway, reload, tokens):
    """Five at once end well, each with an outcome that came after it asked."""
    gateway.reconfigure({"t": at(tokens)})
    done = await asyncio.gather(*(asyncio.to_thread(reload) for _ in range(5)))
    assert [code for code, _ in done] == [0] * 5, done
    assert gateway.generation() == 2


def test_while_it_stops(gateway, reload, tokens):
    """A gateway that stops reads nothing, and the command does not wait for it for ever."""
    gateway.stop()
    code, text = reload()
    assert code == 1 and text, text


def test_no_file_of_its_own(gateway):
    """The process is found by what `/_status` says, and needs no file of its own."""
    assert gateway.status()["pid"] == gateway.pid
    assert not list(Path(gateway.source).parent.glob("*.pid"))
    gateway.child.process.send_signal(signal.SIGHUP)
    poll("it is told", lambda: gateway.reloads() == 1)
