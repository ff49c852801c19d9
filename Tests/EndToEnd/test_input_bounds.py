# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What has been read is let go of: a connection costs no more than the one request that it is in the middle of."""

import asyncio
import json

import pytest
from harness.bounds import MEGABYTE, Growth
from harness.wire import Wire, headers_of, message, split

pytestmark = pytest.mark.gateway_only

MOST = 20
"""MiB that one connection may add."""
TOTAL = 96 * MEGABYTE
SOON = 6
"""Seconds after SIGTERM in which whoever waits for nobody has stopped."""


def health(port):
    """A plain request of 8 KB without a token, and how much of it the first of two sends takes."""
    head = b"GET /_healthz HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Pad: %s\r\n\r\n" % (port, b"a" * 8000)
    return head, len(head) // 2


def posted(framing, gateway, port):
    """A notification of 48 KB: the first send ends in the middle of the head, of the body or of the size of a chunk."""
    said = message("notifications/progress", {"progressToken": 1, "progress": 1, "message": "x" * 48_000}, id=None)
    body = json.dumps(said).encode()
    _, path = split(gateway.url("s"))
    fields = {"Host": f"127.0.0.1:{port}", **headers_of("handshake", said, gateway.token)}
    if framing == "chunks":
        parts = [body[n : n + 4096] for n in range(0, len(body), 4096)]
        raw = b"".join(b"%04x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        fields["Transfer-Encoding"] = "chunked"
    else:
        raw = body
        fields["Content-Length"] = str(len(body))
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
    stop = {"head": len(head) // 2, "body": len(head) + 20_000, "chunks": len(head) + 3 * (4096 + 8) + 2}[framing]
    return head.encode() + raw, stop


@pytest.mark.parametrize("kind", ["health", "head", "body", "chunks"])
async def test_pipelined_requests(gateway_of, raw, kind):
    """However many come, each send ending in the middle of one, the connection keeps nothing of those before."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake"}
    gateway = gateway_of({"s": entry}, log_level="info", options={"logEnabled": False})
    gateway.wait_until_ready()
    one, stop = health(gateway.port) if kind == "health" else posted(kind, gateway, gateway.port)
    expected = 200 if kind == "health" else 202
    some = max(1, (56 << 10) // len(one))
    async with await Wire.open(gateway.port) as wire:
        await wire.send(one[:stop])
        growth = Growth(gateway, MOST)
        for sent in range(0, TOTAL, some * len(one)):
            await wire.send(one[stop:] + one * (some - 1) + one[:stop])
            for _ in range(some):
                answer = await wire.rest(await wire.head())
                assert answer.status == expected, (answer.status, answer.body)
            wire.seen.clear()
            if sent % MEGABYTE < some * len(one):
                growth.check(f"after {sent // MEGABYTE} MiB")


async def test_requests_without_a_pause(gateway_of, raw):
    """The same of a caller that sends without waiting, as fast as it is read, while it takes the answers."""
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake"}}, log_level="info")
    gateway.wait_until_ready()
    one, _ = health(gateway.port)
    growth = Growth(gateway, MOST)
    async with await Wire.open(gateway.port) as wire:

        async def read():
            while await wire.reader.read(65536):
                pass

        reading = asyncio.create_task(read())
        stream = one * 16
        for sent in range(0, TOTAL, 60_001):
            at = sent % len(one)
            await wire.send(stream[at : at + 60_001])
            growth.check(f"after {sent // MEGABYTE} MiB")
            assert not reading.done(), "the connection goes on"
        reading.cancel()


HALVES = {
    "head": (b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-", b""),
    "body": (b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n", b"Content-Length: 100\r\n\r\n{"),
    "chunks": (b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"),
}


@pytest.mark.parametrize("half", HALVES)
async def test_half_a_request_holds_no_stop_up(gateway_of, raw, half):
    """After SIGTERM nobody waits for the rest of a request that may never come."""
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake"}})
    gateway.wait_until_ready()
    _, path = split(gateway.url("s"))
    start, rest = HALVES[half]
    more = b"" if half == "head" else b"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    async with await Wire.open(gateway.port) as wire, await Wire.open(gateway.port) as witness:
        await wire.send(start % (path.encode(), gateway.token.encode()) + more + rest)
        assert (await witness.exchange("GET", "/_healthz", {})).status == 200, "by now it has read the half"
        took = await asyncio.to_thread(gateway.stop)
        assert took < SOON, f"{took:.1f} s to stop"
