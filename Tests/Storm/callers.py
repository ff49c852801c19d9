# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The callers of the storm. Each does everything that its own random numbers say, and checks what it gets."""

import asyncio
import collections
import contextlib
import json
import random
import time
from dataclasses import dataclass
from typing import Any, Awaitable

from . import plans
from .connection import Connection, Cut, Head, Shared, Unreadable, request
from .ledger import LARGE, Call, Ledger, nonce

WITHIN = 20
"""Seconds in which a call is answered whose upstream has TIMEOUT, whatever happens meanwhile."""
TIMEOUT = 3
SLOW_READER = 2
BORROWERS = 10_000
"""What is added to the number of a caller for that of who uses its connection."""
REPLAYED = 100_000
"""Bytes of an answer that its caller can surely get again; documented are 256 KiB of all that is on its stream."""
EXPIRES = 60
"""Seconds in which a stream can be taken up again."""
STATELESS = "2026-07-28"
GONE = (Cut, OSError)
CLIENT = {"name": "storm", "version": "1"}


@dataclass
class World:
    """What all callers share."""

    port: int
    ledger: Ledger
    shared: Shared
    seed: int
    tokens: list[str]
    servers: dict[str, str]
    """The kind of plan for each server that speaks the handshake: http, child or sse; with a dash, `calm` or `wild`."""
    ends: float = 0
    """When nothing new is begun any more."""
    goes_on: bool = True
    """Whether anything new is begun."""
    is_over: bool = False
    """Whether what is under way is broken off."""


class Actor:
    """One caller; `number` and the seed decide what it does."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self.world = world
        self.ledger = world.ledger
        self.reseed(world.seed)
        self.token = self.random.choice(world.tokens)
        self._steps: collections.deque[str] = collections.deque(maxlen=14)
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls: dict[tuple[type, Any], Call] = {}
        self.waiting: dict[int, asyncio.Future[None]] = {}
        self.connections: set[Connection] = set()
        """Those that it uses now."""
        self._last_id = 0
        self.over = False
        """Its session has ended, so that answers of what is under way may be missing."""

    def reseed(self, seed: int) -> None:
        self.random = random.Random(f"{seed} {self.number}")

    def __str__(self) -> str:
        return f"actor {self.number} ({type(self).__name__})"

    def step(self, text: str) -> None:
        self._steps.append(f"{time.monotonic() - self.ledger.began:.2f} {text}")

    def last_steps(self) -> str:
        return f"{self}: " + " | ".join(self._steps)

    async def run(self) -> None:
        """One life after another until the storm is over."""
        while self.world.goes_on:
            self.over = False
            try:
                await self.life()
            except (*GONE, TimeoutError) as error:
                self.ledger.counts["lives cut"] += 1
                self.step(f"life cut: {error!r}")
                await asyncio.sleep(0.1)
            except Unreadable as error:
                self.ledger.find("unreadable", self, str(error))
            finally:
                await self.end_life()
            await asyncio.sleep(self.random.random() * 0.1)

    async def life(self) -> None:
        raise NotImplementedError

    async def end_life(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.connections):
            connection.leave(self.random.choice(["fin", "rst"]))
        for call in list(self.calls.values()):
            if not call.ended:
                self.ledger.end(call, "the caller's life ended")
        self.calls.clear()
        self.waiting.clear()

    def spawn(self, coroutine: Awaitable[None]) -> asyncio.Task[None]:
        async def run() -> None:
            with contextlib.suppress(*GONE, TimeoutError):
                await coroutine

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def together(self, strands: list[Awaitable[None]]) -> None:
        """All of them, to the end of this life at most."""
        tasks = [asyncio.ensure_future(strand) for strand in strands]
        self._tasks.update(tasks)
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.difference_update(tasks)

    def next_id(self) -> Any:
        self._last_id += 1
        return self._last_id if self.random.random() < 0.7 else f"id-{self._last_id}"

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # Messages.

    def make(self, server: str, kind: str, **more: Any) -> Call:
        kind, _, mood = kind.partition("-")
        plan = {**plans.make(self.random, kind, mood != "calm"), **more}
        call = self.ledger.make(self.next_id(), self, server, plan)
        self.calls[type(call.id), call.id] = call
        return call

    def message(self, call: Call) -> dict[str, Any]:
        params = {
            "name": "run",
            "arguments": {"nonce": call.nonce, "plan": call.plan},
            "_meta": {"progressToken": call.nonce} if call.plan.get("progress") or self.chance(0.3) else {},
        }
        if self.chance(0.01):
            params["arguments"]["pad"] = "p" * self.random.choice([10_000, 200_000, 1_000_000])
        return {"jsonrpc": "2.0", "id": call.id, "method": "tools/call", "params": params}

    def heard(self, data: bytes, event_id: str, current: Call | None, where: str) -> None:
        """Takes what came as one event or one body."""
        loose = current is not None and current.is_loose
        try:
            said = json.loads(data)
        except ValueError:
            if not loose:
                self.ledger.find("garbage", self, f"{where}: {data[:300]!r} for {current}")
            elif not current.answers:
                current.answers.append({"garbage": True})
            return
        for message in said if isinstance(said, list) else [said]:
            self.heard_one(message, event_id, current, where)

    def heard_one(self, message: Any, event_id: str, current: Call | None, where: str) -> None:
        if "method" in message:
            self.ledger.counts["questions" if "id" in message else "notifications"] += 1
            if "id" in message:
                self.asked(message)
            return
        id = message.get("id")
        call = self.calls.get((type(id), id)) if id is not None else current
        if call is None:
            return self.ledger.find("unasked", self, f"an answer to {id!r} {where}: {str(message)[:300]}")
        if event_id and event_id in call.event_ids:
            return  # taken up again from before it
        call.event_ids.add(event_id)
        if call.answers:
            return self.ledger.find("answered twice", self, f"{where}: {str(message)[:500]} for {call} {call.answers}")
        if "result" in message:
            text = message["result"].get("content", [{}])[0].get("text", "")
            if call.nonce not in text:
                self.ledger.find("wrong answer", self, f"{where}: {str(message)[:300]} for {call}")
            call.answers.append({"result": True})
        else:
            call.answers.append(message)
        waiting = self.waiting.pop(call.number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def asked(self, message: dict[str, Any]) -> None:
        pass

    def finish(self, call: Call, otherwise: str = "", excused: bool = False, connection: Connection | None = None) -> None:
        """Ends a call; without an answer it is a finding, unless it is excused."""
        if call.ended:
            return
        if not call.answers:
            if not excused and call.way == "stays" and not self.over and not self.world.is_over:
                kind = "stream ended" if isinstance(self, Old) else "no answer"
                self.ledger.find(kind, self, f"{otherwise or 'ended without one'}: {call} on {connection}")
            return self.ledger.end(call, otherwise or "ended without an answer")
        said = call.answers[0]
        self.ledger.counts["answered"] += 1
        if "error" not in said:
            if "result" in said:
                self.ledger.took(call)
            return self.ledger.end(call, "result" if "result" in said else "garbage")
        data = said["error"].get("data") or {}
        if isinstance(data, dict) and data.get("gateway"):
            self.ledger.took(call)
            return self.ledger.end(call, data["reason"], data["executed"])
        self.ledger.end(call, f"error {said['error'].get('code')}")

    async def receive(self, connection: Connection, call: Call, excused: bool = False) -> Head | None:
        """Reads the one response that belongs to a call, whole; gives its head if the connection can be used again."""
        excused = excused or call.is_loose
        try:
            async with asyncio.timeout(WITHIN):
                head = await connection.head()
                await self.read(connection, head, call)
        except TimeoutError:
            if call.way == "stops reading":
                excused = True  # what it let shrink is slow for ever
            elif not call.answers and not self.over:
                self.ledger.find("no answer", self, f"nothing for {WITHIN} s: {call} on {connection}")
                excused = True
            elif not excused:
                self.ledger.find("no end", self, f"the response does not end for {WITHIN} s: {call} on {connection}")
            self.finish(call, "timeout", excused)
            connection.leave("rst")
            return None
        except GONE as error:
            # A long answer that has begun can only be cut when its time is over.
            excused = excused or call.plan.get("size", 0) > LARGE and time.monotonic() - call.sent > 0.9 * TIMEOUT
            self.finish(call, f"cut: {error}", excused, connection)
            connection.leave("fin")
            return None
        self.finish(call, f"HTTP {head.status}" if head.status != 200 else "", excused or head.status >= 400, connection)
        if head.status == 404:
            self.over = True
        if head.closes:
            connection.leave("fin")
            return None
        return head

    async def read(self, connection: Connection, head: Head, call: Call | None) -> None:
        """A response from its head on, to its end."""
        where = f"in a {head.status} {head.fields.get('content-type', '')}"
        if head.is_stream:
            async for id, _, data in connection.events(head):
                if data:
                    self.heard(data, id, call, where)
        else:
            data = await connection.whole(head)
            if data and head.status == 200:
                self.heard(data, "", call, where)
            elif data and call is not None and head.status >= 400:
                with contextlib.suppress(ValueError):
                    said = json.loads(data)
                    if isinstance(said, dict) and said.get("id") is not None and "error" in said:
                        self.heard_one(said, "", call, where)


class HTTPCaller(Actor):
    """What callers of both eras do over streamable HTTP."""

    server = ""
    kind = "http"

    def fields(self, body: Any) -> dict[str, str]:
        raise NotImplementedError

    @property
    def path(self) -> str:
        return f"/{self.server}/mcp"

    def request(self, body: Any, method: str = "POST", more: dict[str, str] | None = None) -> bytes:
        return request(method, self.path, self.world.port, {**self.fields(body), **(more or {})}, body)

    async def connect(self) -> Connection:
        return await self.world.shared.take(self, self.chance(0.7))

    async def launch(self, call: Call, connection: Connection | None = None) -> Connection:
        connection = connection or await self.connect()
        self.step(f"calls {call.nonce} {call.plan} {call.way} on {connection}")
        self.ledger.launched(call)
        await connection.send(self.request(self.message(call)))
        return connection

    async def finish_on(self, connection: Connection, call: Call, excused: bool = False) -> None:
        if await self.receive(connection, call, excused):
            self.world.shared.give(connection)

    # What it can do.

    async def stays(self) -> None:
        call = self.make(self.server, self.kind)
        await self.finish_on(await self.launch(call), call)

    async def pipelines(self) -> None:
        calls = [self.make(self.server, self.kind) for _ in range(self.random.randint(2, 5))]
        connection = await self.connect()
        whole = b""
        for call in calls:
            self.step(f"pipelines {call.nonce} {call.plan} on {connection}")
            self.ledger.launched(call)
            whole += self.request(self.message(call))
        leaves = self.chance(0.25)
        if leaves:
            for call in calls:
                call.way = "pipelined, leaves"
        await connection.send(whole)
        if leaves:
            await asyncio.sleep(self.random.random() * 0.3)
            connection.leave(self.random.choice(["fin", "rst"]))
            for call in calls:
                self.ledger.end(call, "left")
            return
        # What comes before it may break the connection, and then there is nothing to be read for the rest.
        for n, call in enumerate(calls):
            if not await self.receive(connection, call):
                for other in calls[n + 1 :]:
                    other.way = "pipelined behind a cut"
                    self.ledger.end(other, "pipelined behind a cut")
                return
        self.world.shared.give(connection)

    async def leaves(self) -> None:
        """Goes away at any point of the exchange."""
        point = self.random.choice(["mid-head", "mid-body", "sent", "sent", "first bytes", "mid-stream"])
        how = self.random.choice(["fin", "rst"])
        call = self.make(self.server, self.kind)
        call.way = f"leaves {point} {how}"
        connection = await self.connect()
        data = self.request(self.message(call))
        end = data.index(b"\r\n\r\n") + 4
        cuts = {"mid-head": self.random.randrange(1, end), "mid-body": self.random.randrange(end, len(data))}
        self.step(f"calls {call.nonce} {call.plan} {call.way} on {connection}")
        self.ledger.launched(call)
        try:
            await connection.send(data[: cuts.get(point, len(data))])
            async with asyncio.timeout(WITHIN):
                if point in ("first bytes", "mid-stream"):
                    head = await connection.head()
                    if point == "mid-stream":
                        wanted = self.random.randint(1, 3)
                        async for _ in connection.body(head):
                            wanted -= 1
                            if not wanted:
                                break
                else:
                    await asyncio.sleep(self.random.choice([0, 0, self.random.random() * 0.4]))
        except (*GONE, TimeoutError):
            pass
        connection.leave(how)
        self.ledger.end(call, "left")

    async def half_closes(self) -> None:
        call = self.make(self.server, self.kind)
        connection = await self.launch(call)
        connection.half_close()
        await self.receive(connection, call)
        connection.leave("fin")

    async def reads_slowly(self) -> None:
        call = self.make(self.server, self.kind, size=self.random.choice([100_000, 600_000]))
        connection = await self.launch(call)

        async def stutter() -> None:
            for _ in range(20):
                connection.stop()
                await asyncio.sleep(self.random.random() * 0.15)
                connection.go_on()
                await asyncio.sleep(0.01)

        stutters = self.spawn(stutter())
        reusable = await self.receive(connection, call)
        stutters.cancel()
        await asyncio.gather(stutters, return_exceptions=True)
        if reusable:
            connection.go_on()
            self.world.shared.give(connection)

    async def stops_reading(self) -> None:
        call = self.make(self.server, self.kind, size=2_000_000)
        call.way = "stops reading"
        connection = await self.launch(call, await Connection.open(self.world.port, self.ledger, self))
        connection.stop(shrink=True)
        await asyncio.sleep(self.random.choice([0.5, SLOW_READER + 1.5]))
        if self.chance(0.5):
            connection.go_on()
            await self.receive(connection, call)
        connection.leave(self.random.choice(["fin", "rst"]))
        self.ledger.end(call, "left")


class Stateless(HTTPCaller):
    """A caller of 2026-07-28."""

    server = "stateless"

    def fields(self, body: Any) -> dict[str, str]:
        fields = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": STATELESS,
            "Mcp-Method": body["method"],
        }
        if body["method"] == "tools/call":
            fields["Mcp-Name"] = body["params"]["name"]
        return fields

    def message(self, call: Call) -> dict[str, Any]:
        message = super().message(call)
        meta = message["params"]["_meta"]
        meta["io.modelcontextprotocol/protocolVersion"] = STATELESS
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
        return message

    async def life(self) -> None:
        for _ in range(self.random.randint(3, 15)):
            if not self.world.goes_on:
                return
            await self.random.choices(
                [self.stays, self.pipelines, self.leaves, self.reads_slowly, self.stops_reading, self.listens],
                [60, 6, 15, 3, 0.4, 3],
            )[0]()

    async def listens(self) -> None:
        meta = {"io.modelcontextprotocol/protocolVersion": STATELESS, "io.modelcontextprotocol/clientCapabilities": {}}
        params = {"_meta": meta, "notifications": {"toolsListChanged": True}}
        body = {"jsonrpc": "2.0", "id": self.next_id(), "method": "subscriptions/listen", "params": params}
        connection = await self.connect()
        self.step(f"listens on {connection}")
        await connection.send(self.request(body))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.random.random() * 2):
                head = await connection.head()
                async for _ in connection.body(head):
                    pass
        connection.leave(self.random.choice(["fin", "rst"]))


class Handshake(HTTPCaller):
    """A caller with a session, over streamable HTTP."""

    session = ""
    version = ""

    def fields(self, body: Any) -> dict[str, str]:
        fields = {"Authorization": f"Bearer {self.token}", "Accept": "application/json, text/event-stream"}
        if self.session:
            fields["Mcp-Session-Id"] = self.session
        if not isinstance(body, dict) or body.get("method") != "initialize":
            fields["MCP-Protocol-Version"] = self.version
        return fields

    async def life(self) -> None:
        self.server = self.random.choice(list(self.world.servers))
        self.kind = self.world.servers[self.server]
        self.version = self.random.choice(["2025-03-26", "2025-06-18", "2025-11-25", "2025-11-25"])
        self.session = ""
        if not await self.opens():
            return await asyncio.sleep(0.1)
        stream = self.spawn(self.streams()) if self.session and self.chance(0.6) else None
        strands = self.random.choice([1, 1, 2, 3])
        await self.together([self.strand() for _ in range(strands)])
        if self.session and not self.over and self.chance(0.4):
            await self.deletes()
        elif self.chance(0.2):
            await asyncio.sleep(self.random.random())
        if stream is not None:
            stream.cancel()

    async def opens(self) -> bool:
        """`initialize`; now and then its caller leaves."""
        capabilities = {"elicitation": {}} if self.chance(0.7) else {}
        params = {"protocolVersion": self.version, "capabilities": capabilities, "clientInfo": CLIENT}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        self.step(f"initialize {self.version} at {self.server}")
        connection = await self.connect()
        await connection.send(self.request(body))
        if self.chance(0.04):
            await asyncio.sleep(self.random.random() * 0.1)
            connection.leave(self.random.choice(["fin", "rst"]))
            self.ledger.counts["initialize left"] += 1
            return False
        try:
            async with asyncio.timeout(WITHIN):
                head = await connection.head()
                data = await connection.whole(head)
        except TimeoutError:
            self.ledger.find("no answer", self, f"initialize at {self.server} for {WITHIN} s")
            connection.leave("rst")
            return False
        if head.is_stream:
            data = b"".join(line[5:] for line in data.splitlines() if line.startswith(b"data:"))
        if not head.closes:
            self.world.shared.give(connection)
        if head.status != 200 or b'"result"' not in data:
            self.ledger.counts[f"initialize refused, {head.status}"] += 1
            return False
        self.session = head.fields.get("mcp-session-id", "")
        self.ledger.counts["sessions"] += 1
        return await self.posts({"jsonrpc": "2.0", "method": "notifications/initialized"}) == 202

    async def posts(self, body: Any) -> int:
        """A message that gets no answer but a status."""
        connection = await self.connect()
        await connection.send(self.request(body))
        async with asyncio.timeout(WITHIN):
            head = await connection.head()
            await connection.whole(head)
        if not head.closes:
            self.world.shared.give(connection)
        return head.status

    async def strand(self) -> None:
        ways: list[tuple[Any, float]] = [
            (self.stays, 60),
            (self.pipelines, 6),
            (self.leaves, 14),
            (self.half_closes, 4),
            (self.reads_slowly, 2),
            (self.stops_reading, 0.4),
            (self.cancels, 5),
        ]
        if self.session:
            ways += [(self.takes_over, 8), (self.subscribes, 3), (self.deletes_in_the_middle, 1)]
        if self.version == "2025-03-26":
            ways.append((self.batches, 15))
        for _ in range(self.random.randint(2, 12)):
            if self.over or not self.world.goes_on:
                return
            await self.random.choices([way for way, _ in ways], [share for _, share in ways])[0]()
            if self.chance(0.3):
                await asyncio.sleep(self.random.random() * 0.05)

    def asked(self, message: dict[str, Any]) -> None:
        if self.chance(0.85):
            content = {"action": "accept", "content": {"nonce": message.get("params", {}).get("message", "")}}
            self.spawn(self.answers({"jsonrpc": "2.0", "id": message["id"], "result": content}))

    async def answers(self, body: dict[str, Any]) -> None:
        await self.posts(body)

    async def streams(self) -> None:
        """A GET stream that is left and opened again, from the last event on."""
        last = ""
        while not self.over and self.world.goes_on:
            connection = await self.connect()
            more = {"Last-Event-ID": last} if last and self.chance(0.8) else {}
            fields = {**self.fields(None), "Accept": "text/event-stream", **more}
            self.step(f"GET {more} on {connection}")
            try:
                await connection.send(request("GET", self.path, self.world.port, fields))
                async with asyncio.timeout(self.random.expovariate(0.7) + 0.001):
                    head = await connection.head()
                    if head.status != 200:
                        await connection.whole(head)
                        self.world.shared.give(connection)
                        self.over = self.over or head.status == 404
                        return
                    async for id, _, data in connection.events(head):
                        last = id or last
                        if data:
                            self.heard(data, id, None, "on the GET stream")
                self.world.shared.give(connection)
            except TimeoutError:
                if self.chance(0.7):
                    connection.leave(self.random.choice(["fin", "rst"]))
                else:
                    # The next GET takes it over while this one lives.
                    self.spawn(self.lingers(connection))
            except asyncio.CancelledError:
                connection.leave(self.random.choice(["fin", "rst"]))
                raise
            except GONE:
                pass
            await asyncio.sleep(self.random.random() * 0.2)

    async def lingers(self, connection: Connection) -> None:
        try:
            await asyncio.sleep(self.random.random() * 2)
        finally:
            connection.leave(self.random.choice(["fin", "rst"]))

    async def cancels(self) -> None:
        call = self.make(self.server, self.kind, delay=self.random.random() * 2)
        call.way = "cancels"
        connection = await self.launch(call)
        await asyncio.sleep(self.random.random() * 0.5)
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call.id, "reason": call.nonce}}
        self.step(f"cancels {call.nonce}")
        await self.posts(body)
        await self.finish_on(connection, call)

    async def deletes(self) -> None:
        connection = await self.connect()
        self.step("DELETE")
        await connection.send(request("DELETE", self.path, self.world.port, self.fields(None)))
        async with asyncio.timeout(WITHIN):
            head = await connection.head()
            await connection.whole(head)
        if not head.closes:
            self.world.shared.give(connection)
        self.over = True

    async def deletes_in_the_middle(self) -> None:
        call = self.make(self.server, self.kind, delay=self.random.random() * 2)
        call.way = "deletes"
        connection = await self.launch(call)
        await asyncio.sleep(self.random.random() * 0.3)
        self.over = True
        await self.deletes()
        await self.finish_on(connection, call)

    async def subscribes(self) -> None:
        uri = f"storm://{nonce(self.ledger.make_number(self))}"
        body = {"jsonrpc": "2.0", "id": self.next_id(), "method": "resources/subscribe", "params": {"uri": uri}}
        self.step(f"subscribes {uri}")
        await self.posts(body)

    async def batches(self) -> None:
        calls = [self.make(self.server, self.kind) for _ in range(self.random.randint(1, 5))]
        body: list[dict[str, Any]] = []
        for call in calls:
            self.ledger.launched(call)
            body.append(self.message(call))
        if self.chance(0.3):
            progress = {"progressToken": "nobody's", "progress": 1}
            body.append({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
        connection = await self.connect()
        self.step(f"a batch of {[call.nonce for call in calls]} {[call.plan for call in calls]} on {connection}")
        leaves = self.chance(0.25)
        for call in calls:
            call.way = "batch, leaves" if leaves else "stays"
        await connection.send(self.request(body))
        if leaves:
            await asyncio.sleep(self.random.random() * 0.4)
            connection.leave(self.random.choice(["fin", "rst"]))
            for call in calls:
                self.ledger.end(call, "left")
            return
        excused = any(call.is_loose for call in calls)
        head = None
        try:
            async with asyncio.timeout(WITHIN):
                head = await connection.head()
                await self.read(connection, head, calls[0])
            if not head.closes:
                self.world.shared.give(connection)
        except TimeoutError:
            connection.leave("rst")
        except GONE:
            connection.leave("fin")
        if head is not None and head.status == 404:
            self.over = True
        for call in calls:
            said = "nothing" if head is None else f"HTTP {head.status}"
            self.finish(call, f"batch: {said}", excused or head is not None and head.status >= 400)

    async def takes_over(self) -> None:
        """Takes up the stream of a call on another connection; the first one lives on, or not."""
        call = self.make(self.server, self.kind, stream=True, progress=self.random.randint(2, 6), every=0.05)
        call.plan["delay"] = self.random.random() * 2.4
        if call.plan.get("size", 0) > REPLAYED:
            del call.plan["size"]
        first = await self.launch(call)
        last, wanted = "", self.random.randint(1, 3)
        try:
            async with asyncio.timeout(WITHIN):
                head = await first.head()
                if not head.is_stream:
                    await self.read(first, head, call)
                    self.finish(call, f"HTTP {head.status}", head.status >= 400)
                    self.over = self.over or head.status == 404
                    return first.leave("fin") if head.closes else self.world.shared.give(first)
                stream = first.events(head)
                async for id, _, data in stream:
                    last = id or last
                    if data:
                        self.heard(data, id, call, "before it is taken over")
                    wanted -= 1
                    if not wanted or call.answers:
                        break
        except GONE as error:
            return self.finish(call, f"cut before it is taken over: {error}", call.is_loose)
        if call.answers or not last:
            self.ledger.end(call, "nothing to take over")
            return first.leave("fin")
        lives_on = self.chance(0.6)
        self.step(f"takes {call.nonce} over from {last!r}, the first connection {'lives on' if lives_on else 'is left'}")
        old = None
        if lives_on:
            old = self.spawn(self.reads_on(first, stream, call))
        else:
            first.leave(self.random.choice(["fin", "rst"]))
        if self.chance(0.25):
            call.way = "taken over, then leaves"
        status = await self.resumes(call, last)
        if old is not None and not call.answers:
            await asyncio.wait([old], timeout=1 if call.way != "stays" else WITHIN)
        if old is not None:
            old.cancel()
            await asyncio.gather(old, return_exceptions=True)
        self.ledger.counts[f"taken over, {status}"] += 1
        self.finish(call, f"taken over, {status}", status != "200")

    async def reads_on(self, connection: Connection, stream: Any, call: Call) -> None:
        """The first connection of a stream that is taken over; when the stream ends there others use the connection."""
        try:
            async for id, _, data in stream:
                if data:
                    self.heard(data, id, call, "on the connection that it was taken from")
        except (*GONE, asyncio.CancelledError):
            connection.leave(self.random.choice(["fin", "rst"]))
            raise
        self.ledger.counts["connections handed on after a take-over"] += 1
        self.world.shared.give(connection)

    async def resumes(self, call: Call, last: str) -> str:
        """From the event on that came last, again and again while the stream ends without an answer."""
        end = time.monotonic() + WITHIN
        status = "never"
        while not call.answers and time.monotonic() < end and not self.over:
            connection = await self.connect()
            try:
                fields = {**self.fields(None), "Accept": "text/event-stream", "Last-Event-ID": last}
                await connection.send(request("GET", self.path, self.world.port, fields))
                async with asyncio.timeout(end - time.monotonic()):
                    head = await connection.head()
                    status = str(head.status)
                    if call.way != "stays":
                        connection.leave(self.random.choice(["fin", "rst"]))
                        return f"{status}, then left"
                    if head.status != 200:
                        await connection.whole(head)
                        self.world.shared.give(connection)
                        self.over = self.over or head.status == 404
                        return status
                    async for id, _, data in connection.events(head):
                        last = id or last
                        if data:
                            self.heard(data, id, call, "after it was taken over")
                        if call.answers:
                            break
            except GONE:
                status = "cut"
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                connection.leave("rst")
                raise
            connection.leave(self.random.choice(["fin", "rst"]))
            await asyncio.sleep(0.05)
        return status


class Patient(Handshake):
    """Takes the stream of a long call over, leaves that too, and never comes back: the call outlives its stream, while
    somebody else uses the first connection."""

    async def life(self) -> None:
        if self.world.ends - time.monotonic() < LONG - 5:
            return await asyncio.sleep(1)
        self.server = self.random.choice(["sessions", "shared", "calm", "channel"])
        self.kind = f"{self.world.servers[self.server].partition('-')[0]}-calm"
        self.version = self.random.choice(["2025-06-18", "2025-11-25"])
        self.session = ""
        if not await self.opens():
            return await asyncio.sleep(0.5)
        call = self.make(self.server, self.kind, stream=True, progress=EXPIRES + 4, every=1)
        call.plan = {key: call.plan[key] for key in ("stream", "progress", "every")}
        call.way = "outlives its stream"
        first = await self.launch(call)
        head = await first.head()
        if not head.is_stream:
            first.leave("fin")
            return
        last, stream = "", first.events(head)
        async for id, _, data in stream:
            last = id or last
            if data:
                break
        lent = self.spawn(self.lends(first, stream, call))
        await asyncio.sleep(0.5)
        self.step(f"takes {call.nonce} over from {last!r} and leaves")
        await self.resumes(call, last)
        await asyncio.sleep(EXPIRES + 12)
        self.ledger.end(call, "left")
        lent.cancel()

    async def lends(self, connection: Connection, stream: Any, call: Call) -> None:
        """When the stream ends in order, somebody else calls on its connection, one long answer after the other."""
        async for id, _, data in stream:
            if data:
                self.heard(data, id, call, "on the connection that it was taken from")
        self.step(f"lends {connection}")
        self.ledger.counts["connections lent"] += 1
        stranger = Stateless(self.number + BORROWERS, self.world)
        self.connections.discard(connection)
        connection.use(stranger)
        try:
            while True:
                theirs = stranger.make(stranger.server, "http-calm")
                theirs.plan = {"stream": True, "progress": 8, "every": 0.3}
                await stranger.launch(theirs, connection)
                if not await stranger.receive(connection, theirs):
                    return
        except Unreadable as error:
            self.ledger.find("unreadable", stranger, str(error))
        finally:
            await stranger.end_life()
            connection.leave("fin")


class Old(Actor):
    """A caller of HTTP+SSE, 2024-11-05."""

    async def life(self) -> None:
        self.server = self.random.choice(list(self.world.servers))
        self.kind = self.world.servers[self.server]
        self.endpoint: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        fields = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
        stream = await Connection.open(self.world.port, self.ledger, self)
        self.stream = stream
        self.step(f"GET /{self.server}/sse")
        await stream.send(request("GET", f"/{self.server}/sse", self.world.port, fields))
        if self.chance(0.1):
            await asyncio.sleep(self.random.random() * 0.01)
            return stream.leave(self.random.choice(["fin", "rst"]))
        reader = self.spawn(self.reads(stream))
        try:
            try:
                await asyncio.wait_for(asyncio.shield(self.endpoint), WITHIN)
            except TimeoutError:
                if not reader.done():
                    self.ledger.find("no endpoint", self, f"of {self.server}, for {WITHIN} s")
                return
            if not self.endpoint.result():
                return await asyncio.sleep(0.1)
            params = {"protocolVersion": "2024-11-05", "capabilities": {"elicitation": {}}, "clientInfo": CLIENT}
            opening = self.ledger.make(self.next_id(), self, self.server, {"initialize": True})
            self.calls[type(opening.id), opening.id] = opening
            if not await self.exchange(opening, {"jsonrpc": "2.0", "id": opening.id, "method": "initialize", "params": params}):
                return
            await self.posts({"jsonrpc": "2.0", "method": "notifications/initialized"})
            await self.together([self.strand() for _ in range(self.random.choice([1, 2, 3]))])
        finally:
            self.over = True
            self.step("leaves its stream")
            stream.leave(self.random.choice(["fin", "rst"]))
            reader.cancel()

    async def strand(self) -> None:
        for _ in range(self.random.randint(2, 12)):
            if self.over or not self.world.goes_on:
                return
            call = self.make(self.server, self.kind)
            message = self.message(call)
            draw = self.random.random()
            if draw < 0.08:
                call.way = "leaves mid-body"
                await self.leaves_a_post(call, message)
            elif draw < 0.14:
                # The rest of the answers come behind it.
                call.plan["size"] = 300_000
                self.spawn(self.stutters())
                await self.exchange(call, self.message(call))
            elif draw < 0.2:
                call.way = "cancels"
                self.spawn(self.cancels(call))
                await self.exchange(call, message)
            elif draw < 0.23:
                call.way = "leaves with its stream"
                self.ledger.launched(call)
                await self.posts(message)
                self.over = True
            else:
                await self.exchange(call, message)

    async def stutters(self) -> None:
        for _ in range(6):
            self.stream.stop()
            await asyncio.sleep(self.random.random() * 0.2)
            self.stream.go_on()
            await asyncio.sleep(0.01)

    async def cancels(self, call: Call) -> None:
        await asyncio.sleep(self.random.random() * 0.3)
        await self.posts({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": call.id}})

    async def leaves_a_post(self, call: Call, message: dict[str, Any]) -> None:
        connection = await self.world.shared.take(self, self.chance(0.7))
        data = self.post(message)
        self.step(f"leaves in the middle of posting {call.nonce}")
        self.ledger.launched(call)
        await connection.send(data[: self.random.randrange(1, len(data))])
        await asyncio.sleep(self.random.random() * 0.05)
        connection.leave(self.random.choice(["fin", "rst"]))
        self.ledger.end(call, "left")

    def post(self, body: Any) -> bytes:
        return request("POST", self.endpoint.result(), self.world.port, {"Authorization": f"Bearer {self.token}"}, body)

    async def posts(self, body: Any) -> int:
        connection = await self.world.shared.take(self, self.chance(0.7))
        await connection.send(self.post(body))
        async with asyncio.timeout(WITHIN):
            head = await connection.head()
            await connection.whole(head)
        if not head.closes:
            self.world.shared.give(connection)
        return head.status

    async def exchange(self, call: Call, message: dict[str, Any]) -> bool:
        """Posts a request and waits for its answer on the stream; false if there is none."""
        waiting = self.waiting[call.number] = asyncio.get_running_loop().create_future()
        self.step(f"posts {call.nonce} {call.plan} {call.way}")
        self.ledger.launched(call)
        status = await self.posts(message)
        if status != 202:
            self.finish(call, f"HTTP {status}", True)
            self.over = self.over or status == 404
            return False
        try:
            await asyncio.wait_for(waiting, WITHIN)
        except TimeoutError:
            if not self.over and call.way == "stays":
                self.ledger.find("no answer", self, f"nothing on the stream for {WITHIN} s: {call}")
            self.finish(call, "timeout", True)
            return False
        self.finish(call, "the stream ended", call.way != "stays" or call.plan.get("size", 0) > 100_000)
        return bool(call.answers)

    def heard_one(self, message: Any, event_id: str, current: Call | None, where: str) -> None:
        id = message.get("id")
        call = self.calls.get((type(id), id)) if id is not None else None
        if call is not None and "method" not in message and call.plan.get("initialize") and "result" in message:
            message = {"id": id, "result": {"content": [{"text": call.nonce}]}}
        super().heard_one(message, event_id, current, where)

    async def reads(self, stream: Connection) -> None:
        try:
            head = await stream.head()
            if head.status != 200:
                self.ledger.counts[f"streams refused, {head.status}"] += 1
                return
            async for id, name, data in stream.events(head):
                if name == "endpoint":
                    if not self.endpoint.done():
                        self.endpoint.set_result(data.decode())
                elif data:
                    self.heard(data, id, None, "on the stream")
        except Unreadable as error:
            self.ledger.find("unreadable", self, str(error))
        finally:
            if not self.endpoint.done():
                self.endpoint.set_result("")
            for waiting in list(self.waiting.values()):
                if not waiting.done():
                    waiting.set_result(None)
            if not self.over and self.world.goes_on:
                self.step(f"its stream ended: {stream.how_ended}")

    def asked(self, message: dict[str, Any]) -> None:
        if self.chance(0.85):
            self.spawn(self.answers(message["id"]))

    async def answers(self, id: Any) -> None:
        await self.posts({"jsonrpc": "2.0", "id": id, "result": {"action": "decline"}})


class Rude(Actor):
    """Sends what is no request, or only a part of one, or reads nothing."""

    async def life(self) -> None:
        way = self.random.choice([self.babbles, self.drips, self.floods, self.half, self.unwelcome, self.silent, self.deaf])
        self.step(way.__name__)
        connection = await Connection.open(self.world.port, self.ledger, self)
        self.ledger.counts["rude"] += 1
        try:
            async with asyncio.timeout(6):
                await way(connection)
        except TimeoutError:
            pass
        finally:
            connection.leave(self.random.choice(["fin", "rst"]))

    async def drain(self, connection: Connection) -> None:
        with contextlib.suppress(Cut):
            while True:
                connection.buffer.clear()
                await connection.more()

    async def babbles(self, connection: Connection) -> None:
        await connection.send(self.random.randbytes(self.random.randint(1, 3000)))
        await self.drain(connection)

    async def drips(self, connection: Connection) -> None:
        for byte in b"POST /sessions/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n{":
            await connection.send(bytes([byte]))
            await asyncio.sleep(0.05)

    async def floods(self, connection: Connection) -> None:
        """Pipelined requests, each send ending in the middle of one."""
        one = request("GET", "/_healthz", self.world.port, {})
        self.spawn(self.drain(connection))
        rest = b""
        for _ in range(self.random.randint(1, 30)):
            cut = self.random.randrange(1, len(one))
            await connection.send(rest + one * self.random.randint(1, 20) + one[:cut])
            rest = one[cut:]
            await asyncio.sleep(self.random.random() * 0.02)

    async def half(self, connection: Connection) -> None:
        data = request("POST", "/sessions/mcp", self.world.port, {"Authorization": f"Bearer {self.token}"}, b"{" * 2000)
        await connection.send(data[: self.random.randrange(1, len(data))])
        if self.chance(0.5):
            connection.half_close()
        await asyncio.sleep(self.random.random() * 2)

    async def unwelcome(self, connection: Connection) -> None:
        for _ in range(5):
            fields = {"Authorization": "Bearer wrong" if self.chance(0.5) else f"Bearer {self.token}"}
            if self.chance(0.5):
                fields["Mcp-Session-Id"] = "not-a-session"
            path = self.random.choice(["/sessions/mcp", "/nothing", "/calm/message?sessionId=x", "/calm/sse", "/pool/mcp"])
            method = self.random.choice(["GET", "POST", "DELETE", "PUT", "OPTIONS"])
            body = self.random.choice([b"{}", b"[]", b"nonsense", b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'])
            await connection.send(request(method, path, self.world.port, fields, body if method == "POST" else None))
            await asyncio.sleep(self.random.random() * 0.1)
        await asyncio.wait_for(self.drain(connection), 1)

    async def silent(self, connection: Connection) -> None:
        await asyncio.sleep(self.random.random() * 3)

    async def deaf(self, connection: Connection) -> None:
        connection.stop(shrink=True)
        for _ in range(200):
            await connection.send(request("GET", "/_healthz", self.world.port, {}) * 20, 1)


KINDS: list[tuple[type[Actor], int]] = [(Handshake, 36), (Stateless, 8), (Old, 10), (Rude, 4)]
"""Who calls, and how many of them there are beside each other."""
LONG = EXPIRES + 20
"""Seconds from which on a storm is long enough for patient callers."""
