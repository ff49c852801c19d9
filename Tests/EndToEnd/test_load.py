# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Many connections at once, and an end in the middle of work."""

import asyncio
import json
import signal
import time

import pytest
from harness.processes import until
from harness.wire import Wire, headers_of, message, split

CONNECTIONS = 1000
CALLS_EACH = 5


def call_of(era, id):
    return message("tools/call", {"name": "x", "arguments": {"nonce": f"nonce-{id}"}}, id=id, era=era)


def nonce_of(answer, id):
    return json.loads(answer.reply(id)["result"]["content"][0]["text"])["nonce"]


@pytest.mark.deadline(120)
async def test_thousand_connections(gateway_of, raw):
    """1000 keep-alive connections at once: every call has its own answer, and no connection is closed."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake"}
    gateway = gateway_of({"fast": entry}, log_level="info", options={"logEnabled": False})
    port, path = split(gateway.url("fast"))
    everybody = asyncio.Barrier(CONNECTIONS)

    async def connection(n):
        async with await Wire.open(port) as wire:
            for k in range(CALLS_EACH):
                await everybody.wait()
                id = n * CALLS_EACH + k
                body = call_of("handshake", id)
                fields = headers_of("handshake", body, gateway.token)
                answer = await wire.exchange("POST", path, fields, json.dumps(body).encode())
                assert answer.status == 200 and nonce_of(answer, id) == f"nonce-{id}"
                assert answer.header("connection") != "close"

    await asyncio.gather(*(connection(n) for n in range(CONNECTIONS)))
    await asyncio.to_thread(gateway.settle)


@pytest.mark.parametrize("era", ["handshake", "stateless"])
async def test_graceful_stop(gateway_of, raw, era):
    """SIGTERM under load: every request that was taken is answered whole, what runs is finished, and it exits with 0."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/fast?ms=300", "protocol": era}
    gateway = gateway_of({"fast": entry}, log_level="info")
    port, path = split(gateway.url("fast"))
    results, refused, unanswered = [], [], []
    stopping = asyncio.Event()

    async def caller(n):
        count = 0
        while True:
            try:
                wire = await Wire.open(port)
            except ConnectionError:
                return  # it no longer listens
            async with wire:
                while True:
                    id = n * 1000 + count
                    count += 1
                    body = call_of(era, id)
                    try:
                        await wire.request("POST", path, headers_of(era, body, gateway.token), json.dumps(body).encode())
                        answer = await wire.head()
                    except (asyncio.IncompleteReadError, ConnectionError):
                        # An idle connection may be closed under a request that crosses with it on the way.
                        unanswered.append(id)
                        break
                    await wire.rest(answer)
                    assert not answer.cut, "an answer was cut"
                    reply = answer.reply(id)
                    if "result" in reply:
                        assert nonce_of(answer, id) == f"nonce-{id}"
                        results.append(id)
                    else:
                        assert reply["error"]["data"]["reason"] == "overloaded", reply
                        assert reply["error"]["data"]["executed"] == "no", reply
                        refused.append(id)
                    if answer.header("connection") == "close" or stopping.is_set():
                        break
            if stopping.is_set():
                return

    async def stop():
        await until("work is done", lambda: len(results) > 100)
        stopping.set()
        gateway.child.process.send_signal(signal.SIGTERM)

    await asyncio.gather(stop(), *(caller(n) for n in range(50)))
    took = await asyncio.to_thread(gateway.stop, was_told=True)
    assert took < 10, took
    entries = raw.control("/control/journal")["entries"]
    executed = {e["id"] for e in entries if e["executed"] and e["rpc"] == "tools/call"}
    assert executed == set(results), "executed and answered are the same calls"
    assert not set(unanswered) & executed, "a request without an answer never ran"


async def test_streams_end_at_the_stop(gateway_of, raw):
    """Standing streams end properly, at once; the process does not wait for them."""
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{raw.port}/listen", "protocol": "stateless"}})
    port, path = split(gateway.url("s"))
    body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, era="stateless")
    async with await Wire.open(port, gateway.seen) as wire:
        await wire.request("POST", path, headers_of("stateless", body, gateway.token), json.dumps(body).encode())
        answer = await wire.head()
        assert answer.status == 200
        began = time.monotonic()
        gateway.child.process.send_signal(signal.SIGTERM)
        await wire.rest(answer, 10)
        assert time.monotonic() - began < 5
        assert not answer.cut
    await asyncio.to_thread(gateway.stop, was_told=True)


async def test_second_signal(gateway_of, raw):
    """A second SIGTERM does not wait for anybody: it ends at once with 1."""
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{raw.port}/fast?ms=20000", "protocol": "handshake"}})
    port, path = split(gateway.url("s"))
    body = call_of("handshake", 1)
    async with await Wire.open(port) as wire:
        await wire.request("POST", path, headers_of("handshake", body, gateway.token), json.dumps(body).encode())
        await until("the call runs", lambda: raw.control("/control/journal")["entries"])
        gateway.child.process.send_signal(signal.SIGTERM)
        await until("it no longer listens", lambda: not listens(port))
        assert gateway.child.process.poll() is None, "it waits for the call"
        began = time.monotonic()
        await asyncio.to_thread(gateway.stop, 1)
        assert time.monotonic() - began < 2


def listens(port):
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
