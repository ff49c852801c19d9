# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Callers of the handshake era on the raw wire, over streamable HTTP and over the HTTP+SSE of 2024-11-05."""

import asyncio
import itertools
import json
import time
from typing import Any, AsyncIterator

from .wire import HANDSHAKE, LONGEST_WAIT, Answer, Wire, headers_of, message, post, split

CLIENT = {"name": "wire", "version": "1"}
CAPABILITIES = {"roots": {}, "sampling": {}, "elicitation": {}}


def text_of(reply: dict[str, Any]) -> str:
    """The text of a tool's result."""
    assert "result" in reply, reply
    return reply["result"]["content"][0]["text"]


def call_of(tool: str, arguments: dict[str, Any] | None = None, id: Any = 1, token: Any = None) -> dict[str, Any]:
    """A call of a tool, with a progress token if one is given."""
    meta = {} if token is None else {"_meta": {"progressToken": token}}
    return message("tools/call", {"name": tool, "arguments": arguments or {}, **meta}, id=id)


class Caller:
    """A session over streamable HTTP. Each message goes over a connection of its own."""

    def __init__(self, url: str, token: str = "", seen: bytearray | None = None, version: str = HANDSHAKE) -> None:
        self.url = url
        self.token = token
        self.seen = seen
        self.version = version
        self.session = ""
        self.initialized: dict[str, Any] = {}
        """The result of `initialize`."""
        self._ids = itertools.count(1)

    @classmethod
    async def open(
        cls,
        gateway: Any,
        name: str,
        *,
        capabilities: dict[str, Any] | None = None,
        version: str = HANDSHAKE,
        token: str | None = None,
    ) -> "Caller":
        """A session with this server of the gateway; `capabilities` are none unless said."""
        caller = cls(gateway.url(name), gateway.token if token is None else token, gateway.seen, version)
        params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": CLIENT}
        answer = await caller.post(message("initialize", params, id=0))
        reply = answer.reply(0)
        assert "result" in reply, reply
        caller.initialized = reply["result"]
        caller.session = answer.header("mcp-session-id") or ""
        assert (await caller.post(message("notifications/initialized", id=None))).status == 202
        return caller

    def fields(self, body: Any) -> dict[str, str]:
        fields = headers_of("handshake", body if isinstance(body, dict) else {}, self.token, self.session)
        if "MCP-Protocol-Version" in fields:
            fields["MCP-Protocol-Version"] = self.version
        return fields

    async def post(self, body: Any, deadline: float = LONGEST_WAIT) -> Answer:
        async with await self.send(body) as wire:
            return await wire.rest(await wire.head(deadline), deadline)

    async def send(self, body: Any) -> Wire:
        """Posts without waiting for the answer; gives the connection."""
        port, path = split(self.url)
        wire = await Wire.open(port, self.seen)
        raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        await wire.request("POST", path, self.fields(json.loads(raw)), raw)
        return wire

    async def call(
        self, tool: str, arguments: dict[str, Any] | None = None, id: Any = None, token: Any = None, deadline: float = LONGEST_WAIT
    ) -> Answer:
        """The whole answer to a call; ids count up unless one is given."""
        return await self.post(call_of(tool, arguments, next(self._ids) if id is None else id, token), deadline)

    async def ask(self, tool: str, arguments: dict[str, Any] | None = None, deadline: float = LONGEST_WAIT) -> dict[str, Any]:
        """The reply to a call."""
        id = next(self._ids)
        return (await self.call(tool, arguments, id, deadline=deadline)).reply(id)

    async def stream(self, last: str = "") -> tuple[Wire, Answer]:
        """A GET stream, resumed after the event `last` if one is named."""
        port, path = split(self.url)
        wire = await Wire.open(port, self.seen)
        fields = {**self.fields({"method": ""}), "Accept": "text/event-stream"}
        await wire.request("GET", path, {**fields, **({"Last-Event-ID": last} if last else {})})
        return wire, await wire.head()

    async def delete(self) -> int:
        port, path = split(self.url)
        async with await Wire.open(port, self.seen) as wire:
            return (await wire.exchange("DELETE", path, self.fields({"method": ""}))).status


class SSECaller:
    """A session over HTTP+SSE; everything that comes on its stream is kept in `messages`."""

    def __init__(self, wire: Wire, answer: Answer, token: str) -> None:
        self.wire = wire
        self.answer = answer
        self.token = token
        self.endpoint = ""
        self.events: list[dict[str, str]] = []
        self.messages: list[dict[str, Any]] = []
        self.ended = False
        self._grown = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, gateway: Any, name: str, *, capabilities: dict[str, Any] | None = None, version: str = "2024-11-05"
    ) -> "SSECaller":
        """Connects and completes the handshake."""
        caller = await cls.connect(gateway, name)
        params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": CLIENT}
        reply = await caller.request(message("initialize", params, id=0))
        assert "result" in reply, reply
        assert (await caller.post(message("notifications/initialized", id=None))).status == 202
        return caller

    @classmethod
    async def connect(cls, gateway: Any, name: str) -> "SSECaller":
        """Opens the stream and waits for its endpoint."""
        port, path = split(gateway.url(name, "sse"))
        wire = await Wire.open(port, gateway.seen)
        fields = {"Accept": "text/event-stream"}
        if gateway.token:
            fields["Authorization"] = f"Bearer {gateway.token}"
        await wire.request("GET", path, fields)
        answer = await wire.head()
        assert answer.status == 200 and answer.content_type == "text/event-stream", (answer.status, answer.fields)
        caller = cls(wire, answer, gateway.token)
        await caller.wait_for("an endpoint", lambda: caller.events)
        return caller

    async def _read(self) -> None:
        async for event in self.wire.events(self.answer, 600):
            async with self._grown:
                self.events.append(event)
                if event.get("event") == "endpoint":
                    self.endpoint = event["data"]
                elif event.get("data"):
                    self.messages.append(json.loads(event["data"]))
                self._grown.notify_all()
        async with self._grown:
            self.ended = True
            self._grown.notify_all()

    async def wait_for(self, what: str, find: Any, deadline: float = LONGEST_WAIT) -> Any:
        """Until `find` gives something true; fails at once when the stream has ended without it."""
        try:
            async with asyncio.timeout(deadline), self._grown:
                while not (found := find()):
                    assert not self.ended, f"the stream ended before {what}: {self.messages[-3:]}"
                    await self._grown.wait()
                return found
        except TimeoutError:
            raise AssertionError(f"not within {deadline} s: {what}; came {self.messages[-3:]}") from None

    async def post(self, body: Any, endpoint: str = "", token: str | None = None) -> Answer:
        port = self.wire.writer.get_extra_info("peername")[1]
        token = self.token if token is None else token
        fields = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        async with await Wire.open(port, self.wire.seen) as wire:
            raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
            return await wire.exchange("POST", endpoint or self.endpoint, fields, raw)

    async def request(self, body: dict[str, Any], deadline: float = LONGEST_WAIT) -> dict[str, Any]:
        """Posts a request, which is accepted, and waits for its answer on the stream."""
        accepted = await self.post(body)
        assert accepted.status == 202, (accepted.status, accepted.body)
        return await self.wait_for(f"an answer to {body['id']!r}", lambda: self.reply(body["id"]), deadline)

    def reply(self, id: Any) -> dict[str, Any] | None:
        """The answer to this id, if it has come; fails if there are more than one."""
        replies = [m for m in self.messages if "method" not in m and m.get("id") == id and type(m["id"]) is type(id)]
        assert len(replies) <= 1, replies
        return replies[0] if replies else None

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, id: Any = 1, token: Any = None) -> dict[str, Any]:
        return await self.request(call_of(tool, arguments, id, token))

    def close(self) -> None:
        """Goes away without a word."""
        self._reader.cancel()
        self.wire.abort()

    async def __aenter__(self) -> "SSECaller":
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()


async def works(caller: Caller, deadline: float = 2) -> None:
    """Asserts that the next call of this caller works, in the time that a fresh process or stream may take."""
    began = time.monotonic()
    assert "result" in await caller.ask("echo", {"text": "again"}), "the next call"
    assert time.monotonic() - began < deadline, f"{time.monotonic() - began:.2f} s"


async def messages_of(wire: Wire, answer: Answer, deadline: float = LONGEST_WAIT) -> AsyncIterator[dict[str, Any]]:
    """The JSON-RPC messages of a stream as they come."""
    async for event in wire.events(answer, deadline):
        if event.get("data"):
            yield json.loads(event["data"])
