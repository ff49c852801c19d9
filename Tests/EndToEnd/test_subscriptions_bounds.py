# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What a session that callers share keeps of their subscriptions: so many, so large, and never at the others' cost."""

import asyncio
import itertools
import json
import time

import pytest
from harness.callers import Caller, works
from harness.children import FaultChild
from harness.errors import CODES, gateway_reply
from harness.memory import MEGABYTE
from harness.wire import Wire, message, split

pytestmark = pytest.mark.gateway_only

MOST = 1_000
"""Subscriptions of one session."""
MOST_BYTES = MEGABYTE
"""Bytes of their URIs."""
KINDS = ["http", "stdio"]
LOOKS_WITHIN = 0.5
OVERLOADED = CODES["overloaded"][0]


@pytest.fixture
def child(tmp_path):
    made = FaultChild(tmp_path, "ok")
    # Its journal would be the slowest of all.
    made.entry["args"][-1] = ""
    yield made
    made.sweep()


@pytest.fixture
def gateway(gateway_of, raw, child):
    url = f"http://127.0.0.1:{raw.port}/sessions"
    http = {"url": url, "protocol": "handshake", "options": {"isolation": "shared"}}
    options = {"pingInterval": 0, "logEnabled": False}
    started = gateway_of({"http": http, "stdio": child.entry}, log_level="info", options=options)
    started.wait_until_ready()
    return started


class Subscriber:
    """Subscribes for a caller, over a few connections that it keeps."""

    def __init__(self, caller, wires):
        self.caller = caller
        self.wires = wires
        self.ids = itertools.count(100)

    @classmethod
    async def open(cls, caller, count=4):
        port, _ = split(caller.url)
        return cls(caller, [await Wire.open(port) for _ in range(count)])

    async def subscribe(self, uris, method="resources/subscribe"):
        """The replies, in the order of the URIs."""
        path = split(self.caller.url)[1]
        replies = {}
        waiting = iter(list(uris))

        async def over(wire):
            for uri in waiting:
                body = message(method, {"uri": uri}, id=next(self.ids))
                answer = await wire.exchange("POST", path, self.caller.fields(body), json.dumps(body).encode())
                replies[uri] = answer.reply(body["id"])

        await asyncio.gather(*(over(wire) for wire in self.wires))
        return replies

    def close(self):
        for wire in self.wires:
            wire.abort()


class Watch:
    """Asks whether the gateway lives, again and again, and keeps how long the slowest answer took.

    How late we were ourselves, at most, is not the gateway's.
    """

    PAUSE = 0.02

    def __init__(self, gateway):
        self.gateway = gateway
        self.slowest = 0.0
        self.latest = 0.0
        self.task = asyncio.create_task(self.look())

    async def look(self):
        async with await Wire.open(self.gateway.port) as wire:
            while True:
                began = time.monotonic()
                assert (await wire.exchange("GET", "/_healthz", {})).status == 200
                answered = time.monotonic()
                self.slowest = max(self.slowest, answered - began)
                await asyncio.sleep(self.PAUSE)
                self.latest = max(self.latest, time.monotonic() - answered - self.PAUSE)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *failure):
        self.task.cancel()
        if failure[0] is None:
            bound = LOOKS_WITHIN + self.latest
            assert self.slowest < bound, f"{self.slowest:.2f} s for /_healthz, where we were {self.latest:.2f} s late ourselves"


def refused(replies, kind):
    """Those of the replies that are errors; each must be the gateway's own, and say that there is no more room."""
    errors = [reply for reply in replies.values() if "error" in reply]
    for error in errors:
        assert error["error"]["code"] == OVERLOADED, error
        gateway_reply(error, kind, {"overloaded"}, {"no"})
    return len(errors)


@pytest.mark.parametrize("kind", KINDS)
async def test_most_subscriptions(gateway, kind):
    """A session has so many and no more; one that it gives back can be had again, and leaving takes no time."""
    caller, other = await Caller.open(gateway, kind), await Caller.open(gateway, kind)
    subscriber = await Subscriber.open(caller)
    async with Watch(gateway):
        uris = [f"memo://many/{n}" for n in range(MOST + 50)]
        replies = await subscriber.subscribe(uris)
        assert refused(replies, kind) == 50
        kept = [uri for uri in uris if "result" in replies[uri]]
        assert not refused(await subscriber.subscribe(kept[:20]), kind), "again what it has already"
        assert not refused(await subscriber.subscribe(kept[:20], "resources/unsubscribe"), kind)
        more = await subscriber.subscribe([f"memo://more/{n}" for n in range(30)])
        assert refused(more, kind) == 10, "what it gave back it may have again"
        theirs = await Subscriber.open(other, 1)
        assert not refused(await theirs.subscribe(["memo://theirs"]), kind), "the bound is the session's own"
        began = time.monotonic()
        assert await caller.delete() == 204
        await works(other, 1)
        assert time.monotonic() - began < 1
    subscriber.close()
    theirs.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_most_bytes_of_subscriptions(gateway, kind):
    """However long the URIs, a session has 1 MiB of them, and a hundred of 1 MB cost nothing."""
    caller, other = await Caller.open(gateway, kind), await Caller.open(gateway, kind)
    subscriber = await Subscriber.open(caller, 2)
    long = await subscriber.subscribe([f"memo://long/{n}/".ljust(100_000, "x") for n in range(15)])
    assert refused(long, kind) == 5, "ten of 100 kB have room"
    before = gateway.child.forget_peak()
    async with Watch(gateway):
        for n in range(50):
            replies = await subscriber.subscribe([f"memo://vast/{n}/".ljust(2_000_000, "x")])
            assert gateway.child.rss() - before < 40 * MEGABYTE, f"after {n + 1} of 2 MB"
            assert refused(replies, kind) == 1, f"{n + 1} of 2 MB"
        began = time.monotonic()
        assert await caller.delete() == 204
        assert time.monotonic() - began < 1
        await works(other, 1)
    subscriber.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_subscriptions_of_many_sessions(gateway, kind):
    """Sessions that each take what they may hold up nobody, neither while they do nor when they leave together."""
    callers = [await Caller.open(gateway, kind) for _ in range(6)]
    other = await Caller.open(gateway, kind)
    subscribers = [await Subscriber.open(caller, 1) for caller in callers]
    async with Watch(gateway):

        async def take(n):
            await subscribers[n].subscribe(f"memo://{n}/{m}/".ljust(1000, "x") for m in range(400))

        await asyncio.gather(*(take(n) for n in range(len(callers))))
        began = time.monotonic()
        assert await asyncio.gather(*(caller.delete() for caller in callers)) == [204] * len(callers)
        assert time.monotonic() - began < 1
        await works(other, 1)
    for subscriber in subscribers:
        subscriber.close()
