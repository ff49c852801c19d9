# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Which `Authorization` an upstream sees, and what people see of a pool: never a token."""

import asyncio
import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness.callers import Caller
from harness.processes import poll, until
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
QUIET = {"pingInterval": 0}
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def call(gateway, server="pool", id=1, token=None, more=None, tool="echo", **arguments):
    """The whole answer to a call of the stateless era."""
    body = message("tools/call", {"name": tool, "arguments": arguments}, id=id, era="stateless")
    token = gateway.token if token is None else token
    return await post(gateway.url(server), body, era="stateless", token=token, seen=gateway.seen, more=more)


async def calls(gateway, count, **more):
    """The reasons of errors, `ok` for results."""
    replies = [(await call(gateway, **more)).reply(1) for _ in range(count)]
    return ["ok" if "result" in reply else reply["error"]["data"]["reason"] for reply in replies]


def findings(gateway, code):
    return [line for line in gateway.log("configuration") if line.get("code") == code]


def entry(tokens, **more):
    """A server without an `Authorization` header or pool of its own."""
    more.setdefault("headers", {"Authorization": None})
    return {"url": f"http://127.0.0.1:{tokens.port}/plain", **more}


@pytest.fixture
def gateway_at(gateway_of, tokens):
    """Starts a gateway with these servers; the journal is empty then."""

    def start(servers, options=QUIET, **more):
        gateway = gateway_of(servers, options=options, **more)
        gateway.wait_until_ready()
        tokens.clear()
        return gateway

    yield start
    assert all(entry["authorizations"] <= 1 for entry in tokens.journal()), "one at most"


def came(tokens):
    """The Authorization of each call that arrived, by the name of its token."""
    return [(entry["authorizations"], entry["token"]) for entry in tokens.journal("tools/call")]


# What arrives.


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
async def test_header_beside_a_pool(gateway_at, tokens, name):
    """K13: the pool wins over `headers`; its token is sent once, the header's never, and one warning says so."""
    server = entry(tokens, headers={name: f"Bearer {tokens.token('X')}"}, options={"auth": {"tokens": tokens.tokens("A")}})
    gateway = gateway_at({"pool": server})
    assert await calls(gateway, 2) == ["ok", "ok"]
    assert came(tokens) == [(1, "A"), (1, "A")]
    assert len(gateway.logged("configuration", code="authorization-overridden")) == 1


@pytest.mark.parametrize("names", ["A", "A B"])
async def test_legacy_pool(gateway_at, tokens, names):
    """K16: a server's own `authTokens` alone are its pool too, with a warning at the start; callers still need one."""
    server = entry(tokens, options={"authTokens": tokens.tokens(names)})
    gateway = gateway_at({"pool": server})
    assert await calls(gateway, 4, token=tokens.token("A")) == ["ok"] * 4
    assert came(tokens) == [(1, name) for name in (names.split() * 4)[:4]]
    (warning,) = gateway.logged("configuration", code="authtokens-sent-upstream")
    assert warning["level"] == "warning" and warning["path"] == "mcpServers.pool.options.authTokens"
    for wrong in ("wrong", gateway.token, ""):
        assert (await call(gateway, token=wrong)).status == 401
    assert len(came(tokens)) == 4
    assert gateway.pool("pool")["mode"] == ("round-robin" if names == "A B" else "static")


@pytest.mark.parametrize("auth,sent", [("B", "B"), (None, "")])
async def test_own_pool_beside_inbound_tokens(gateway_at, tokens, auth, sent):
    """K17: with an `auth` object, even an empty one, `authTokens` guard callers and go nowhere."""
    auth = {"tokens": tokens.tokens(auth)} if auth else {}
    gateway = gateway_at({"pool": entry(tokens, options={"authTokens": tokens.tokens("A"), "auth": auth})})
    assert await calls(gateway, 1, token=tokens.token("A")) == ["ok"]
    assert came(tokens) == [(1 if sent else 0, sent)]
    for wrong in (tokens.token("B"), ""):
        assert (await call(gateway, token=wrong)).status == 401
    assert not findings(gateway, "authtokens-sent-upstream")


@pytest.mark.parametrize("how", ["inherited", "clear text"])
async def test_inbound_tokens_that_stay_here(gateway_at, tokens, how):
    """K18: inherited tokens, and those of a server in clear text elsewhere, are not sent; callers still need one."""
    inherited = how == "inherited"
    own = {} if inherited else {"options": {"authTokens": tokens.tokens("A")}}
    server = {**entry(tokens), **own}
    if not inherited:
        server["url"] = server["url"].replace("127.0.0.1", "0.0.0.0")
    options = {**QUIET, **({"authTokens": tokens.tokens("A")} if inherited else {})}
    gateway = gateway_at({"pool": server}, options, open_to_all=True)
    assert await calls(gateway, 1, token=tokens.token("A")) == ["ok"]
    assert came(tokens) == [(0, "")]
    assert (await call(gateway, token="wrong")).status == 401
    assert (await call(gateway, token="")).status == 401
    assert not findings(gateway, "authtokens-sent-upstream")


async def test_pools_are_apart(gateway_at, tokens):
    """K20: two upstreams with equal tokens count each for itself."""
    gateway = gateway_at({name: tokens.entry("/plain", "A B", ROUND) for name in ("one", "two")})
    for server in ("one", "two", "two", "one"):
        assert await calls(gateway, 1, server=server) == ["ok"]
    assert tokens.sends("tools/call") == "A A B B"
    tokens.script(A=401)
    assert await calls(gateway, 1, server="one") == ["credential_rejected"]
    assert [gateway.pool(server)["slots"][0]["failures"] for server in ("one", "two")] == [1, 0]


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_callers_own_authorization(gateway_at, tokens, era):
    """N17: what a caller presents to us is not passed on, whether we look at it or not."""
    server = tokens.entry("/plain", "A", None)
    server["options"]["authTokens"] = []
    gateway = gateway_at({"pool": server}, open_to_all=True)
    secret = tokens.token("caller")
    gateway.canaries.add("caller", secret)
    body = message("tools/call", {"name": "echo", "arguments": {}}, era=era)
    answer = await post(gateway.url("pool"), body, era=era, token=secret, seen=gateway.seen)
    assert "result" in answer.reply(1)
    assert came(tokens) == [(1, "A")]
    assert not any(secret in str(arrived) for arrived in tokens.journal())


@pytest.mark.parametrize("path", ["/plain", "/sessions", "/sse"])
async def test_every_message_has_one(pool_of, tokens, path):
    """Whatever goes to the upstream, from probes to the end of sessions, carries one token of the pool."""
    gateway = pool_of("A B", ROUND, path=path)
    caller = await Caller.open(gateway, "pool")
    for _ in range(2):
        assert "result" in await caller.ask("echo", {})
    wire, _ = await caller.stream()
    await caller.post(message("notifications/cancelled", {"requestId": 9}, id=None))
    assert await caller.delete() == 204 or path == "/plain"
    wire.abort()
    gateway.stop()
    assert tokens.journal() and all(
        arrived["authorizations"] == 1 and arrived["token"] in ("A", "B") for arrived in tokens.journal()
    )


# What people see.


async def test_status_of_a_pool(pool_of, tokens):
    """/_status shows mode, position, moves and each slot's state, counts and times."""
    gateway = pool_of("A B C", FAILOVER)
    tokens.clear()
    fresh = gateway.pool("pool")
    assert (fresh["mode"], fresh["current"], fresh["rotations"]) == (FAILOVER, 0, 0)
    for number, slot in enumerate(fresh["slots"]):
        fingerprint = slot.pop("fingerprint")
        assert re.fullmatch("[0-9a-f]{8}", fingerprint)
        empty = {"failures": 0, "rejections": 0, "inFlight": 0, "lastFailure": None, "lastRefusal": None}
        # With the first the gateway itself asked what the server speaks.
        success, state = slot.pop("lastSuccess"), "unused" if number else "accepted"
        assert TIME.fullmatch(success) if state == "accepted" else success is None
        assert slot == {"slot": number, "state": state, **empty}
    tokens.script(A=401)
    assert await calls(gateway, 2) == ["ok", "ok"]
    slow = asyncio.create_task(call(gateway, tool="sleep", ms=500))
    await until("it is in flight", lambda: gateway.pool("pool")["slots"][1]["inFlight"] == 1)
    now = gateway.pool("pool")
    assert (now["current"], now["rotations"]) == (1, 1)
    refused, used, unused = now["slots"]
    assert (refused["state"], refused["failures"], refused["rejections"]) == ("rejected", 1, 1)
    assert TIME.fullmatch(refused["lastFailure"]) and refused["lastRefusal"] == "rejected"
    assert (used["state"], used["failures"]) == ("accepted", 0)
    assert TIME.fullmatch(used["lastSuccess"]) and used["lastFailure"] is None
    assert unused["state"] == "unused"
    await slow
    assert [slot["inFlight"] for slot in gateway.pool("pool")["slots"]] == [0, 0, 0]
    tokens.script(A=200, B=[401, 200], C=403)
    assert await calls(gateway, 1) == ["ok"]
    assert [slot["state"] for slot in gateway.pool("pool")["slots"]] == ["accepted", "rejected", "rejected"]


@pytest.mark.parametrize(
    "status,fields,body,kind",
    [
        (401, [], "", "rejected"),
        (401, [["WWW-Authenticate", 'Bearer error="invalid_token"']], "", "rejected"),
        (403, [["WWW-Authenticate", 'Bearer realm="x", error="insufficient_scope", scope="a b"']], "", "scope"),
        (
            403,
            [["WWW-Authenticate", 'Basic realm="x, Bearer"'], ["WWW-Authenticate", "bearer ERROR=insufficient_scope"]],
            "",
            "scope",
        ),
        (403, [["Retry-After", "60"]], "", "quota"),
        (403, [["X-RateLimit-Remaining", "0"]], "", "quota"),
        (403, [], '{"jsonrpc":"2.0","error":{"code":-32000,"message":"no"}}', "policy"),
    ],
)
async def test_kind_of_refusal(pool_of, tokens, status, fields, body, kind):
    """W01, W04: what a refusal is about is told to people; every kind counts and moves on."""
    gateway = pool_of("A B", FAILOVER)
    tokens.script(A={"status": status, "fields": fields, "body": body})
    assert await calls(gateway, 1) == ["ok"]
    slot = gateway.pool("pool")["slots"][0]
    assert slot["failures"] == 1 and kind in slot["lastRefusal"].lower(), slot


async def test_fingerprints(gateway_of, tokens):
    """A token has one name in one process, other tokens others, and another process has other names."""
    servers = {"one": tokens.entry("/plain", "A B A", ROUND), "two": tokens.entry("/plain", "B", None)}

    def names():
        gateway = gateway_of(servers, options=QUIET)
        return [[slot["fingerprint"] for slot in gateway.pool(server)["slots"]] for server in servers]

    (a, b, again), (other,) = first = names()
    assert a == again and b == other and a != b
    assert not {a, b} & {name for server in names() for name in server}, first


async def test_metrics_of_a_pool(pool_of, tokens):
    """The counters of each slot, and of the pool, count what happened."""
    gateway = pool_of("A B C", FAILOVER, maxRetries=2)
    tokens.script(A=[401, 200], B=[500, 429, 403, 200], C=403)
    assert await calls(gateway, 2) == ["upstream_status", "rate_limited"]
    assert await calls(gateway, 2) == ["credentials_exhausted", "ok"]

    def requests(slot):
        told = ("accepted", "rejected", "neutral")
        return [gateway.metric("credential_requests_total", server="pool", credential=slot, outcome=outcome) for outcome in told]

    assert [requests(slot) for slot in "012"] == [[1, 1, 0], [0, 1, 2], [0, 1, 0]]
    assert [gateway.metric("credential_failures", server="pool", credential=slot) for slot in "012"] == [0, 1, 1]
    assert gateway.metric("credential_rotations_total", server="pool", status="401") == 1
    assert gateway.metric("credential_rotations_total", server="pool", status="403") == 2
    assert gateway.metric("credentials_exhausted_total", server="pool") == 1


async def test_log_lines(pool_of, tokens):
    """A move is logged with its slots and status, a refusal without one with its slot; a herd does not flood the log."""
    gateway = pool_of("A B", FAILOVER, log_level="info")
    tokens.script(A={"tools/call": {"status": 401, "ms": 100}})
    await asyncio.gather(*(call(gateway) for _ in range(50)))
    (line,) = await until("it is logged", lambda: gateway.log("credential rotated"))
    assert line["upstream"] == "pool" and line["level"] == "warning"
    assert [str(line[key]) for key in ("from", "to", "status")] == ["0", "1", "401"]
    assert len(gateway.log("credential rejected")) <= 1


async def test_log_line_of_a_refusal(pool_of, tokens):
    """Where nothing moves the line names the slot."""
    gateway = pool_of("A B", ROUND, log_level="info")
    tokens.script(B=403)
    assert await calls(gateway, 2) == ["ok", "credential_rejected"]
    (line,) = await until("it is logged", lambda: gateway.log("credential rejected"))
    assert line["upstream"] == "pool" and str(line["slot"]) == "1" and str(line["status"]) == "403"
    assert not gateway.log("credential rotated")


async def test_every_move_is_logged(pool_of, tokens):
    """Each move has its line, also when the pool comes by the same slot again."""
    gateway = pool_of("A B", FAILOVER, log_level="info")
    tokens.script(A=[401, 200, 403, 200], B=[200, 401, 200])
    assert await calls(gateway, 3) == ["ok"] * 3
    assert tokens.sends("tools/call") == "A B B A A B"
    lines = await until("all are logged", lambda: (found := gateway.log("credential rotated"))[2:] and found, 3)
    moves = [(str(line["from"]), str(line["to"]), str(line["status"])) for line in lines]
    assert moves == [("0", "1", "401"), ("1", "0", "401"), ("0", "1", "403")]


async def test_access_line(pool_of, tokens):
    """The access line says which slot answered, after how many attempts."""
    gateway = pool_of("A B", FAILOVER, log_level="info")
    tokens.script(A=401)
    assert await calls(gateway, 2) == ["ok", "ok"]
    await until("both are logged", lambda: len(gateway.log('"access"')) == 2)
    lines = [(str(line["slot"]), str(line["attempts"])) for line in gateway.log('"access"')]
    assert lines == [("1", "2"), ("1", "1")]


# Probes and readiness.


@pytest.mark.parametrize("mode", [ROUND, FAILOVER])
@pytest.mark.parametrize("path", ["/plain", "/sessions"])
def test_start_counts_for_no_token(pool_of, tokens, path, mode):
    """With its first token revoked an upstream is found usable with another; the pool knows nothing of the search."""
    tokens.script(A=401)
    gateway = pool_of("A B", mode, path=path)
    assert gateway.get("/_readyz")[0] == 200 and b'"ready"' in gateway.get("/_readyz")[1]
    pool = gateway.pool("pool")
    assert (pool["current"], pool["rotations"]) == (0, 0)
    assert [(slot["failures"], slot["state"]) for slot in pool["slots"]] == [(0, "rejected"), (0, "accepted")]
    assert gateway.metric("credential_requests_total") == 0 and gateway.metric("credential_rotations_total") == 0
    assert not gateway.log("credential rotated") and not gateway.log("credential rejected")


def test_pings_count_for_no_token(pool_of, tokens):
    """The probes of an idle upstream neither count nor move anything."""
    gateway = pool_of("A B", FAILOVER, options={"pingInterval": "250ms"})
    tokens.script(A=401)
    tokens.clear()
    tokens.script(A=401)
    poll("three of them", lambda: len(tokens.journal()) >= 3)
    pool = gateway.pool("pool")
    assert pool["current"] == 0 and [slot["failures"] for slot in pool["slots"]] == [0, 0]
    assert gateway.metric("credential_requests_total") == 0


@pytest.mark.parametrize("mode", [ROUND, FAILOVER])
async def test_readiness(pool_of, tokens, mode):
    """Usable as long as one token works; `rejected` when the last thing that each met was a refusal; usable again after."""
    gateway = pool_of("A B", mode)
    tokens.script(A=401)
    await calls(gateway, 2)
    assert gateway.get("/_readyz")[0] == 200
    tokens.script(B=403)
    await calls(gateway, 2)
    status, body = gateway.get("/_readyz")
    assert status == 503 and b"rejected" in body, body
    tokens.script(A=200)
    assert "ok" in await calls(gateway, 2)
    assert gateway.get("/_readyz")[0] == 200


@pytest.mark.parametrize("path", ["/plain", "/sessions"])
async def test_refused_pings_make_nothing_usable(gateway_of, tokens, path):
    """An upstream of which every token was refused is not usable because a ping was refused as well."""
    entry = {**tokens.entry(path, "A B", FAILOVER), "protocol": "handshake"}
    gateway = gateway_of({"pool": entry}, options={"pingInterval": "250ms", "reconnectInterval": "250ms"})
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "pool")
    tokens.script(A=401, B=403)
    await caller.call("echo", {}, id=5)
    assert b"rejected" in gateway.get("/_readyz")[1]
    tokens.clear()
    tokens.script(A=401, B=403)
    await until("it is asked on its own", lambda: len(tokens.journal()) >= 4)
    status, body = gateway.get("/_readyz")
    assert status == 503 and b"rejected" in body, body


@pytest.mark.parametrize("path", ["/plain", "/sessions", "/sse"])
def test_all_refused_at_the_start(gateway_of, tokens, path):
    """With every token refused the upstream is `rejected`, not unreachable."""
    tokens.script(A=401, B=403)
    gateway = gateway_of({"pool": tokens.entry(path, "A B", FAILOVER)}, options=QUIET, startupGracePeriod="250ms")
    poll("the verdict", lambda: b"unavailable" in gateway.get("/_readyz")[1])
    assert b"rejected" in gateway.get("/_readyz")[1]


# Hostile upstreams.

HOSTILE = {
    "body": lambda token: {"status": 401, "body": f"no {token} here"},
    "json": lambda token: {"status": 403, "body": f'{{"jsonrpc":"2.0","id":1,"error":{{"code":-1,"message":"{token}"}}}}'},
    "challenge": lambda token: {"status": 401, "fields": [["WWW-Authenticate", f'Bearer realm="{token}", error="{token}"']]},
    "location": lambda token: {"status": 302, "fields": [["Location", f"http://127.0.0.2:9/{token}"]]},
    "session": lambda token: {"status": 401, "fields": [["Mcp-Session-Id", token]]},
    "new session": lambda token: {
        "status": 201,
        "fields": [["Mcp-Session-Id", token]],
        "body": '{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{},'
        '"serverInfo":{"name":"n","version":"1"}}}',
    },
    "field": lambda token: {"status": 403, "fields": [["Authorization", f"Bearer {token}"], [f"X-{token}", "1"]]},
    "limit": lambda token: {"status": 429, "fields": [["Retry-After", token]], "body": token},
    "server": lambda token: {"status": 500, "body": token},
    "type": lambda token: {"status": 203, "fields": [["Content-Type", f"text/{token}"]], "body": token},
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_upstream_that_echoes_tokens(gateway_of, tokens, how):
    """Wherever an upstream puts the token that it was sent, nothing that the gateway emits has it."""
    paths = {"plain": ("/plain", FAILOVER), "sessions": ("/sessions", ROUND), "sse": ("/sse", FAILOVER), "one": ("/plain", None)}
    servers = {name: tokens.entry(path, "A B" if mode else "A", mode) for name, (path, mode) in paths.items()}
    servers["shared"] = tokens.entry("/sessions", "A B", FAILOVER, isolation="shared")
    gateway = gateway_of(servers, options=QUIET, log_level="trace")
    gateway.wait_until_ready()
    tokens.script(**{name: HOSTILE[how](tokens.token(name)) for name in "AB"})
    for name in servers:
        stateless = await call(gateway, name)
        caller = Caller(gateway.url(name), gateway.token, gateway.seen)
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}}
        opened = await caller.post(message("initialize", params, id=0))
        caller.session = opened.header("mcp-session-id") or ""
        for answer in (stateless, opened, await caller.call("echo", {"text": "x"}, id=1)):
            heads = str(answer.fields)
            assert not any(token in heads or token.encode() in answer.body for token in tokens.tokens("A B"))
            assert answer.status not in (401, 403, 407) and answer.header("www-authenticate") is None
    gateway.stop()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGILL", "SIGBUS", "SIGFPE", "SIGTRAP"])
async def test_crash_shows_no_token(pool_of, tokens, name):
    """What a crash writes has no token in it, although every token was in use a moment before; nor is there a core file."""
    gateway = pool_of("A B", FAILOVER)
    tokens.script(A=401)
    assert await calls(gateway, 2) == ["ok", "ok"]
    number = signal.Signals[name]
    limits = Path(f"/proc/{gateway.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits), limits
    gateway.child.process.send_signal(number)
    gateway.stop(expected=-number, was_told=True)
    # The one line of the log that says so, beside whatever report the runtime writes as text.
    lines = [json.loads(line) for line in bytes(gateway.child.err).splitlines() if b'"crashed"' in line]
    assert [(line["level"], line["message"], line["signal"]) for line in lines] == [("critical", "crashed", number)]
    assert set(lines[0]) == {"ts", "level", "message", "signal"}
    age = datetime.now(UTC) - datetime.fromisoformat(lines[0]["ts"])
    assert abs(age.total_seconds()) < 60, lines[0]
