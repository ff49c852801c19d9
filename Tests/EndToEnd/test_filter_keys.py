# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The tool filter before servers that read keys without regard to case: a message that they could read otherwise is refused."""

import json
import secrets

import pytest
from harness.callers import Caller, SSECaller
from harness.children import FaultChild
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ERAS = ["handshake", "stateless"]
FILTER = {"toolFilter": {"mode": "block", "list": ["danger"]}}
# What of a call of the tool echo is replaced, and by what: each text is read as `danger` by somebody who folds keys.
SPELLINGS = {
    "Name": ('"name": "echo"', '"name": "echo", "Name": "danger"'),
    "Name-first": ('"name": "echo"', '"Name": "danger", "name": "echo"'),
    "NAME": ('"name": "echo"', '"name": "echo", "NAME": "danger"'),
    "escaped-Name": ('"name": "echo"', '"name": "echo", "\\u004eame": "danger"'),
    "Name-alone": ('"name": "echo"', '"Name": "danger"'),
    "Params": ('"method"', '"Params": {"name": "danger", "arguments": {"nonce": "N"}}, "method"'),
    "Params-last": ('"}}}', '"}}, "Params": {"name": "danger", "arguments": {"nonce": "N"}}}'),
    "long-s": ('"}}}', '"}}, "param\u017f": {"name": "danger", "arguments": {"nonce": "N"}}}'),
    "escaped-long-s": ('"}}}', '"}}, "param\\u017f": {"name": "danger", "arguments": {"nonce": "N"}}}'),
    "Method": ('"method": "tools/call"', '"method": "prompts/get", "Method": "tools/call"'),
    "METHOD-first": ('"method": "tools/call"', '"METHOD": "tools/call", "method": "prompts/get"'),
    "Id": ('"id": 1', '"id": 1, "Id": 2'),
}


def body_of(spelling, era, nonce):
    """A call of echo, spelled so; with `Method` that of danger, which to us is no call of a tool."""
    was, becomes = SPELLINGS[spelling]
    name = "danger" if "method" in spelling.lower() else "echo"
    params = {"name": name, "arguments": {"nonce": nonce}}
    whole = message("tools/call", params, id=1, era=era)
    # The arguments stand last, so that there is one place where they end.
    whole["params"] = {**{k: v for k, v in whole["params"].items() if k != "arguments"}, "arguments": params["arguments"]}
    text = json.dumps(whole)
    assert text.count(was) == 1, text
    return text.replace(was, becomes.replace('"N"', json.dumps(nonce)))


@pytest.fixture
def child(tmp_path):
    made = FaultChild(tmp_path, "ok", options=FILTER)
    yield made
    made.sweep()


@pytest.fixture
def gateway(gateway_of, raw, child):
    """The filter before an upstream of each era, before a shared session and before a program."""

    def entry(path, era, **more):
        return {"url": f"http://127.0.0.1:{raw.port}{path}", "protocol": era, "options": {**FILTER, **more}}

    started = gateway_of(
        {
            "handshake": entry("/fast", "handshake"),
            "stateless": entry("/fast", "stateless"),
            "session": entry("/sessions", "handshake"),
            "shared": entry("/sessions", "handshake", isolation="shared"),
            "stdio": child.entry,
        },
        options={"pingInterval": 0},
    )
    started.wait_until_ready()
    raw.control("/control/clear")
    return started


def arrived(raw, child, nonce):
    """How many calls with this text in them reached anybody."""
    calls = [e for e in raw.control("/control/journal")["entries"] if nonce in json.dumps(e["message"])]
    return len(calls) + sum(nonce in entry["line"] for entry in child.journal("line"))


def refused(answer, id=1):
    assert answer.status == 400, (answer.status, answer.body[:300])
    error = answer.json()
    assert error["error"]["code"] == -32600 and error.get("id") in (id, None), error


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_key_that_folds_to_one_of_ours(gateway, raw, child, spelling):
    """It is refused in every era and before every kind of upstream, and nobody sees the call."""
    nonce = secrets.token_hex(8)
    sessions = {name: await Caller.open(gateway, name) for name in ("session", "shared", "stdio")}
    came = []
    for name in ("handshake", "stateless", "session", "shared", "stdio"):
        for era in ERAS if name not in ("session", "shared") else ERAS[:1]:
            body = body_of(spelling, era, nonce).encode()
            session = sessions[name].session if name in sessions and era == "handshake" else ""
            answer = await post(
                gateway.url(name), body, era=era, token=gateway.token, session=session, seen=gateway.seen
            )
            came.append((name, era, answer))
    assert not arrived(raw, child, nonce), "it reached somebody"
    for name, era, answer in came:
        refused(answer)


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_key_that_folds_in_a_batch(gateway, raw, child, spelling):
    """An element of a batch is no way around: it is refused, alone or with all, and nobody sees the call."""
    nonce = secrets.token_hex(8)
    for name in ("session", "shared", "stdio"):
        caller = await Caller.open(gateway, name, version="2025-03-26")
        honest = json.dumps(message("tools/call", {"name": "echo", "arguments": {"text": "x"}}, id=2))
        body = f"[{honest}, {body_of(spelling, 'handshake', nonce)}]".encode()
        answer = await caller.post(body)
        assert not arrived(raw, child, nonce), "it reached somebody"
        if answer.status == 400:
            refused(answer)
        else:
            (element,) = [m for m in elements(answer) if m.get("id") != 2]
            assert element["error"]["code"] == -32600, element


def elements(answer):
    """The answers to a batch, whether they come together or one by one."""
    for m in answer.messages():
        yield from m if isinstance(m, list) else [m]


@pytest.mark.parametrize("spelling", ["Name", "Params", "long-s", "Method"])
async def test_key_that_folds_over_the_old_transport(gateway, raw, child, spelling):
    """Nor is HTTP+SSE: its caller is refused, at the POST or on its stream."""
    nonce = secrets.token_hex(8)
    for name in ("session", "shared", "stdio"):
        async with await SSECaller.open(gateway, name) as caller:
            answer = await caller.post(body_of(spelling, "handshake", nonce).encode())
            if answer.status == 202:
                reply = await caller.wait_for("an answer", lambda: caller.reply(1), 5)
                assert reply.get("error", {}).get("code") == -32600, reply
            else:
                refused(answer)
    assert not arrived(raw, child, nonce), "it reached somebody"


@pytest.mark.parametrize("name", ["handshake", "stateless", "stdio"])
async def test_keys_that_are_no_business_of_ours(gateway, raw, child, name):
    """What stands deeper, or folds to nothing that we act on, is the server's alone."""
    nonce = secrets.token_hex(8)
    era = name if name in ERAS else "handshake"
    session = (await Caller.open(gateway, name)).session if name == "stdio" else ""
    arguments = {"nonce": nonce, "Name": "danger", "Params": 1, "Method": "x", "names": 2, "name": "danger", "ID": 3}
    body = message("tools/call", {"name": "echo", "arguments": arguments, "Title": "x"}, id=1, era=era)
    answer = await post(gateway.url(name), body, era=era, token=gateway.token, session=session, seen=gateway.seen)
    assert answer.status == 200 and "result" in answer.reply(1), answer.body
    assert arrived(raw, child, nonce) == 1
