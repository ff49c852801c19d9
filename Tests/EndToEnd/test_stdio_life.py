# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The life of programs: killed in the middle of traffic, started and stopped hundreds of times, and never left behind."""

import asyncio
import os
import secrets
import signal
import time

import pytest
from harness.callers import Caller, text_of
from harness.errors import gateway_error, gateway_reply
from harness.processes import children_of, members_of, poll, until

pytestmark = pytest.mark.gateway_only

CYCLES = 200
KILLS = 2
"""One more within a minute, and the pause before the next start may be longer than the two seconds."""
MEGABYTE = 1 << 20


async def test_killed_in_the_middle_of_traffic(gateway_of, program_of):
    """`kill -9` loses the calls in flight, each with a word on its fate, and nothing else: not even a session."""
    child = program_of("ok")
    gateway = gateway_of({"child": child.entry}, log_level="info", options={"pingInterval": 0})
    callers = [await Caller.open(gateway, "child") for _ in range(8)]
    nonces: dict[str, dict] = {}
    killed: list[float] = []
    stop = asyncio.Event()
    recovered: list[float] = []

    async def traffic(caller):
        while not stop.is_set():
            nonce, began = secrets.token_hex(8), time.monotonic()
            nonces[nonce] = await caller.ask("slow", {"seconds": 0.02, "nonce": nonce})
            if "result" in nonces[nonce] and len(recovered) < len(killed) and began > killed[-1]:
                recovered.append(time.monotonic() - killed[-1])

    async def killer():
        for _ in range(KILLS):
            worked = len(nonces)
            await until("there is traffic", lambda: len(nonces) > worked + 40)
            os.kill(child.pid(), signal.SIGKILL)
            killed.append(time.monotonic())
            await until("calls work again", lambda: len(recovered) == len(killed))
        stop.set()

    await asyncio.gather(killer(), *(traffic(caller) for caller in callers))
    assert max(recovered) < 2, recovered
    lost = {nonce: reply for nonce, reply in nonces.items() if "error" in reply}
    for nonce, reply in lost.items():
        data = gateway_reply(reply, "child", {"child_exited"}, {"no", "unknown"})
        assert not (child.executed(nonce) and data["executed"] == "no"), "it ran, and its caller was told that it did not"
    assert all(child.executed(nonce) <= 1 for nonce in nonces), "a call was sent twice"
    assert child.starts() == 1 + KILLS
    in_flight = [reply for reply in lost.values() if reply["error"]["data"]["executed"] == "unknown"]
    assert len(in_flight) <= len(killed) * len(callers), "only calls in flight are lost"
    assert gateway.metric("child_restarts_total", server="child") == KILLS


@pytest.mark.parametrize("recovers", [True, False])
async def test_killed_while_idle(gateway_of, program_of, recovers):
    """With `autoReconnect` a program that ended is started again by itself; without it, by a call at the earliest."""
    child = program_of("ok")
    options = {"pingInterval": 0, "autoReconnect": recovers, "reconnectInterval": "1s"}
    gateway = gateway_of({"child": child.entry}, options=options)
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("echo")
    os.kill(child.pid(), signal.SIGKILL)
    if recovers:
        await until("it is started again", lambda: child.starts() == 2, 5)
    else:
        await until("it is gone", lambda: not child.left())
        await asyncio.sleep(1.5)  # longer than `reconnectInterval`: nothing must happen
        assert child.starts() == 1
    reply = await caller.ask("echo")
    if recovers or "result" in reply:
        assert "result" in reply and child.starts() == 2
    else:
        gateway_reply(reply, "child", {"child_exited"}, {"no"})


async def test_pings_when_idle(gateway_of, program_of):
    """A program that nothing was asked of for `pingInterval` is asked whether it is there."""
    child = program_of("ok")
    gateway = gateway_of({"child": child.entry}, options={"pingInterval": "1s"})
    gateway.wait_until_ready()
    await until("it is asked, more than once", lambda: len(child.messages("ping")) >= 2, 6)
    assert gateway.get("/_readyz")[0] == 200


async def test_session_outlives_its_program(gateway_of, program_of):
    """With a child of its own, too, a session goes on: the next call is served by a fresh process within 2 s."""
    child = program_of("exit-mid-call", options={"isolation": "session"})
    gateway = gateway_of({"child": child.entry}, options={"pingInterval": 0})
    one, other = await Caller.open(gateway, "child"), await Caller.open(gateway, "child")
    assert "result" in await other.ask("echo")
    answer = await one.call("fault", id=1)
    gateway_error(answer, 1, "handshake", "child", {"child_exited"}, {"unknown"})
    began = time.monotonic()
    assert "result" in await one.ask("echo")
    assert time.monotonic() - began < 2
    groups = len(child.groups())
    assert "result" in await other.ask("echo"), "the other's own child is untouched"
    assert len(child.groups()) == groups
    initialized = [m["params"]["clientInfo"]["name"] for m in child.messages("initialize")]
    assert initialized.count("wire") >= 2, "the fresh process is given the caller's own initialize"


async def test_sigkill_of_the_gateway(gateway_of, program_of):
    """Two seconds after it was killed no child is left, and no grandchild of the same group."""
    modes = ["ok", "grandchild", "fifty-grandchildren", "ignores-both", "hang"]
    children = {mode: program_of(mode, options={"isolation": "session"}) for mode in modes}
    gateway = gateway_of({mode: child.entry for mode, child in children.items()}, options={"pingInterval": 0})
    for mode in modes:
        for _ in range(4):
            caller = await Caller.open(gateway, mode)
            assert "result" in await caller.ask("echo")
            if "grand" in mode:
                assert "result" in await caller.ask("fault")
    running = [pid for child in children.values() for pid in child.left()]
    assert len(running) >= 4 * len(modes) + 4 + 200
    guards = children_of(gateway.pid)
    os.kill(gateway.pid, signal.SIGKILL)

    def nothing_left():
        return not any(child.left() for child in children.values())

    await until("children and grandchildren are gone", nothing_left, 2)
    await until("so is whoever guarded them", lambda: not any(os.path.exists(f"/proc/{pid}") for pid in guards), 5)
    await asyncio.to_thread(gateway.stop, -signal.SIGKILL)


@pytest.mark.long
@pytest.mark.deadline(300)
async def test_two_hundred_cycles(gateway_of, program_of):
    """A session with a child of its own, ended by DELETE, leaves nothing: no descriptor, thread, process or memory."""
    child = program_of("ok", options={"isolation": "session"})
    gateway = gateway_of({"child": child.entry}, log_level="info", options={"pingInterval": 0, "logEnabled": False})
    gateway.wait_until_ready()
    probes = child.starts()

    async def cycle(n):
        caller = await Caller.open(gateway, "child")
        assert text_of(await caller.ask("echo", {"n": n})) == f'{{"n": {n}}}'
        assert await caller.delete() == 204
        await until("its child is gone", lambda: not child.left())

    def measured():
        return gateway.child.descriptors(), gateway.child.threads(), gateway.child.rss()

    await cycle(0)
    await until("only what stays is there", lambda: len(children_of(gateway.pid)) <= 1)
    descriptors, threads, resident = measured()
    for n in range(1, CYCLES):
        await cycle(n)
    await until("descriptors are back", lambda: gateway.child.descriptors() <= descriptors + 2)
    after = measured()
    print(f"before {descriptors, threads, resident >> 10}, after {after[0], after[1], after[2] >> 10}")
    assert after[1] <= threads, f"{after[1]} threads, {threads} before"
    assert after[2] - resident < 5 * MEGABYTE, f"{(after[2] - resident) >> 10} KiB more"
    assert child.starts() - probes == CYCLES
    assert len(children_of(gateway.pid)) <= 1, "no zombies either"


async def test_most_children(gateway_of, program_of):
    """`childrenPerServer` holds: who would need one more is told so, and is served when another has gone."""
    child = program_of("ok", options={"isolation": "session"})
    gateway = gateway_of({"child": child.entry}, limits={"childrenPerServer": 3}, options={"pingInterval": 0})
    gateway.wait_until_ready()
    callers = [await Caller.open(gateway, "child") for _ in range(3)]
    holding = [asyncio.create_task(caller.call("slow", {"seconds": 1.5, "n": n}, id=1)) for n, caller in enumerate(callers)]
    await until("all are at work", lambda: len(child.messages("tools/call")) == 3)
    refused = Caller(gateway.url("child"), gateway.token, gateway.seen)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    answer = await refused.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    if answer.status == 200:
        gateway_error(answer, 1, "handshake", "child", {"overloaded"}, {"no"})
    else:
        assert answer.status == 503 and answer.header("retry-after"), (answer.status, answer.body)
    assert len(child.left()) == 3
    for task in holding:
        assert "result" in (await task).reply(1)
    assert await callers[0].delete() == 204
    await until("there is room", lambda: len(child.left()) < 3)
    assert "result" in await (await Caller.open(gateway, "child")).ask("echo")


async def test_departed_session_ends_its_child(gateway_of, program_of):
    """A child of a session that is idle too long goes with it."""
    child = program_of("ok", options={"isolation": "session"})
    gateway = gateway_of({"child": child.entry}, limits={"sessionIdle": "1s"}, options={"pingInterval": 0})
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "child")
    assert "result" in await caller.ask("echo")
    assert child.left()
    await until("its child is gone", lambda: not child.left(), 6)
    assert (await caller.call("echo", id=5)).status == 404


async def test_stop_with_stubborn_programs(gateway_of, program_of):
    """Twenty programs that ignore both the end of their input and SIGTERM do not stretch the stop: they end side by side."""
    children = {f"child-{n}": program_of("ignores-both") for n in range(20)}
    gateway = gateway_of({name: child.entry for name, child in children.items()}, options={"pingInterval": 0})
    gateway.wait_until_ready()
    for name in children:
        assert "result" in await (await Caller.open(gateway, name)).ask("echo")
    took = await asyncio.to_thread(gateway.stop)
    assert took < 8, f"{took:.1f} s"
    assert not any(child.left() for child in children.values())
    for child in children.values():
        order = [entry["event"] for entry in child.journal() if entry["event"] in ("eof", "sigterm")]
        assert order == ["eof", "sigterm"], "first its input ends, then it is asked, then it is killed"


async def test_polite_programs_are_not_killed(gateway_of, program_of):
    """One that ends when its input ends sees no signal."""
    child = program_of("ok")
    gateway = gateway_of({"child": child.entry}, options={"pingInterval": 0})
    assert "result" in await (await Caller.open(gateway, "child")).ask("echo")
    took = await asyncio.to_thread(gateway.stop)
    assert took < 2, f"{took:.1f} s"
    assert [e["event"] for e in child.journal() if e["event"] != "line"] == ["start", "eof"]


async def test_calls_finish_before_the_stop(gateway_of, program_of):
    """SIGTERM lets a call in flight have its answer before the program's input is closed."""
    child = program_of("ok")
    gateway = gateway_of({"child": child.entry}, options={"pingInterval": 0})
    caller = await Caller.open(gateway, "child")
    task = asyncio.create_task(caller.call("slow", {"seconds": 1, "nonce": "last"}, id=1))
    await until("it runs", lambda: child.executed("last"))
    gateway.child.process.send_signal(signal.SIGTERM)
    assert "result" in (await task).reply(1)
    await asyncio.to_thread(gateway.stop, was_told=True)
    poll("the program is gone", lambda: not members_of(child.pid()))
