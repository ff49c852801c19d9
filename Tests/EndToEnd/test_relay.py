# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What the upstream sees of a caller, and the caller of the upstream: bytes as they are, and no secret on a wrong way."""

import json
import secrets

import pytest
from harness.callers import Caller
from harness.wire import HANDSHAKE, STATELESS, Wire, headers_of, initialize, message, post, split

pytestmark = [pytest.mark.gateway_only, pytest.mark.xdist_group("2x")]

# Field names of a caller that are nobody's business behind the gateway.
NOT_PASSED = {
    "Cookie": "session=1",
    "Proxy-Authorization": "Basic eDp5",
    "Forwarded": "for=192.0.2.1",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Host": "elsewhere.example",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "192.0.2.1",
    "Via": "1.1 somebody",
    "TE": "trailers",
    "Upgrade": "h2c",
    "Keep-Alive": "timeout=5",
    "X-Named-By-Connection": "1",
    "X-Of-The-Caller": "1",
    "Accept-Encoding": "gzip, br",
}
# Valid JSON that a parser and a printer would not give back as it was.
ODD_ARGUMENTS = (
    '{"integer":9007199254740993,"real":1.0,"small":0.1,"exponent":1E+2,"huge":1e999,"escaped":"\\u00e9\\/\\ud83d\\ude00",'
    '"raw":"\u00e9\U0001f600\u2028","spaced" :  [ 1 , 2 ] ,"last":1,"empty":{}}'
)


def sent(server, nonce):
    return [r for r in server.journal(nonce)["requests"] if r["rpc"] == "tools/call"]


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_body_arrives_to_the_byte(routes, route_kind, servers, era):
    """Order of members, number forms, escapes and white space of a call reach the upstream untouched."""
    route, nonce = routes.get(route_kind, "2x"), secrets.token_hex(8)
    session = await initialize(route.url("2x"), route.token, route.seen) if era == "handshake" else ""
    call = message("tools/call", {"name": "echo", "arguments": {}, "x": nonce}, id="\u00e9 17", era=era)
    body = json.dumps(call, ensure_ascii=False).replace('"arguments": {}', f'"arguments": {ODD_ARGUMENTS}', 1)
    body = " \n" + body.replace('"params"', '"unknown": [null, true] ,\t"params"', 1) + "\r\n "
    await post(route.url("2x"), body.encode(), era=era, token=route.token, session=session, seen=route.seen)
    (arrived,) = sent(servers["2x"], nonce)
    assert arrived["body"] == body


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_fields_that_pass(routes, route_kind, servers, era):
    """The upstream gets the configured fields and those of MCP; nothing else of the caller's, least of all its token."""
    route, server, nonce = routes.get(route_kind, "2x"), servers["2x"], secrets.token_hex(8)
    session = await initialize(route.url("2x"), route.token, route.seen) if era == "handshake" else ""
    call = message("tools/call", {"name": "echo", "arguments": {"text": nonce}}, era=era)
    fields = list(headers_of(era, call, route.token, session).items())
    fields += [*NOT_PASSED.items(), ("Connection", "X-Named-By-Connection, TE"), ("X-Canary", "of the caller")]
    if era == "stateless":
        fields.append(("Mcp-Param-Region", "north"))
    port, path = split(route.url("2x"))
    body = json.dumps(call).encode()
    async with await Wire.open(port, route.seen) as wire:
        await wire.request("POST", path, fields, body)
        answer = await wire.rest(await wire.head())
    assert "result" in answer.reply(1)
    (arrived,) = sent(server, nonce)
    got = dict(arrived["headers"])
    assert len(got) == len(arrived["headers"]), "no field twice"
    canaries = route.gateway.canaries
    assert got["authorization"] == "Bearer " + canaries.make("upstream")
    assert got["x-canary"] == canaries.make("header")
    assert got["x-environment"] == canaries.make("environment")
    assert "key=" + canaries.make("query").rstrip("+/=") in arrived["query"]
    assert got["host"] == f"127.0.0.1:{server.port}"
    assert got["content-length"] == str(len(body))
    assert "application/json" in got["accept"] and "text/event-stream" in got["accept"]
    assert got.get("accept-encoding", "identity") == "identity"
    for name in set(NOT_PASSED) - {"Accept-Encoding"}:
        assert name.lower() not in got, name
    assert not [value for value in got.values() if route.token in value], "the caller's token"
    if era == "stateless":
        assert got["mcp-protocol-version"] == STATELESS and got["mcp-method"] == "tools/call"
        assert got["mcp-name"] == "echo" and got["mcp-param-region"] == "north"
        assert "mcp-session-id" not in got
    else:
        assert got["mcp-session-id"] != session


async def test_forwarded_header(gateway_of, servers):
    """`forwardHeaders` passes the named field of the caller, and only that; the session belongs to its value."""
    server, nonce = servers["2x"], secrets.token_hex(8)
    gateway = gateway_of({"s": {"url": server.url, "options": {"forwardHeaders": ["X-Tenant"]}}})
    url = gateway.url("s")
    port, path = split(url)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    tenant = {"X-Tenant": "blue", "X-Other": "1"}
    opened = await post(url, message("initialize", params), token=gateway.token, seen=gateway.seen, more=tenant)
    session = opened.header("mcp-session-id")
    call = message("tools/call", {"name": "echo", "arguments": {"text": nonce}})
    answer = await post(url, call, token=gateway.token, session=session, seen=gateway.seen, more=tenant)
    assert answer.status == 200
    (arrived,) = sent(server, nonce)
    assert dict(arrived["headers"])["x-tenant"] == "blue" and "x-other" not in dict(arrived["headers"])
    answer = await post(url, call, token=gateway.token, session=session, seen=gateway.seen, more={"X-Tenant": "red"})
    assert answer.status == 404, "another tenant's session"


async def test_answer_fields(routes, route_kind, servers):
    """The caller sees no field of the upstream's server, and streams say that they must not be buffered."""
    route = routes.get(route_kind, "2x")
    call = message("tools/call", {"name": "echo", "arguments": {"text": "x"}}, era="stateless")
    answer = await post(route.url("2x"), call, era="stateless", token=route.token, seen=route.seen)
    assert answer.header("server") != "uvicorn"
    assert answer.header("mcp-session-id") is None
    names = [name for name, _ in answer.fields]
    assert len(names) == len(set(names)), "no field twice"


@pytest.mark.parametrize("mode", ["allow", "Block"])
async def test_tool_filter(gateway_of, servers, mode):
    """A hidden tool is in no listing, and calling it is like calling one that does not exist."""
    names = ["echo", "numbers"] if mode == "allow" else ["echo", "slow"]
    server, nonce = servers["2x"], secrets.token_hex(8)
    gateway = gateway_of({"s": {"url": server.url, "options": {"toolFilter": {"mode": mode, "list": names}}}})
    url = gateway.url("s")
    for era in ("handshake", "stateless"):
        session = await initialize(url, gateway.token, gateway.seen) if era == "handshake" else ""
        more = {"era": era, "token": gateway.token, "session": session, "seen": gateway.seen}
        listed = await post(url, message("tools/list", era=era), **more)
        shown = {tool["name"] for tool in listed.reply(1)["result"]["tools"]}
        assert shown == {"echo", "numbers"} if mode == "allow" else not shown & {"echo", "slow"} and "big" in shown
        hidden = "slow" if mode == "allow" else "echo"
        escaped = json.dumps(message("tools/call", {"name": hidden, "arguments": {"text": nonce}}, era=era))
        escaped = escaped.replace(f'"name": "{hidden}"', f'"name": "\\u{ord(hidden[0]):04x}{hidden[1:]}"')
        for body in (message("tools/call", {"name": hidden, "arguments": {"text": nonce}}, era=era), escaped.encode()):
            error = (await post(url, body, **more)).reply(1)["error"]
            assert error["code"] == -32602 and hidden in error["message"], error
        assert not sent(server, nonce), "nothing was sent"


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in-a-batch"])
async def test_blocked_notification(gateway_of, raw, batched):
    """A call of a hidden tool that wants no answer gets none: 202 to a handshake caller, and it does not run."""
    hidden = {"toolFilter": {"mode": "block", "list": ["danger"]}}
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake", "options": hidden}})
    gateway.wait_until_ready()
    caller = await Caller.open(gateway, "s", version="2025-03-26" if batched else HANDSHAKE)
    raw.control("/control/clear")
    note = message("tools/call", {"name": "danger", "arguments": {}}, id=None)
    answer = await caller.post([note, note] if batched else note)
    assert answer.status == 202 and not answer.body, (answer.status, answer.body)
    assert not raw.control("/control/journal")["entries"], "nothing is passed on"


async def test_blocked_notification_of_the_stateless_era(gateway_of, raw):
    """A caller of 2026-07-28 is told by the status, in a body without an id: never by a 200."""
    hidden = {"toolFilter": {"mode": "block", "list": ["danger"]}}
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "stateless", "options": hidden}})
    gateway.wait_until_ready()
    raw.control("/control/clear")
    note = message("tools/call", {"name": "danger", "arguments": {}}, id=None, era="stateless")
    answer = await post(gateway.url("s"), note, era="stateless", token=gateway.token, seen=gateway.seen)
    assert 400 <= answer.status < 500, (answer.status, answer.body)
    assert "id" not in answer.json() and "code" in answer.json()["error"], answer.body
    assert not raw.control("/control/journal")["entries"], "nothing is passed on"
