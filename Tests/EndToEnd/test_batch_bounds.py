# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A batch is one request: what is held of its answers is bounded as for one, however many it asks for."""

import asyncio
import json

import pytest
from harness.bounds import MEGABYTE, Growth, comes_to_rest
from harness.callers import Caller, call_of, text_of
from harness.wire import message

pytestmark = pytest.mark.gateway_only

ELEMENTS = 50
KINDS = ["stdio", "http"]


@pytest.fixture
def start(gateway_of, raw, child):
    """A gateway before a program and an upstream whose answers have this size."""

    def make(size, bound):
        http = {"url": f"http://127.0.0.1:{raw.port}/fast?bytes={size}", "protocol": "handshake"}
        limits = {"responseBufferBytes": bound}
        gateway = gateway_of({"stdio": child.entry, "http": http}, options={"pingInterval": 0}, limits=limits, log_level="info")
        gateway.wait_until_ready()
        return gateway

    return make


def replies_of(answer):
    """What each id was answered, whether it came in an array or as events."""
    found = [m for part in answer.messages() for m in (part if isinstance(part, list) else [part])]
    replies = {m["id"]: m for m in found if "method" not in m}
    assert len(replies) == len(found), "each is answered once"
    return replies


def batch_of(size):
    return [call_of("large", {"bytes": size}, id=id) for id in range(ELEMENTS)]


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_that_fit_one_by_one_but_not_together(start, kind):
    """Within `responseBufferBytes` they are given; the rest are errors, each with its id, and the batch is answered."""
    size = 200_000
    gateway = start(size, "1MiB")
    caller = await Caller.open(gateway, kind, version="2025-03-26")
    answer = await caller.post(batch_of(size))
    assert answer.status == 200, (answer.status, answer.body[:500])
    replies = replies_of(answer)
    assert replies.keys() == set(range(ELEMENTS))
    whole = [reply for reply in replies.values() if "result" in reply]
    assert 1 <= len(whole) <= 5 and len(answer.body) < MEGABYTE + ELEMENTS * 1000, (len(whole), len(answer.body))
    assert all(len(text_of(reply)) == size for reply in whole)
    for reply in replies.values():
        if "error" in reply:
            assert reply["error"]["data"]["gateway"] is True and reply["error"]["data"]["executed"] != "no", reply
    await comes_to_rest(gateway)
    assert "result" in (await caller.post(message("ping", id=100))).reply(100)


@pytest.mark.parametrize("kind", KINDS)
async def test_answers_that_fit(start, kind):
    """A batch within the bound is whole."""
    gateway = start(10_000, "1MiB")
    caller = await Caller.open(gateway, kind, version="2025-03-26")
    replies = replies_of(await caller.post(batch_of(10_000)))
    assert replies.keys() == set(range(ELEMENTS))
    assert all(len(text_of(reply)) == 10_000 for reply in replies.values())


@pytest.mark.parametrize("kind", KINDS)
async def test_memory_of_large_batches(start, kind):
    """With answers of 15 MB and the usual bound a batch costs what one answer costs."""
    gateway = start(15_000_000, "16MiB")
    caller = await Caller.open(gateway, kind, version="2025-03-26")
    growth = Growth(gateway, 80)
    wire = await caller.send(json.dumps(batch_of(15_000_000)[:20]).encode())
    async with wire:
        head = asyncio.create_task(wire.head())
        while not head.done():
            await growth.stays(0.2)
        assert (await head).status == 200
        growth.check("when the answer came")
    await comes_to_rest(gateway, 20)
