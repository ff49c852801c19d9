# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Credential pools over streamable HTTP: which token goes out, and what a refusal does (credentials §4.2, §4.3)."""

import hashlib
import json
import time

import pytest
from harness.callers import Caller, call_of, messages_of, text_of
from harness.errors import gateway_error
from harness.processes import until
from harness.wire import Wire, headers_of, message, post, split

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"


async def call(gateway, id=1, tool="echo", text="hello", era="stateless"):
    """The answer to one call: the text of its result, or the error."""
    body = message("tools/call", {"name": tool, "arguments": {"text": text}}, id=id, era=era)
    answer = await post(gateway.url("pool"), body, era=era, token=gateway.token, seen=gateway.seen)
    reply = answer.reply(id)
    return text_of(reply) if "result" in reply else {**reply["error"], "http": answer.status}


async def calls(gateway, count):
    return [await call(gateway) for _ in range(count)]


ROWS = [
    # id, tokens, mode, auth, script, calls, sends, outcomes: "ok", or reason and statuses
    ("R01", "A B C", ROUND, {}, {}, 6, "A B C A B C", ["ok"] * 6),
    ("R02", "A B", ROUND, {}, {"A": 401}, 2, "A B", ["credential_rejected 401", "ok"]),
    ("R04", "A B", ROUND, {}, {"A": 429}, 2, "A B", ["rate_limited 429", "ok"]),
    ("R04", "A B", ROUND, {}, {"A": 500}, 2, "A B", ["upstream_status 500", "ok"]),
    ("R04", "A B", ROUND, {}, {"A": {"reset": True}}, 2, "A B", ["upstream_closed None", "ok"]),
    ("R08", "A B C", ROUND, {"maxRetries": 2}, {"A": 401}, 2, "A B C", ["ok", "ok"]),
    ("R09", "A B C", ROUND, {"maxRetries": 3}, {"A": 403, "B": 403, "C": 403}, 1, "A B C", ["credentials_exhausted 403 403 403"]),
    ("F01", "A B", FAILOVER, {}, {}, 5, "A A A A A", ["ok"] * 5),
    ("F02", "A B", FAILOVER, {}, {"A": 401}, 2, "A B B", ["ok", "ok"]),
    ("F04", "A B", FAILOVER, {}, {"A": 403}, 2, "A B B", ["ok", "ok"]),
    ("F05", "A B C", FAILOVER, {}, {"A": [401, 200], "B": 403, "C": 401}, 2, "A B C A", ["credentials_exhausted 401 403 401", "ok"]),
    ("F07", "A B C", FAILOVER, {"maxRetries": 2}, {"A": 401, "B": 401}, 2, "A B C", ["credentials_exhausted 401 401", "ok"]),
    ("F08", "A B", FAILOVER, {"maxRetries": 1}, {"A": 401}, 2, "A B", ["credentials_exhausted 401", "ok"]),
    ("F09", "A B C", FAILOVER, {}, {"A": 401, "B": 500}, 2, "A B B", ["upstream_status 500", "upstream_status 500"]),
    ("F10", "A B", FAILOVER, {}, {"A": 401, "B": {"reset": True}}, 2, "A B B", ["upstream_closed None"] * 2),
    ("F11", "A B", FAILOVER, {}, {"A": 429}, 2, "A A", ["rate_limited 429"] * 2),
    ("F16", "A A B", FAILOVER, {}, {"A": 401}, 2, "A A B B", ["ok", "ok"]),
    ("F17", "A", None, {}, {"A": 401}, 2, "A A", ["credential_rejected 401"] * 2),
    ("F23", "A B", FAILOVER, {}, {"A": {"status": 302, "fields": [["Location", "http://127.0.0.2:9/"]]}}, 1, "A", ["upstream_protocol 302"]),
    ("F27", "A B", FAILOVER, {"retryOn": [401]}, {"A": [403, 401]}, 2, "A A B", ["credential_rejected 403", "ok"]),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{'-'.join(map(str, row[4].values()))[:12]}")
async def test_vector(pool_of, tokens, row):
    """A scripted upstream gets these tokens in this order, and the caller this."""
    _, names, mode, auth, script, count, sends, outcomes = row
    gateway = pool_of(names, mode, **auth)
    tokens.script(**script)
    seen = []
    for outcome in await calls(gateway, count):
        if isinstance(outcome, dict):
            data = outcome["data"]
            assert data["executed"] == ("unknown" if data["reason"] in ("upstream_status", "upstream_closed") else "no")
            assert data["upstream"] == "pool"
            seen.append(" ".join([data["reason"], *map(str, data.get("statuses", [data.get("status")]))]))
        else:
            seen.append("ok")
    assert tokens.sends("tools/call") == sends
    assert seen == outcomes


def failures(gateway):
    return [slot["failures"] for slot in gateway.credentials()["slots"]]


def raw_call(size, era="stateless"):
    """A call with a text of this size, as bytes."""
    return json.dumps(message("tools/call", {"name": "echo", "arguments": {"text": "x" * size}}, id="same", era=era)).encode()


async def test_next_attempt_is_the_same_message(pool_of, tokens):
    """F13: the next token sends the same bytes, under the same id, and the first has nothing of it but its own header."""
    gateway = pool_of("A B", FAILOVER)
    tokens.script(A=401)
    body = raw_call(64 << 10)
    answer = await post(gateway.url("pool"), body, era="stateless", token=gateway.token)
    assert len(text_of(answer.reply("same"))) == 64 << 10
    first, second = tokens.journal("tools/call")
    assert first["digest"] == second["digest"] == hashlib.sha256(body).hexdigest()
    assert first["id"] == second["id"] == "same"
    for entry in (first, second):
        assert entry["authorizations"] == 1
        del entry["fields"]["authorization"]
    assert first["fields"] == second["fields"], "all fields are the same but the one"


async def test_one_deadline_for_all_attempts(pool_of, tokens):
    """F15: the time of a request is over when it is over, whoever was tried meanwhile; that is no exhaustion."""
    gateway = pool_of("A B", FAILOVER, timeout="1s")
    tokens.script(A={"status": 401, "ms": 800}, B={"hang": True})
    began = time.monotonic()
    outcome = await call(gateway)
    assert 0.9 < time.monotonic() - began < 1.7
    assert (outcome["data"]["reason"], outcome["data"]["executed"]) == ("upstream_timeout", "unknown")
    assert tokens.sends("tools/call") == "A B"
    assert failures(gateway) == [1, 0]
    assert gateway.credentials()["current"] == 1, "a timeout moves nothing"


@pytest.mark.parametrize("era", ["stateless", "handshake"])
async def test_nothing_is_repeated_after_an_accepted_head(pool_of, tokens, era):
    """F19: once a token was accepted a stream that breaks is the caller's to know, and no reason to try another token."""
    gateway = pool_of("A B", FAILOVER)
    outcome = await call(gateway, tool="break", era=era)
    assert outcome["data"]["reason"] == "upstream_closed" and outcome["data"]["executed"] in ("unknown", "yes")
    assert failures(gateway) == [0, 0]
    assert await call(gateway) == "hello"
    assert tokens.sends("tools/call") == "A A"


async def test_error_in_an_accepted_answer(pool_of, tokens):
    """F22: a JSON-RPC error says nothing of the token, whatever it says: the count starts anew."""
    gateway = pool_of("A", None)
    tokens.script(A=[401, 200])
    assert (await call(gateway))["data"]["reason"] == "credential_rejected"
    assert failures(gateway) == [1]
    outcome = await call(gateway, tool="deny")
    assert outcome["message"] == "unauthorized" and "data" not in outcome, "passed on as it is"
    assert failures(gateway) == [0]


BODY = "MARK-of-the-upstream-body"
CHALLENGE = ["WWW-Authenticate", 'Bearer realm="MARK-realm", resource_metadata="https://MARK.example/"']


@pytest.mark.parametrize("era", ["stateless", "handshake"])
@pytest.mark.parametrize("mode, names", [(FAILOVER, "A B"), (ROUND, "A B"), (None, "A")], ids=["failover", "round", "static"])
async def test_refusals_stay_here(pool_of, tokens, mode, names, era):
    """F25, F26: callers never see the upstream's 401 or 403, nor its challenge, nor a word of its body; nor does the log."""
    gateway = pool_of(names, mode)
    for status in (401, 403):
        refusal = {"status": status, "body": f"{BODY} {' '.join(tokens.tokens(names))}", "fields": [CHALLENGE]}
        tokens.script(**{name: refusal for name in names.split()})
        body = message("tools/call", {"name": "echo", "arguments": {}}, era=era)
        answer = await post(gateway.url("pool"), body, era=era, token=gateway.token, seen=gateway.seen)
        expected = "credentials_exhausted" if mode == FAILOVER else "credential_rejected"
        data = gateway_error(answer, 1, era, "pool", {expected}, {"no"})
        assert data.get("statuses", [data.get("status")]) == [status] * (2 if mode == FAILOVER else 1)
        if mode == FAILOVER:
            text = f"all authentication tokens failed after 2 attempts (statuses: {status}, {status})"
            assert answer.reply(1)["error"]["message"] == text
    assert b"MARK" not in gateway.seen and b"MARK" not in gateway.child.err


@pytest.mark.parametrize("kind", ["notification", "response"])
async def test_refused_notification(pool_of, tokens, kind):
    """What gets no answer is tried with the next token as well."""
    gateway = pool_of("A B", FAILOVER)
    tokens.script(A=401)
    told = message("notifications/progress", {"progressToken": 1, "progress": 1}, id=None)
    body = told if kind == "notification" else {"jsonrpc": "2.0", "id": 7, "result": {}}
    assert (await post(gateway.url("pool"), body, token=gateway.token)).status == 202
    # The first caller of the handshake has the gateway ask whether the server speaks it.
    sends = lambda: [each["token"] for each in tokens.journal() if each["method"] == "POST" and each["rpc"] == body.get("method")]
    await until("it arrived", lambda: sends() == ["A", "B"])


async def test_caller_leaves(pool_of, tokens):
    """R10: a caller that leaves took its turn, and says nothing of the token."""
    gateway = pool_of("A B", ROUND)
    tokens.script(A={"status": 200, "gate": True})
    port, path = split(gateway.url("pool"))
    body = raw_call(10)
    async with await Wire.open(port) as wire:
        await wire.request("POST", path, headers_of("stateless", json.loads(body), gateway.token), body)
        await until("it is with A", lambda: tokens.sends("tools/call") == "A")
        assert [slot["inFlight"] for slot in gateway.credentials()["slots"]] == [1, 0]
    await until("it is over", lambda: [slot["inFlight"] for slot in gateway.credentials()["slots"]] == [0, 0])
    assert failures(gateway) == [0, 0]
    tokens.open_gate()
    assert await call(gateway) == "hello"
    assert tokens.sends("tools/call") == "A B"


async def test_all_attempts_are_given_back(pool_of, tokens):
    """Whatever became of requests, none is in flight when all are answered."""
    gateway = pool_of("A B C", FAILOVER)
    for script in ({"A": 401}, {"A": 401, "B": {"reset": True}}, {"A": 500}, {"A": 403, "B": 403, "C": 403}):
        tokens.script(**{"A": 200, "B": 200, "C": 200, **script})
        await calls(gateway, 3)
    await call(gateway, tool="break")
    await until("none is in flight", lambda: {slot["inFlight"] for slot in gateway.credentials()["slots"]} == {0})


# Refusals of every shape.


@pytest.mark.parametrize("early, size", [(True, 2 << 20), ("close", 2 << 20), ("stop", 14 << 20), ("stop", 100 << 10)])
async def test_refused_before_the_body_is_sent(pool_of, tokens, early, size):
    """An upstream that refuses at the head of a large request is believed at once; the next token sends all of it.

    What is larger than the buffers of a socket cannot have been sent, so that its connection is of no more use.
    """
    gateway = pool_of("A B", FAILOVER, limits={"bodyBytes": "16MiB"})
    tokens.script(A={"status": 401, "early": early})
    body = raw_call(size)
    answer = await post(gateway.url("pool"), body, era="stateless", token=gateway.token)
    assert len(text_of(answer.reply("same"))) == size
    first, second = tokens.journal("tools/call", "POST")
    assert (first["token"], first["early"], second["token"]) == ("A", True, "B")
    assert second["digest"] == hashlib.sha256(body).hexdigest()
    assert await call(gateway) == "hello"


SHAPES = {
    "slow": {"bodyMs": 2000},
    "endless": {"endless": True},
    "large": {"body": "x" * (1 << 20)},
    "empty": {"body": ""},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_refusal_is_not_waited_for(pool_of, tokens, shape):
    """The next token goes out in about a tenth of a second, however long the refusal goes on."""
    gateway = pool_of("A B", FAILOVER)
    assert await call(gateway) == "hello"
    tokens.script(A={"status": 401, **SHAPES[shape]})
    assert await call(gateway) == "hello"
    _, refused, accepted = tokens.journal("tools/call")
    assert (refused["token"], accepted["token"]) == ("A", "B")
    assert accepted["t"] - refused["t"] < 0.4
    assert await call(gateway) == "hello"


async def test_refused_connection_is_kept(pool_of, tokens):
    """A refusal that ends soon is read to its end, and the next token goes over the same connection."""
    gateway = pool_of("A B", FAILOVER)
    tokens.script(A={"status": 401, "body": "x" * 2000})
    assert await call(gateway) == "hello"
    refused, accepted = tokens.journal("tools/call")
    assert refused["peer"] == accepted["peer"]


BASIC = ["WWW-Authenticate", 'Basic realm="x"']
SCOPE = ["WWW-Authenticate", 'bEaReR realm="a, b", error="insufficient_scope", scope="a b"']
WITHOUT_ID = json.dumps({"jsonrpc": "2.0", "error": {"code": -32000, "message": "origin"}})
KINDS = [
    ("W01", [SCOPE], "x", "insufficient_scope"),
    ("W04", [BASIC, SCOPE], "x", "insufficient_scope"),
    ("one-line", [["WWW-Authenticate", f"{BASIC[1]}, {SCOPE[1]}"]], "x", "insufficient_scope"),
    ("basic", [BASIC], WITHOUT_ID, "rejected"),
    ("nothing", [], "x", "rejected"),
    ("retry-after", [["Retry-After", "60"]], "x", "quota"),
    ("remaining", [["X-RateLimit-Remaining", "0"]], "x", "quota"),
    ("policy", [], WITHOUT_ID, "policy"),
]


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row[0])
async def test_kinds_of_403(pool_of, tokens, row):
    """Every 403 counts and moves on; what it seems to be about is recorded."""
    _, fields, body, kind = row
    gateway = pool_of("A B", FAILOVER)
    tokens.script(A={"status": 403, "body": body, "fields": fields})
    assert await calls(gateway, 2) == ["hello", "hello"]
    assert tokens.sends("tools/call") == "A B B"
    first, second = gateway.credentials()["slots"]
    assert (first["failures"], first["state"], first["lastRefusal"]) == (1, "rejected", kind)
    assert (second["failures"], second["state"], second["lastRefusal"]) == (0, "accepted", None)
    (line,) = await until("it is logged", lambda: gateway.log("credential rotated"))
    text = json.dumps(line)
    for said in (f'"kind": "{kind}"', '"from": "0"', '"to": "1"', '"status": "403"', '"upstream": "pool"'):
        assert said in text, text


# GET streams.


@pytest.mark.parametrize("path", ["/sessions", "/streams"])
async def test_stream_with_the_next_token(pool_of, tokens, path):
    """F20: a stream that is refused is opened with the next token, and with that one again after it broke."""
    gateway = pool_of("A B", FAILOVER, path=path)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A=401)
    wire, answer = await caller.stream()
    async with wire:
        assert answer.status == 200 and answer.content_type == "text/event-stream"
        await until("it is open", lambda: tokens.state()["streams"])
        assert tokens.sends("GET") == "A B"
        tokens.drop_streams()
        await until("it is open again", lambda: tokens.sends("GET") == "A B B" and tokens.state()["streams"])
        tokens.broadcast()
        assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
        reply = (await caller.post(call_of("echo", {"text": "x"}))).reply(1)
        assert text_of(reply) == "x"
    assert not tokens.state()["strays"]


@pytest.mark.parametrize("path", ["/sessions", "/streams"])
async def test_stream_in_turns(pool_of, tokens, path):
    """In turns a stream that is refused tries again with the next token, not for ever with the one that was refused."""
    gateway = pool_of("A B", ROUND, path=path)
    caller = await Caller.open(gateway, "pool")
    tokens.script(A=401)
    wire, answer = await caller.stream()
    async with wire:
        assert answer.status == 200
        await until("it is open with B", lambda: "B" in tokens.sends("GET") and tokens.state()["streams"])
