# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Programs as people have them: on old SDKs, alone with their files, busy, and talkative."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.callers import Caller, text_of, works
from harness.children import FaultChild
from harness.errors import gateway_error
from harness.gateway import binary
from harness.processes import PEERS, PYTHON, StdioEverything, children_of, environment, free_port, read_lines, until
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ERA = "stateless"
NOTICED = {"info", "notice", "warning", "error", "critical"}
"""The levels that are logged unless somebody asks for more."""


async def ask(gateway, name, method="tools/list", params=None, id=1):
    """A request of 2026-07-28."""
    body = message(method, params, id=id, era=ERA)
    return await post(gateway.url(name), body, era=ERA, token=gateway.token, seen=gateway.seen)


def assert_handshake_only(answer, id=1):
    """It names the versions that the server does speak, so that its client can go on with one of them."""
    error = answer.reply(id)["error"]
    assert answer.status == 400 and error["code"] == -32022, (answer.status, error)
    assert error["data"]["supported"] and "2026-07-28" not in error["data"]["supported"], error


def noticed(gateway, name):
    """The lines about a server that are logged at the level `info`."""
    return [line for line in gateway.log() if line.get("upstream") == name and line["level"] in NOTICED]


# Which era a program speaks.


@pytest.mark.deadline(45)
async def test_old_and_busy(gateway_of, clients, tmp_path):
    """A server on mcp 1.2 whose tool blocks it for longer than a ping may take: its callers have their answers, its memory
    stays, and those of 2026-07-28, who wait for one question to a second process, are told what it speaks."""
    journal = tmp_path / "journal"
    entry = {"command": str(PYTHON["old"]), "args": ["-u", str(PEERS / "old_server.py"), str(journal)]}
    gateway = gateway_of({"old": entry}, options={"pingInterval": "500ms"}, log_level="debug")
    gateway.wait_until_ready()
    caller, other = await Caller.open(gateway, "old"), await Caller.open(gateway, "old")
    assert text_of(await caller.ask("note", {"text": "kept"})) == "kept"
    busy = asyncio.create_task(caller.ask("block", {"seconds": 11.5}))
    waiting = asyncio.create_task(other.ask("note", {"text": "too"}))
    for answer in await asyncio.gather(*(ask(gateway, "old") for _ in range(4))):
        assert_handshake_only(answer)
    assert text_of(await busy) == "done" and text_of(await waiting) == "kept too"
    assert_handshake_only(await ask(gateway, "old"))
    listed = await asyncio.to_thread(clients.run, "2x-auto", "any_tools", gateway.url("old"), gateway.token)
    assert listed, "a client that asks for 2026-07-28 first goes on with the handshake"
    assert text_of(await caller.ask("note", {"text": "for all"})) == "kept too for all"
    assert len(read_lines(journal)) == 2, "one process serves, and one was asked, once"
    await until("that one is gone", lambda: not os.path.exists(f"/proc/{read_lines(journal)[1]['pid']}"))
    refused = gateway.logged("does not speak 2026-07-28")
    assert [line["cause"] for line in refused] == ["no_handshake"] and refused[0]["level"] == "info"


async def test_dies_of_the_question(child_of):
    """A program that dies of any question but `initialize` serves on, and the log says in one line what the second process
    died of."""
    gateway, child = child_of("dies-of-discover")
    caller = await Caller.open(gateway, "child")
    assert text_of(await caller.ask("note", {"text": "kept"})) == "kept"
    gateway.logged("upstream state changed")
    before = noticed(gateway, "child")
    for answer in await asyncio.gather(*(ask(gateway, "child") for _ in range(4))):
        assert_handshake_only(answer)
    assert_handshake_only(await ask(gateway, "child"))
    assert text_of(await caller.ask("note", {"text": "still"})) == "kept still"
    assert child.starts() == 2, "asked once in this run"
    gateway.logged("upstream does not speak 2026-07-28")
    [line] = noticed(gateway, "child")[len(before) :]
    assert line["message"] == "upstream does not speak 2026-07-28" and line["cause"] == "exited", line
    assert line["stderr_tail"] == "\n".join(f"Traceback, line {n}" for n in range(89, 94))
    assert not gateway.log("Traceback, line 88"), "what it says while it is tried is kept back at every level"
    assert gateway.metric("child_restarts_total", server="child") == 0
    assert gateway.get("/_readyz")[0] == 200


@pytest.mark.parametrize("first", ["handshake", ERA])
async def test_alone_with_its_files(child_of, first):
    """A program that lets no second one run beside it serves all callers of the handshake with one process, and those of
    2026-07-28 are told so, whoever comes first."""
    gateway, child = child_of("locks-a-file")
    if first == ERA:
        assert_handshake_only(await ask(gateway, "child"))
    caller = await Caller.open(gateway, "child")
    assert text_of(await caller.ask("note", {"text": "kept"})) == "kept"
    for answer in await asyncio.gather(*(ask(gateway, "child") for _ in range(4))):
        assert_handshake_only(answer)
    other = await Caller.open(gateway, "child")
    assert text_of(await other.ask("note", {"text": "for all"})) == "kept for all"
    assert child.starts() == 2 and child.left() == [child.journal("start")[0]["pid"]]
    [line] = [line for line in noticed(gateway, "child") if "2026" in line["message"]]
    assert line["stderr_tail"] == "the database is in use by another process"
    assert gateway.get("/_readyz")[0] == 200


@pytest.mark.parametrize("isolation", ["shared", "session"])
async def test_without_a_handshake(child_of, isolation):
    """A program that speaks 2026-07-28 alone is found on its first process, and callers of the handshake are told."""
    gateway, child = child_of("stateless-only", options={"isolation": isolation})
    answer = await ask(gateway, "child")
    assert answer.status == 200 and answer.reply(1)["result"]["tools"]
    initialize = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}})
    refused = await post(gateway.url("child"), initialize, token=gateway.token, seen=gateway.seen)
    assert refused.status == 200 and refused.reply(1)["error"]["data"]["supported"] == ["2026-07-28"]
    assert [json.loads(entry["line"])["method"] for entry in child.journal("line")][:2] == ["initialize", "server/discover"]
    assert child.starts() == 1


@pytest.mark.xdist_group("2x-stdio")
async def test_one_process_where_one_will_do(gateway_of):
    """A program that speaks both eras runs once as long as callers of one era come, and what they do is in one memory."""
    server = StdioEverything("2x-stdio")
    gateway = gateway_of({"up": server.entry}, options={"pingInterval": 0})
    gateway.wait_until_ready()
    guard_and_first = set(children_of(gateway.pid))
    assert len(guard_and_first) == 2
    assert (await ask(gateway, "up")).status == 200
    await until("nobody used the first, so it is gone", lambda: len(children_of(gateway.pid)) == 2)
    assert (await ask(gateway, "up")).status == 200
    assert set(children_of(gateway.pid)) != guard_and_first
    caller = await Caller.open(gateway, "up")
    assert text_of(await caller.ask("slow", {"seconds": 0, "nonce": "n"})) == "n"
    assert len(children_of(gateway.pid)) == 3, "with callers of both, each has its own"
    server.kill()


# What a program says.


@pytest.mark.parametrize(
    "mode,kind,cause",
    [
        ("pretty-printed", "part_of_json", "one line"),
        ("latin-1", "not_utf8", "UTF-8"),
        ("terminal-codes", "terminal_codes", "NO_COLOR"),
        ("json-log", "other_json", None),
        ("banner", "text", None),
    ],
)
async def test_lines_that_are_no_messages(child_of, mode, kind, cause):
    """Each kind is a warning once, with what it looks like; a caller that loses its answer to it is told of it."""
    gateway, child = child_of(mode, timeout="700ms")
    caller = await Caller.open(gateway, "child")
    for id in (1, 2):
        answer = await caller.call("fault", {"nonce": "n" * 200}, id=id)
        if cause is None:
            assert "result" in answer.reply(id)
        else:
            gateway_error(answer, id, "handshake", "child", {"upstream_timeout"}, {"unknown"})
            assert cause in answer.reply(id)["error"]["message"], answer.reply(id)
    [warning] = gateway.logged("standard output has a line that is no message", level="warning", kind=kind)
    assert 0 < len(warning["line"].encode()) <= 100 and warning["advice"], warning
    assert b"\x1b" not in gateway.child.err, "it is escaped"
    if mode == "pretty-printed":
        assert warning["line"] == "{", "the first of its lines"
    await works(caller)


async def test_answers_that_nobody_can_read(child_of):
    """A program that formats every message over several lines does not start, which is said soon, and why."""
    gateway, child = child_of("pretty-printed?all=1", wait=False)
    assert "one line" in gateway.logged("upstream state changed")[0]["detail"]
    initialize = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}})
    answer = await post(gateway.url("child"), initialize, token=gateway.token, seen=gateway.seen)
    assert "one line" in answer.reply(1)["error"]["message"], answer.reply(1)


async def test_quiet_log(gateway_of, tmp_path, servers):
    """A healthy server has at most three lines at the level `info`, with callers of both eras; none is from its stderr."""
    children = {name: FaultChild(tmp_path, name) for name in ("ok", "chatty", "dies-of-discover")}
    entries = {**{name: child.entry for name, child in children.items()}, "own": {**children["chatty"].entry}}
    entries["own"]["options"] = {"isolation": "session"}
    entries["1x"], entries["2x"] = servers["1x-stdio"].entry, servers["2x-stdio"].entry
    gateway = gateway_of(entries, options={"pingInterval": "500ms", "logEnabled": False}, log_level="info")
    gateway.wait_until_ready()
    for name in entries:
        for _ in range(2):
            caller = await Caller.open(gateway, name)
            await caller.post(message("tools/list", id=1))
            assert (await ask(gateway, name)).status in (200, 400)
            assert await caller.delete() == 204
    for name in entries:
        gateway.logged("upstream state changed", upstream=name)
        lines = [line for line in gateway.log() if line.get("upstream") == name]
        assert len(lines) <= 3 and {line["level"] for line in lines} == {"info"}, lines
        assert lines[1]["message"] == "upstream state changed" and lines[1]["to"] == "usable", lines
    assert not {"child stderr", "child exited"} & {line["message"] for line in gateway.log()}


async def test_failed_start_is_told(child_of):
    """The last lines of a program that does not start are in the log at the level `info`, and why it is not usable."""
    gateway, child = child_of("refuses-initialize", wait=False)
    state = gateway.logged("upstream state changed")[0]
    assert state["level"] == "warning" and state["to"] == "exited" and "-32601" in state["detail"], state
    exited = gateway.logged("child exited")[0]
    assert exited["level"] == "warning", exited


# The process itself.


def comm_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


async def test_name_of_the_process(child_of):
    """It is `mcp-proxy` for ps, ss and top, and so is the one that guards its children."""
    gateway, child = child_of("ok")
    [guard] = [pid for pid in children_of(gateway.pid) if pid != child.pid()]
    assert comm_of(gateway.pid) == comm_of(guard) == "mcp-proxy"
    assert Path(f"/proc/{guard}/cmdline").read_bytes().split(b"\0")[:2] == [b"mcp-proxy", b"guard"]
    assert comm_of(child.pid()).startswith("python"), "a child has the name of its own program"


async def test_without_standard_descriptors(tmp_path):
    """Started with input, output and error closed, nothing that it opens becomes one of them: neither a socket nor a pipe
    gets what is logged."""
    child, port = FaultChild(tmp_path, "report-env"), free_port()
    configuration = {
        "mcpProxy": {"baseURL": f"http://127.0.0.1:{port}", "addr": f"127.0.0.1:{port}", "name": "e", "version": "1"},
        "mcpServers": {"child": child.entry},
    }
    path = tmp_path / "closed.json"
    path.write_text(json.dumps(configuration))
    path.chmod(0o600)
    closing = 'exec "$0" --config "$1" --log-level trace <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", closing, str(binary()), str(path)], env=environment())
    try:
        caller = Caller(f"http://127.0.0.1:{port}/child/mcp")
        initialize = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}

        async def initialized():
            try:
                return await caller.post(message("initialize", initialize))
            except OSError:
                return None

        caller.session = (await until("it serves", initialized)).header("mcp-session-id")
        for n in range(20):
            assert json.loads(text_of(await caller.ask("echo", {"n": n}))) == {"n": n}
        given = json.loads(text_of(await caller.ask("report-env")))
        assert set(given["descriptors"]) == {"0", "1", "2"}
        standard = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in range(3)]
        assert standard == ["/dev/null"] * 3, standard
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        child.sweep()


@pytest.mark.parametrize("advertised", ["sse", "streamable-http"])
async def test_startup_log(gateway_of, servers, tmp_path, advertised):
    """A start says where each server is found, at both URLs, the one that `type` names first, and then what became of it,
    whatever its transport."""
    entries = {"child": FaultChild(tmp_path, "ok").entry, "stream": servers["1x-sse"].entry, "http": servers["2x"].entry}
    gateway = gateway_of(entries, type=advertised, log_level="info")
    gateway.wait_until_ready()
    [listening] = gateway.logged('"listening"')
    assert "transport" not in listening, "both are served"
    for name in entries:
        said = lambda: [line for line in gateway.log() if line.get("upstream") == name]
        serving, state = await until("its state is said", lambda: len(said()) >= 2 and said()[:2])
        first, second = ("sse", "mcp") if advertised == "sse" else ("mcp", "sse")
        assert serving["url"].endswith(f"/{name}/{first}") and serving["also"].endswith(f"/{name}/{second}"), serving
        assert (state["message"], state["to"], state["level"]) == ("upstream state changed", "usable", "info"), state
