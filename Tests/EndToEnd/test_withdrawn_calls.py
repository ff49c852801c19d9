# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Calls that nobody waits for any more: what they cause later comes to nobody else, and they end when they are told to."""

import asyncio
import json
import secrets
import time

import pytest
from harness.callers import CAPABILITIES, Caller, call_of, messages_of, text_of
from harness.children import FaultChild
from harness.processes import until
from harness.wire import message

pytestmark = pytest.mark.gateway_only

METHOD_NOT_FOUND = -32601
CANCELLED = -32800
# How the caller of a call stops to wait for it.
WAYS = ["timeout", "cancelled", "left", "gone"]
# What the call says or asks when its caller has gone.
SAID = {
    "elicitation/create": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}},
    "sampling/createMessage": {"messages": [], "maxTokens": 1},
    "roots/list": {},
    "notifications/message": {"level": "error", "data": "for the first caller only"},
}


@pytest.fixture
def child(tmp_path):
    made = FaultChild(tmp_path, "ok", timeout="1s")
    yield made
    made.sweep()


@pytest.fixture
def patient(tmp_path):
    """A program whose calls may take their time."""
    made = FaultChild(tmp_path, "ok")
    yield made
    made.sweep()


@pytest.fixture
def gateway(gateway_of, raw, child, patient):
    """Two programs and one session over HTTP, each shared by all callers."""
    url = f"http://127.0.0.1:{raw.port}/sessions"
    entries = {
        "stdio": child.entry,
        "patient": patient.entry,
        "http": {"url": url, "protocol": "handshake", "options": {"isolation": "shared"}, "timeout": "1s"},
    }
    started = gateway_of(entries, log_level="debug", options={"pingInterval": 0})
    started.wait_until_ready()
    return started


async def withdrawn(gateway, kind, way, method, started):
    """The call of a caller that then waits for it no longer."""
    first = await Caller.open(gateway, kind, capabilities=CAPABILITIES)
    asks = not method.startswith("notifications/")
    params = {"method": method, "params": SAID[method]}
    own = {"asks": asks} if kind == "stdio" else {"id": "late"} if asks else {}
    wire = await first.send(call_of("haunt", {**params, **own}, id=1))
    await until("it runs", started)
    if way == "timeout":
        answer = await wire.rest(await wire.head(5))
        assert answer.reply(1)["error"]["data"]["reason"] == "upstream_timeout"
    elif way == "cancelled":
        cancel = message("notifications/cancelled", {"requestId": 1}, id=None)
        assert (await first.post(cancel)).status == 202
        assert "error" in (await wire.rest(await wire.head(5))).reply(1), "it ends without the server"
    elif way == "left":
        assert await first.delete() == 204
    wire.abort()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", SAID)
async def test_words_of_a_call_in_a_shared_program(gateway, child, method, way):
    """A call that was withdrawn and goes on may still be whose question or log it is: the only other caller has neither."""
    other = await Caller.open(gateway, "stdio", capabilities=CAPABILITIES)
    stream, standing = await other.stream()
    await withdrawn(gateway, "stdio", way, method, lambda: child.executed("haunt"))
    if way != "timeout":
        await until("it is told", lambda: child.messages("notifications/cancelled"))
    answer = await other.call("cue", id=1)
    heard = [m.get("method") for m in answer.messages() if "method" in m]
    assert "result" in answer.reply(1)
    async with stream:
        await fence(other, stream, standing, heard)
    assert method not in heard, f"{method} of another's call"
    if not method.startswith("notifications/"):
        (told,) = child.journal("told")
        assert told["answer"].get("error", {}).get("code") == METHOD_NOT_FOUND, told


async def fence(caller, wire, standing, heard):
    """What else came on the stream before a word that comes to everybody."""
    announced = {"method": "notifications/tools/list_changed", "params": {}}
    assert "result" in await caller.ask("announce", announced)
    async for m in messages_of(wire, standing):
        if m.get("method") == announced["method"]:
            return
        heard.append(m.get("method"))


@pytest.mark.parametrize("way", WAYS)
async def test_questions_after_a_late_answer(gateway, child, way):
    """Once the withdrawn call was answered after all, what is asked can only be the other's again."""
    other = await Caller.open(gateway, "stdio", capabilities=CAPABILITIES)
    await withdrawn(gateway, "stdio", way, "notifications/message", lambda: child.executed("haunt"))
    assert "result" in await other.ask("cue")
    asked = await other.send(call_of("ask", {"method": "roots/list"}, id=5))
    async with asked:
        answer = await asked.head()
        async for m in messages_of(asked, answer):
            if m.get("method") == "roots/list":
                reply = {"jsonrpc": "2.0", "id": m["id"], "result": {"roots": []}}
                assert (await other.post(reply)).status == 202
        assert json.loads(text_of(answer.reply(5))) == {"roots": []}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", SAID)
async def test_words_of_a_call_in_a_shared_session(gateway, raw, method, way):
    """The same of what comes on the stream of a session over HTTP that callers share."""

    def journal(**wanted):
        entries = raw.control("/control/journal")["entries"]
        return [e for e in entries if all(e[key] == value for key, value in wanted.items())]

    other = await Caller.open(gateway, "http", capabilities=CAPABILITIES)
    stream, standing = await other.stream()
    await until("its stream is open", lambda: raw.control("/control/journal")["streams"] == 1)
    await withdrawn(gateway, "http", way, method, lambda: journal(rpc="tools/call"))
    answer = await other.call("cue", id=1)
    heard = [m.get("method") for m in answer.messages() if "method" in m]
    assert "result" in answer.reply(1)
    raw.control("/control/broadcast")
    async with stream:
        async for m in messages_of(stream, standing):
            if m.get("method") == "notifications/tools/list_changed":
                break
            heard.append(m.get("method"))
    assert method not in heard, f"{method} of another's call"
    if not method.startswith("notifications/"):
        await until("it is told", lambda: journal(id="late"), 3)
        assert [entry["code"] for entry in journal(id="late")] == [METHOD_NOT_FOUND]


async def test_progress_of_a_cancelled_call(gateway, child):
    """A program that goes on, and says so, does not revive the call that its caller cancelled."""
    caller = await Caller.open(gateway, "stdio")
    arguments = {"label": "x", "steps": 200, "interval": 0.05}
    wire = await caller.send(call_of("labelled", arguments, id=1, token="t"))
    async with wire:
        answer = await wire.head()
        came = messages_of(wire, answer)
        assert (await anext(came))["method"] == "notifications/progress"
        began = time.monotonic()
        assert (await caller.post(message("notifications/cancelled", {"requestId": 1}, id=None))).status == 202
        ended = asyncio.create_task(wire.rest(answer))
        await until("the call ends", ended.done, 4)
        assert time.monotonic() - began < 3
    assert answer.reply(1).get("error", {}).get("code") == CANCELLED, answer.reply(1)
    assert "result" in await caller.ask("echo")


async def test_progress_for_anothers_token(gateway, patient):
    """A caller that was asked something says how far it is with that, and with nothing else."""
    one, other = [await Caller.open(gateway, "patient", capabilities=CAPABILITIES) for _ in range(2)]
    question = {"_meta": {"progressToken": "asked"}}

    async def say(token):
        progress = message("notifications/progress", {"progressToken": token, "progress": 1}, id=None)
        assert (await one.post(progress)).status == 202

    asking = await one.send(call_of("ask", {"method": "roots/list", "params": question}, id=1))
    async with asking:
        answer = await asking.head()
        asked = await anext(m async for m in messages_of(asking, answer) if m.get("method") == "roots/list")
        nonce = secrets.token_hex(8)
        call = call_of("slow", {"seconds": 1.5, "nonce": nonce}, id=1, token="t")
        async with await other.send(call) as busy:
            await until("the other's call runs", lambda: patient.executed(nonce))
            (theirs,) = [m for m in patient.messages("tools/call") if nonce in json.dumps(m)]
            token = theirs["params"]["_meta"]["progressToken"]
            for wrong in (token, str(token), "t", "anybody's"):
                await say(wrong)
            await say(asked["params"]["_meta"]["progressToken"])
            await until("its own is heard", lambda: patient.messages("notifications/progress"))
            assert "result" in (await busy.rest(await busy.head())).reply(1)
        assert (await one.post({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}})).status == 202
        assert "result" in (await asking.rest(answer)).reply(1)
    heard = [m["params"]["progressToken"] for m in patient.messages("notifications/progress")]
    assert heard == ["asked"], heard
