# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Bad requests: each has its answer, none reaches the upstream, and the connection is closed where framing is in doubt."""

import asyncio
import json
import time

import pytest
from harness.wire import Wire, headers_of, message, post

CALL = message("tools/call", {"name": "x", "arguments": {"nonce": "bad request"}})
BODY = json.dumps(CALL).encode()
KEPT, CLOSED = False, True


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway with small limits, before an upstream that writes down what arrives."""
    from harness.gateway import Gateway
    from harness.processes import PEERS, Upstream

    raw = Upstream("2x", PEERS / "raw_upstream.py", "0")
    limits = {"headBytes": "8KiB", "headFields": 40, "targetBytes": "1KiB", "bodyBytes": "64KiB", "jsonDepth": 32}
    limits |= {"headTimeout": "1s", "bodyTimeout": "1s", "idleTimeout": "2s"}
    servers = {"s": {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake"}}
    servers["t"] = {"url": f"http://127.0.0.1:{raw.port}/listen", "protocol": "stateless"}
    started = Gateway(tmp_path_factory.mktemp("requests"), servers, limits=limits, log_level="debug")
    started.raw = raw
    yield started
    try:
        started.settle()
        bad = [e for e in raw.control("/control/journal")["entries"] if e["id"] == 1 and e["rpc"] == "tools/call"]
        assert not bad, f"a bad request reached the upstream: {bad}"
        started.stop()
    finally:
        raw.kill()


def fields(token, **changes):
    """A good request's fields with changes; None takes one away."""
    good = {"Host": "127.0.0.1", **headers_of("handshake", CALL, token), "Content-Length": str(len(BODY))}
    for name, value in changes.items():
        name = name.replace("_", "-")
        good.pop(next((n for n in good if n.lower() == name.lower()), name), None)
        if value is not None:
            good[name] = value
    return good


def request(token, start="POST /s/mcp HTTP/1.1", body=BODY, extra=(), **changes):
    lines = [f"{name}: {value}" for name, value in fields(token, **changes).items()] + list(extra)
    return (start + "\r\n" + "".join(line + "\r\n" for line in lines) + "\r\n").encode("latin-1") + body


def of_body(token, body, **changes):
    return request(token, body=body, Content_Length=str(len(body)), **changes)


def padded(size):
    """A good call of exactly this size that must not reach anybody: its id is 1."""
    return BODY[:-1] + b" " * (size - len(BODY)) + b"}"


def nested(levels):
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


STATELESS = {"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/call", "Mcp_Name": "x"}
MODERN = json.dumps(message("tools/call", {"name": "x", "arguments": {}}, era="stateless")).encode()

# What is wrong: the status, the JSON-RPC code if one is meant, whether the connection is closed, the bytes.
TABLE = {
    "no JSON": (400, -32700, KEPT, lambda t: of_body(t, b"{nonsense}")),
    "cut JSON": (400, -32700, KEPT, lambda t: of_body(t, BODY[:-1])),
    "UTF-16": (400, -32700, KEPT, lambda t: of_body(t, json.dumps(CALL).encode("utf-16"))),
    "a byte order mark": (400, -32700, KEPT, lambda t: of_body(t, b"\xef\xbb\xbf" + BODY)),
    "bad UTF-8": (400, -32700, KEPT, lambda t: of_body(t, BODY.replace(b"bad request", b"\xff\xfe"))),
    "a duplicate key": (400, -32600, KEPT, lambda t: of_body(t, BODY[:-1] + b',"method":"ping"}')),
    "no version": (400, -32600, KEPT, lambda t: of_body(t, BODY.replace(b'"2.0"', b'"1.0"'))),
    "id null": (400, -32600, KEPT, lambda t: of_body(t, BODY.replace(b'"id": 1', b'"id": null'))),
    "a fractional id": (400, -32600, KEPT, lambda t: of_body(t, BODY.replace(b'"id": 1', b'"id": 1.5'))),
    "a number": (400, -32600, KEPT, lambda t: of_body(t, b"17")),
    "a batch": (400, -32600, KEPT, lambda t: of_body(t, b"[" + BODY + b"]")),
    "an empty batch": (400, -32600, KEPT, lambda t: of_body(t, b"[]")),
    "too deep": (400, None, KEPT, lambda t: of_body(t, nested(33))),
    "no acceptable type": (406, None, KEPT, lambda t: request(t, Accept="text/html")),
    "another content type": (415, None, KEPT, lambda t: request(t, Content_Type="text/plain")),
    "no content type": (415, None, KEPT, lambda t: request(t, Content_Type=None)),
    "a body over the limit": (413, None, CLOSED, lambda t: of_body(t, padded(64 * 1024 + 1))),
    "a head over the limit": (431, None, CLOSED, lambda t: request(t, X_Pad="a" * 8192)),
    "too many fields": (431, None, CLOSED, lambda t: request(t, extra=[f"X-{n}: 1" for n in range(41)])),
    "a target over the limit": (414, None, CLOSED, lambda t: request(t, start=f"POST /s/mcp?{'a' * 1024} HTTP/1.1")),
    "PUT": (405, None, None, lambda t: request(t, start="PUT /s/mcp HTTP/1.1")),
    "an unknown route": (404, None, KEPT, lambda t: request(t, start="POST /nowhere/mcp HTTP/1.1")),
    "an escaped route": (404, None, KEPT, lambda t: request(t, start="POST /%73/mcp HTTP/1.1")),
    "a doubled slash": (404, None, KEPT, lambda t: request(t, start="POST //s/mcp HTTP/1.1")),
    "a dot segment": (404, None, KEPT, lambda t: request(t, start="POST /x/../s/mcp HTTP/1.1")),
    "an unknown session": (404, None, KEPT, lambda t: request(t, Mcp_Session_Id="0" * 32)),
    "a foreign host": (421, None, None, lambda t: request(t, Host="evil.example")),
    "a host with user-info": (400, None, CLOSED, lambda t: request(t, Host="localhost@evil.example")),
    "no host": (400, None, CLOSED, lambda t: request(t, Host=None)),
    "two hosts": (400, None, CLOSED, lambda t: request(t, extra=["Host: 127.0.0.1"])),
    "a foreign origin": (403, None, None, lambda t: request(t, Origin="http://evil.example")),
    "a null origin": (403, None, None, lambda t: request(t, Origin="null")),
    "an origin like loopback": (403, None, None, lambda t: request(t, Origin="http://localhost.evil")),
    "two origins": (403, None, None, lambda t: request(t, Origin="http://localhost", extra=["Origin: http://localhost"])),
    "no token": (401, None, KEPT, lambda t: request(t, Authorization=None)),
    "a wrong token": (401, None, KEPT, lambda t: request(t, Authorization="Bearer " + t[:-1])),
    "two tokens": (400, None, None, lambda t: request(t, extra=[f"Authorization: Bearer {t}"])),
    "two lengths": (400, None, CLOSED, lambda t: request(t, extra=["Content-Length: 5"])),
    "length and chunked": (400, None, CLOSED, lambda t: request(t, Transfer_Encoding="chunked")),
    "a signed length": (400, None, CLOSED, lambda t: request(t, Content_Length=f"+{len(BODY)}")),
    "gzip, chunked": (400, None, CLOSED, lambda t: request(t, Content_Length=None, Transfer_Encoding="gzip, chunked")),
    "a bad chunk size": (
        400, None, CLOSED, lambda t: request(t, Content_Length=None, Transfer_Encoding="chunked", body=b"zz\r\n")),
    "a space before the colon": (400, None, CLOSED, lambda t: request(t, extra=["X-Odd : 1"])),
    "a folded line": (400, None, CLOSED, lambda t: request(t, extra=["X-Odd: 1\r\n  2"])),
    "a control byte": (400, None, CLOSED, lambda t: request(t, extra=["X-Odd: a\x00b"])),
    "a fragment": (400, None, CLOSED, lambda t: request(t, start="POST /s/mcp#x HTTP/1.1")),
    "two spaces": (400, None, CLOSED, lambda t: request(t, start="POST  /s/mcp HTTP/1.1")),
    "CONNECT": (501, None, CLOSED, lambda t: request(t, start="CONNECT 127.0.0.1:80 HTTP/1.1")),
    "an unknown method": (501, None, None, lambda t: request(t, start="BREW /s/mcp HTTP/1.1")),
    "an unknown expectation": (417, None, None, lambda t: request(t, Expect="the-best")),
    "HTTP/1.2": (505, None, CLOSED, lambda t: request(t, start="POST /s/mcp HTTP/1.2")),
    "HTTP/2.0": (505, None, CLOSED, lambda t: request(t, start="POST /s/mcp HTTP/2.0")),
    "an envelope with another version": (
        400, -32020, KEPT, lambda t: of_body(t, MODERN, **{**STATELESS, "MCP_Protocol_Version": "2025-11-25"})),
    "an envelope without a header": (400, -32020, KEPT, lambda t: of_body(t, MODERN, MCP_Protocol_Version=None)),
    "a header of another method": (
        400, -32020, KEPT, lambda t: of_body(t, MODERN, **{**STATELESS, "Mcp_Method": "tools/list"})),
    "a header of another tool": (400, -32020, KEPT, lambda t: of_body(t, MODERN, **{**STATELESS, "Mcp_Name": "y"})),
    "no method header": (400, -32020, KEPT, lambda t: of_body(t, MODERN, **{**STATELESS, "Mcp_Method": None})),
    "a version of the other era": (400, -32022, KEPT, lambda t: of_body(t, MODERN, **STATELESS)),
}


@pytest.mark.parametrize("what", TABLE)
async def test_bad_request(gateway, what):
    """It gets the status of the table, in JSON-RPC where that was spoken, and never a second answer."""
    status, code, closes, make = TABLE[what]
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        await wire.send(make(gateway.token))
        answer = await wire.rest(await wire.head(10))
        assert answer.status == status, (answer.status, answer.body[:300])
        if status in (400, 404, 406, 413, 415) and answer.body:
            error = answer.json()["error"]
            assert answer.json()["jsonrpc"] == "2.0" and isinstance(error["code"], int)
            assert code is None or error["code"] == code, error
            assert answer.json().get("id", 1) == 1, "its id, or none where it is not known"
        elif code is not None:
            raise AssertionError(f"no body with {code}")
        if status == 401:
            assert (answer.header("www-authenticate") or "").startswith("Bearer")
        if status == 405:
            assert "POST" in (answer.header("allow") or "")
        if status == 503:
            assert answer.header("retry-after")
        if closes is CLOSED:
            assert await wire.closed(5), "the connection must not be used again"
        elif closes is KEPT:
            assert answer.header("connection") != "close"
            body = json.dumps({**CALL, "id": 2}).encode()
            second = await wire.exchange("POST", "/s/mcp", fields(gateway.token, Content_Length=str(len(body))), body)
            assert second.status == 200 and "result" in second.reply(2), "the next request on it is served"


@pytest.mark.parametrize("what", ["head", "body"])
async def test_slow_request(gateway, what):
    """One that comes drop by drop is cut off with 408 when its time is over, however steadily it drips."""
    whole = request(gateway.token)
    cut = whole.index(b"\r\n\r\n") - 5 if what == "head" else len(whole) - 5
    began = time.monotonic()
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        await wire.send(whole[: cut - 20])
        reading = asyncio.ensure_future(wire.head(10))
        for n in range(cut - 20, cut):
            if reading.done():
                break
            try:
                await wire.send(whole[n : n + 1])
            except ConnectionError:
                break
            await asyncio.wait([reading], timeout=0.2)
        answer = await reading
        assert answer.status == 408
        assert 0.8 < time.monotonic() - began < 4
        await wire.rest(answer)
        assert await wire.closed(5)


@pytest.mark.parametrize("size,status", [(64 * 1024 - 1, 200), (64 * 1024, 200), (64 * 1024 + 1, 413)])
async def test_body_limit(gateway, size, status):
    """One under, at and over `bodyBytes`, with a length and in chunks."""
    body = json.dumps({**CALL, "id": 3}).encode()
    body = body[:-1] + b" " * (size - len(body)) + b"}"
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        await wire.send(of_body(gateway.token, body))
        assert (await wire.head()).status == status
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[n : n + 7000] for n in range(0, size, 7000)))
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        await wire.send(
            request(gateway.token, body=chunks + b"0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked")
        )
        assert (await wire.head()).status == status


async def test_expect_continue(gateway):
    """A caller that asks first is told to go on, and answered."""
    body = json.dumps({**CALL, "id": 4}).encode()
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        head = fields(gateway.token, Content_Length=str(len(body)), Expect="100-continue")
        await wire.request("POST", "/s/mcp", head)
        interim = await wire.reader.readuntil(b"\r\n\r\n")
        assert interim.startswith(b"HTTP/1.1 100 ")
        await wire.send(body)
        answer = await wire.rest(await wire.head())
        assert answer.status == 200 and "result" in answer.reply(4)


async def test_pipelined(gateway):
    """Requests sent without waiting are answered in their order, each once."""
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        bodies = [json.dumps({**CALL, "id": id}).encode() for id in range(100, 120)]
        await wire.send(b"".join(of_body(gateway.token, body) for body in bodies))
        for id in range(100, 120):
            answer = await wire.rest(await wire.head())
            assert "result" in answer.reply(id)


async def test_idle_connection_is_closed(gateway):
    """A connection without a request is closed after `idleTimeout`, without a word."""
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        await wire.send(request(gateway.token, start="GET /_healthz HTTP/1.1", body=b"", Content_Length=None))
        await wire.rest(await wire.head())
        began = time.monotonic()
        assert await wire.closed(6)
        assert time.monotonic() - began > 1.5


async def test_good_origins_and_hosts(gateway):
    """Loopback by any of its names is let in, and so is the origin of `baseURL`."""
    for change in ({"Origin": "http://localhost:3000"}, {"Host": "localhost:1"}, {"Host": "[::1]"}, {"Accept": "*/*"}):
        body = json.dumps({**CALL, "id": 5}).encode()
        async with await Wire.open(gateway.port, gateway.seen) as wire:
            await wire.send(of_body(gateway.token, body, **change))
            assert (await wire.head()).status == 200, change


async def test_bare_token(gateway):
    """As in the Go program, the token may come without its scheme."""
    body = json.dumps({**CALL, "id": 6}).encode()
    async with await Wire.open(gateway.port, gateway.seen) as wire:
        await wire.send(of_body(gateway.token, body, Authorization=gateway.token))
        assert (await wire.head()).status == 200


async def test_one_way_messages(gateway_of):
    """A notification that cannot be delivered: 202 to a handshake caller, the status and no id to one of 2026-07-28."""
    dead = {f"{era[0]}": {"url": "http://127.0.0.1:1/mcp", "protocol": era} for era in ("handshake", "stateless")}
    gateway = gateway_of(dead)
    note = message("notifications/cancelled", {"requestId": 9}, id=None)
    answer = await post(gateway.url("h"), note, token=gateway.token, seen=gateway.seen)
    assert answer.status == 202
    note = message("notifications/cancelled", {"requestId": 9}, id=None, era="stateless")
    answer = await post(gateway.url("s"), note, era="stateless", token=gateway.token, seen=gateway.seen)
    assert answer.status == 502 and "id" not in answer.json() and answer.json()["error"]["code"] == -31001


async def test_handshake_caller_at_a_stateless_upstream(gateway):
    """It is told so by the answer to its `initialize`, and nothing is sent."""
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    answer = await post(gateway.url("t"), message("initialize", params), token=gateway.token, seen=gateway.seen)
    error = answer.reply(1)["error"]
    assert answer.status == 200 and error["code"] == -32022, error
    assert error["data"]["supported"] == ["2026-07-28"] and error["data"]["requested"] == "2025-11-25"
    assert not [e for e in gateway.raw.control("/control/journal")["entries"] if e["rpc"] == "initialize" and e["path"] == "/listen"]
