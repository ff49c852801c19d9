# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a call when the program that serves it misbehaves: every mode of faultchild.py.

The program's journal is the ledger: a call never reaches it twice, and `executed: no` is never said of one that did.
"""

import asyncio
import json
import os
import secrets
import subprocess
import time

import pytest
from harness.callers import Caller, call_of, text_of, works
from harness.errors import gateway_error
from harness.processes import FIXTURES, PYTHON, until
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

NO, UNKNOWN, YES = {"no"}, {"unknown"}, {"yes"}
BEGAN = UNKNOWN | YES
AT_ONCE = 2
"""Seconds in which a failure is told and the next call works."""
MEGABYTE = 1 << 20

# The tool's answer comes as if nothing were, and so do those of the others.
WORKS = [
    "ok",
    "banner",
    "garbage",
    "traceback",
    "split-writes",
    "crlf",
    "blank-lines",
    "nul",
    "wrong-id-first",
    "two-answers",
    "request-same-id",
    "stderr-flood",
    "stderr-control-chars",
    "stdout-flood",
    "grandchild",
    "fifty-grandchildren",
    "ignores-sigterm",
    "ignores-eof",
    "ignores-both",
    "slow-start?ms=1500",
]
# The program ends, or must be ended: what its caller is told of `executed`.
ENDS = {
    "exit-mid-call": UNKNOWN,
    "segv-mid-call": UNKNOWN,
    "closes-stdout": UNKNOWN,
    "grandchild-holds-stdout": UNKNOWN,
    "huge-line": BEGAN,
    "endless-line": BEGAN,
}
# The answer never comes, but the program goes on with others' calls.
SILENT = ["hang", "wrong-id", "retyped-id"]
OTHERWISE_TESTED = {
    "exit-at-start",
    "exit-0-loop",
    "no-final-newline",
    "bom",
    "partial-line",
    "never-reads-stdin",
    "deaf",
    "closes-stdin",
    "grandchild-setsid",
    "out-of-order",
    "report-env",
    "slow-start",
    "silent-discover",
    "refuses-initialize",
    "dies-of-discover",
    "stateless-only",
    "locks-a-file",
    "chatty",
    "pretty-printed",
    "latin-1",
    "terminal-codes",
    "json-log",
}


def test_table_is_complete():
    """Every mode that the program knows has its test."""
    modes = subprocess.run(
        [PYTHON["2x"], FIXTURES / "faultchild.py", "--modes"], capture_output=True, text=True, timeout=10, check=True
    )
    rows = {row.partition("?")[0] for row in [*WORKS, *ENDS, *SILENT]} | OTHERWISE_TESTED
    assert set(modes.stdout.split()) == rows


async def in_flight(caller, child, seconds, id):
    """A call of another caller that the program has in its hands; a task for its answer."""
    nonce = secrets.token_hex(8)
    task = asyncio.create_task(caller.call("slow", {"seconds": seconds, "nonce": nonce}, id=id))
    await until("the program has it", lambda: child.executed(nonce))
    return task


@pytest.mark.parametrize("mode", WORKS)
async def test_answered_all_the_same(child_of, mode):
    """The caller has its answer, nobody else notices, and nothing stays open."""
    gateway, child = child_of(mode)
    one, other = await Caller.open(gateway, "child"), await Caller.open(gateway, "child")
    await works(one)
    descriptors, threads = gateway.child.descriptors(), gateway.child.threads()
    task = await in_flight(other, child, 0.5, id=5)
    nonce = secrets.token_hex(8)
    answer = await one.call("fault", {"nonce": nonce}, id=5)
    text = text_of(answer.reply(5))
    assert mode == "request-same-id" or json.loads(text) == {"nonce": nonce}
    if mode == "request-same-id":
        assert json.loads(text)["result"] == {}, "its ping is answered, although it bears the call's id"
    assert "result" in (await task).reply(5)
    await works(one)
    await works(other)
    assert child.starts() == 1 and child.executed(nonce) == 1
    await until("the descriptors are back", lambda: gateway.child.descriptors() <= descriptors + 1)
    await until("the threads are back", lambda: gateway.child.threads() <= threads + 1)


@pytest.mark.parametrize("mode", ENDS)
async def test_end_of_the_program(child_of, mode):
    """Whoever has a call in flight is told at once and truthfully; the next call is served by a fresh process."""
    gateway, child = child_of(mode)
    one, other = await Caller.open(gateway, "child"), await Caller.open(gateway, "child")
    await works(one)
    descriptors, resident = gateway.child.descriptors(), gateway.child.rss()
    task = await in_flight(other, child, 30, id=5)
    nonce = secrets.token_hex(8)
    began = time.monotonic()
    answer = await one.call("fault", {"nonce": nonce}, id=5)
    assert time.monotonic() - began < AT_ONCE + (3 if mode.endswith("-line") else 0)
    gateway_error(answer, 5, "handshake", "child", {"child_exited"}, ENDS[mode])
    gateway_error(await task, 5, "handshake", "child", {"child_exited"}, BEGAN)
    await works(one)
    await works(other)
    assert child.executed(nonce) == 1 and child.starts() == 2
    first = child.journal("start")[0]["group"]
    await until("nothing of the first is left", lambda: first not in {os.getpgid(pid) for pid in child.left()})
    await until("the descriptors are back", lambda: gateway.child.descriptors() <= descriptors + 1)
    assert gateway.child.rss("VmHWM") - resident < 64 * MEGABYTE, "memory is bounded by the longest line"


@pytest.mark.parametrize("mode", SILENT)
async def test_no_answer(child_of, mode):
    """The caller is told at the timeout, the program that the answer is no longer wanted; all others are served."""
    gateway, child = child_of(mode, timeout="1s")
    one, other = await Caller.open(gateway, "child"), await Caller.open(gateway, "child")
    task = await in_flight(other, child, 0.8, id=5)
    nonce = secrets.token_hex(8)
    began = time.monotonic()
    answer = await one.call("fault", {"nonce": nonce}, id=5)
    assert 0.9 < time.monotonic() - began < 3
    gateway_error(answer, 5, "handshake", "child", {"upstream_timeout"}, UNKNOWN)
    assert "result" in (await task).reply(5)
    called = next(m["id"] for m in child.messages("tools/call") if nonce in json.dumps(m))
    await until("it is told", lambda: child.messages("notifications/cancelled"))
    assert child.messages("notifications/cancelled")[0]["params"]["requestId"] == called
    await works(one)
    assert child.starts() == 1 and child.executed(nonce) == 1


@pytest.mark.parametrize("mode", ["exit-at-start", "exit-0-loop", "missing", "not-executable", "directory"])
async def test_never_starts(child_of, tmp_path, mode):
    """Callers are told at once, with the exit code where there is one, and it is not started again and again."""
    directory = tmp_path / "programs"
    directory.mkdir()
    (directory / "not-executable").write_text("#!/bin/sh\n")
    commands = {"missing": "no-such", "not-executable": "not-executable", "directory": ""}
    more = {"command": str(directory / commands[mode])} if mode in commands else {}
    gateway, child = child_of("ok" if more else mode, wait=False, **more)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    for id in range(8):
        for era in ("handshake", "stateless"):
            body = message("initialize", params, id=id) if era == "handshake" else call_in_2026(id)
            began = time.monotonic()
            answer = await post(gateway.url("child"), body, era=era, token=gateway.token, seen=gateway.seen)
            assert time.monotonic() - began < AT_ONCE
            gateway_error(answer, id, era, "child", {"child_exited"}, NO)
            if mode == "exit-at-start":
                assert "3" in answer.reply(id)["error"]["message"], "the exit code"
    assert child.starts() <= 10
    status, body = gateway.get("/_readyz")
    assert status == 503 and b"exited" in body, body
    if mode == "exit-at-start":
        assert gateway.logged("no license for this machine"), "what it said is in the log"


def call_in_2026(id):
    return message("tools/call", {"name": "echo", "arguments": {}}, id=id, era="stateless")


async def test_last_line_without_an_end(child_of):
    """A complete answer that is cut off only in its line feed is an answer."""
    gateway, child = child_of("no-final-newline")
    caller = await Caller.open(gateway, "child")
    assert json.loads(text_of(await caller.ask("fault", {"nonce": "n"}))) == {"nonce": "n"}
    # The next call may still be given to the program that is ending, and is lost with it.
    reply = await caller.ask("echo", {"text": "again"})
    assert "result" in reply or reply["error"]["data"]["reason"] == "child_exited", reply
    await works(caller)
    assert child.starts() == 2


async def test_byte_order_mark(child_of):
    """It is ignored, or costs its line: never another's answer and never the program."""
    gateway, child = child_of("bom", timeout="1s")
    caller = await Caller.open(gateway, "child")
    answer = await caller.call("fault", {"nonce": "n"}, id=1)
    if "result" not in answer.reply(1):
        gateway_error(answer, 1, "handshake", "child", {"upstream_timeout"}, UNKNOWN)
    await works(caller)
    assert child.starts() == 1


async def test_three_silences_are_the_end(child_of):
    """A program that answers nobody any more is replaced after three timeouts in a row."""
    gateway, child = child_of("partial-line", timeout="500ms")
    caller = await Caller.open(gateway, "child")
    answer = await caller.call("fault", id=1)
    gateway_error(answer, 1, "handshake", "child", {"upstream_timeout"}, BEGAN)
    for id in (2, 3):
        answer = await caller.call("echo", id=id)
        gateway_error(answer, id, "handshake", "child", {"upstream_timeout"}, UNKNOWN)
    await works(caller)
    assert child.starts() == 2


async def test_deaf_program(child_of):
    """One that reads nothing from the start cannot have run anything."""
    gateway, child = child_of("deaf", wait=False, timeout="1s")
    call = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}})
    answer = await post(gateway.url("child"), call, token=gateway.token, seen=gateway.seen)
    gateway_error(answer, 1, "handshake", "child", {"upstream_timeout", "unreachable", "child_exited"}, NO)
    assert gateway.get("/_healthz")[0] == 200


@pytest.mark.leaves_work("what the program has not read waits for it")
async def test_program_that_reads_no_more(child_of):
    """Of a call that does not fit into its pipe nobody knows whether it will run: it is told so, or served by a fresh process."""
    gateway, child = child_of("never-reads-stdin", timeout="1s")
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("fault")
    nonce = secrets.token_hex(8)
    answer = await caller.call("echo", {"nonce": nonce, "pad": "x" * MEGABYTE}, id=9, deadline=10)
    if "result" not in answer.reply(9):
        gateway_error(answer, 9, "handshake", "child", {"upstream_timeout", "overloaded", "child_exited"}, {"no", "unknown"})
    assert gateway.get("/_healthz")[0] == 200, "nobody else waits for the pipe"


@pytest.mark.parametrize("pad", [0, MEGABYTE], ids=["small", "large"])
async def test_session_ends_before_its_program_reads(child_of, pad):
    """A line that waits for a program is still written when its session ends: nobody may be told that it did not run."""
    gateway, child = child_of("never-reads-stdin", options={"isolation": "session"})
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("fault")
    wire = await caller.send(call_of("echo", {"pad": "x" * pad}, id=9))
    await until("the call is with its program", lambda: gateway.held()["inFlight"] == 1)
    assert await caller.delete() == 204
    answer = await wire.rest(await wire.head(5))
    wire.abort()
    gateway_error(answer, 9, "handshake", "child", {"child_exited"}, UNKNOWN)


async def test_program_without_stdin(child_of):
    """It is replaced: a call that could not be written is not lost."""
    gateway, child = child_of("closes-stdin")
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("fault")
    answer = await caller.call("echo", {"text": "x"}, id=9)
    if "result" not in answer.reply(9):
        gateway_error(answer, 9, "handshake", "child", {"child_exited"}, NO)
        await works(caller)
    await until("it is replaced", lambda: child.starts() == 2)
    await until("the first is gone", lambda: len(child.left()) == 1)


async def test_grandchild_with_its_own_session(child_of):
    """It can escape, as documented, and holds nothing up."""
    gateway, child = child_of("grandchild-setsid")
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("fault")
    await works(caller)


async def test_answers_out_of_order(child_of):
    """Each caller has its own, whatever the order."""
    gateway, child = child_of("out-of-order")
    callers = [await Caller.open(gateway, "child") for _ in range(2)]
    answers = await asyncio.gather(*(caller.call("fault", {"n": n}, id=1) for n, caller in enumerate(callers)))
    assert [json.loads(text_of(answer.reply(1)))["n"] for answer in answers] == [0, 1]


async def test_first_question(child_of):
    """A program is asked for the handshake first, so that one which answers nothing else is there at once."""
    gateway, child = child_of("silent-discover", wait=False)
    await until("it is ready", lambda: gateway.get("/_readyz")[0] == 200, AT_ONCE)
    caller = await Caller.open(gateway, "child")
    await works(caller)
    methods = [json.loads(entry["line"])["method"] for entry in child.journal("line")]
    assert methods[0] == "initialize" and "server/discover" not in methods and child.starts() == 1


async def test_flood_on_stdout(child_of):
    """Fifty thousand notifications cost no memory, and no other caller of the program waits for them."""
    gateway, child = child_of("stdout-flood")
    one, other = await Caller.open(gateway, "child"), await Caller.open(gateway, "child")
    await works(one)
    resident = gateway.child.rss()
    flood = asyncio.create_task(one.call("fault", id=1))
    while not flood.done():
        await works(other)
    assert "result" in (await flood).reply(1)
    assert gateway.child.rss("VmHWM") - resident < 32 * MEGABYTE


@pytest.mark.deadline(180)
@pytest.mark.parametrize("isolation", ["session", "shared"])
async def test_call_after_a_flood(child_of, isolation):
    """Whoever did not take all at once, and has its answer now, holds up nobody: neither itself nor others."""
    gateway, child = child_of("stdout-flood?count=4000", wait=False, options={"isolation": isolation})
    await until("it is ready", lambda: gateway.get("/_readyz")[0] == 200, 10)
    callers = [await Caller.open(gateway, "child") for _ in range(4)]
    for caller in callers * 15:
        assert "result" in (await caller.call("fault", id=1)).reply(1)
        await works(caller)


async def test_longest_line(child_of):
    """A line of `lineBytes` passes, a longer one is the end of the program."""
    gateway, child = child_of("ok", limits={"lineBytes": 65536})
    caller = await Caller.open(gateway, "child")
    empty = len(json.dumps({"text": ""}))
    size = 65536 - 3 * empty - 200
    assert len(json.loads(text_of(await caller.ask("echo", {"text": "x" * (size // 2)})))["text"]) == size // 2
    answer = await caller.call("echo", {"text": "x" * 65536}, id=7)
    gateway_error(answer, 7, "handshake", "child", {"child_exited"}, BEGAN)
    await works(caller)
    assert child.starts() == 2
