# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""SIGHUP, whenever it comes and however often; and configurations that say the same in other words."""

import asyncio
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness.callers import Caller, SSECaller, text_of, works
from harness.gateway import binary, in_place_of
from harness.processes import Child, children_of, environment, poll, until

pytestmark = pytest.mark.gateway_only

SIGNALS = 50
SIGHUP_BIT = 1 << (signal.SIGHUP - 1)
MINIMAL = {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:0", "name": "n", "version": "1"}


async def test_unchanged(unwatched, child, tokens):
    """SIGHUP with the same file, fifty times during calls: no process, session, stream or connection becomes another."""
    url = f"http://127.0.0.1:{tokens.port}"
    servers = {
        "program": child.entry,
        "http": {"url": f"{url}/sessions"},
        "channel": {"url": f"{url}/sse", "transportType": "sse"},
        "shared": {"url": f"{url}/sessions", "options": {"isolation": "shared"}},
        "pool": tokens.entry("/sessions", "A B", "round-robin", affinity="session"),
    }
    gateway = unwatched(servers, log_level="info")
    callers = [await Caller.open(gateway, name) for name in servers]
    streams = [await caller.stream() for caller in callers]
    old = await SSECaller.open(gateway, "program")
    for caller in callers:
        await works(caller)

    def what_lasts():
        return at_rest(gateway), set(children_of(gateway.pid)), tokens.state()["sessions"]

    sockets, programs, sessions = await asyncio.to_thread(what_lasts)
    counted, over = 0, asyncio.Event()

    async def traffic():
        nonlocal counted
        while not over.is_set():
            for caller in callers:
                assert "result" in await caller.ask("echo", {"text": "x"})
                counted += 1

    calling = asyncio.create_task(traffic())
    for _ in range(SIGNALS):
        last = await asyncio.to_thread(gateway.reload, "unchanged")
        assert last["same"] == len(servers)
    over.set()
    await calling
    assert counted
    after, programs_after, sessions_after = await asyncio.to_thread(what_lasts)
    assert sockets - after == set(), f"connections that are gone: {sockets - after} of {len(sockets)}"
    assert (programs_after, sessions_after) == (programs, sessions)
    assert child.starts() == 1 and gateway.generation() == 1
    assert gateway.metric("config_reloads_total", result="unchanged") == SIGNALS
    assert not old.ended and text_of(await old.call("echo", {"text": "x"}, id=99)) == '{"text": "x"}'
    assert "result" in await callers[0].ask("announce", {"method": "notifications/tools/list_changed"})
    wire, stream = streams[0]
    async with asyncio.timeout(5):
        async for event in wire.events(stream):
            if "list_changed" in event.get("data", ""):
                break
    old.close()


def at_rest(gateway):
    """Its sockets and pipes, once those of callers that have gone are closed."""
    seen = [gateway.sockets()]

    def is_at_rest():
        time.sleep(0.1)
        seen.append(gateway.sockets())
        return seen[-1] == seen[-2]

    poll("nothing opens and closes", is_at_rest)
    return seen[-1]


def test_other_words(unwatched, tokens):
    """Order, comments, white space, and other ways to write a value: whatever means the same changes nothing."""
    entry = {
        "url": f"http://127.0.0.1:{tokens.port}/plain",
        "timeout": "90s",
        "options": {"toolFilter": {"mode": "block", "list": ["a", "b"]}, "disabled": False},
    }
    other = {
        "options": {"toolFilter": {"list": "b, a", "mode": "BLOCK"}},
        "timeout": "1m30s",
        "transportType": "streamable-http",
        "headers": {"X-Environment": "${E2E_CANARY:-no}"},
        "url": entry["url"],
    }
    gateway = unwatched({"s": entry, "t": entry})
    gateway.change({"s": other, "t": None}, limits={"headBytes": "16KiB"}, startupGracePeriod="30s")
    gateway.change({"t": entry})
    whole = gateway.configuration
    turned = {key: dict(reversed(list(value.items()))) for key, value in reversed(list(whole.items()))}
    for text in (
        json.dumps(turned),
        "// the gateway of the tests\n/* nothing\nelse */ " + json.dumps(turned, indent="\t") + "\n\n",
        "\ufeff" + json.dumps(turned, separators=(" , ", " : ")),
        gateway.text.replace('"1m30s"', "90000"),
    ):
        gateway.write(text)
        assert gateway.reload("unchanged")["same"] == 2, text
    assert gateway.generation() == 1


async def test_two_within_a_millisecond(unwatched, tokens):
    """Any number of signals at once are two reloads at most, and the last configuration is the one that counts."""
    entry = {"url": f"http://127.0.0.1:{tokens.port}/plain"}
    gateway = unwatched({"s": entry})
    for n in range(5):
        before = gateway.reloads()
        gateway.reconfigure({f"s{n}": entry})
        gateway.signal_reload()
        gateway.reconfigure({f"t{n}": entry})
        gateway.signal_reload()
        await until("the last is served", lambda n=n: f"t{n}" in gateway.status()["upstreams"])
        gateway.reload("applied", "unchanged")  # this one, or the second of the two
        gateway.reload("unchanged")
        assert gateway.reloads() - before <= 4, "the two, and those that were asked for afterwards"


async def test_while_it_stops(unwatched, child):
    """A gateway that stops says so, reads nothing and goes on to stop."""
    gateway = unwatched({"child": child.entry})
    caller = await Caller.open(gateway, "child")
    call = asyncio.create_task(caller.call("slow", {"seconds": 1.5, "nonce": "last"}, id=1))
    await until("it runs", lambda: child.executed("last"))
    gateway.child.process.send_signal(signal.SIGTERM)
    gateway.logged("stopping")
    gateway.reconfigure({"child": None, "other": child.entry})
    gateway.signal_reload()
    gateway.logged("the configuration is not read again: the gateway stops")
    assert "result" in (await call).reply(1)
    assert not gateway.log("configuration reloaded") and not gateway.log("configuration refused")
    await asyncio.to_thread(gateway.stop, was_told=True)


def test_during_the_start(tmp_path, child):
    """A signal that comes while the gateway starts waits for the start: it neither ends it nor is it lost."""
    path = tmp_path / "config.json"
    write = in_place_of(path)
    entry = child.with_arguments(options={"panicIfInvalid": True})
    entry["args"][4] = "slow-start?ms=700"
    write(json.dumps({"mcpProxy": MINIMAL, "mcpServers": {"s": entry}}))
    argv = ["--config", path, "--watch", "off", "--log-format", "json"]
    gateway = Child(binary(), *argv, env=environment())
    try:
        status = Path(f"/proc/{gateway.pid}/status")

        def takes_signals():
            if not os.path.samefile(f"/proc/{gateway.pid}/exe", binary()):
                return False  # it is still what it was forked from
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            return any(int(fields[name], 16) & SIGHUP_BIT for name in ("SigIgn", "SigCgt"))

        poll("it takes signals", takes_signals)
        more = {"s": entry, "t": child.with_arguments("t")}
        write(json.dumps({"mcpProxy": MINIMAL, "mcpServers": more}))
        os.kill(gateway.pid, signal.SIGHUP)
        gateway.wait_for(lambda: all(f'"upstream":"{name}","from":"none","to":"usable"'.encode() in gateway.err for name in "st"), "both")
        gateway.process.terminate()
        assert gateway.wait(15) == 0, gateway.tail()
    finally:
        gateway.kill()
        child.sweep()


def test_time_of_a_reload(unwatched, tokens):
    """A hundred servers, and nothing changed: the gateway is busy for less time than `check` is, and each of them goes on."""
    entry = {"url": f"http://127.0.0.1:{tokens.port}/plain", "protocol": "stateless"}
    gateway = unwatched({f"s{n}": entry for n in range(100)}, log_level="info", options={"autoReconnect": False})
    said = lambda: bytes(gateway.child.err).count(b'"configuration reloaded"')
    spent = []
    for n in range(20):
        before = cpu(gateway.pid)
        gateway.signal_reload()
        poll("it is done", lambda n=n: said() > n)
        spent.append(1000 * (cpu(gateway.pid) - before))
    checks = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([binary(), "check", "--config", gateway.source], env=environment(E2E_CANARY="x"), capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        checks.append(1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    assert sorted(spent)[10] < min(checks), f"milliseconds: {[round(each) for each in spent]}, check: {checks}"
    assert gateway.generation() == 1


def cpu(pid):
    """Seconds that its threads ran."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def test_signals_and_stop(unwatched, tokens):
    """A gateway that was reloaded a moment ago stops in order."""
    entry = {"url": f"http://127.0.0.1:{tokens.port}/plain"}
    gateway = unwatched({"s": entry})
    gateway.reconfigure({"t": entry})
    gateway.signal_reload()
    began = time.monotonic()
    await asyncio.to_thread(gateway.stop)
    assert time.monotonic() - began < 5
