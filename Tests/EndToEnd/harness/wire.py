# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A raw HTTP/1.1 client: says exactly what a test means to say, and shows exactly what came back."""

import asyncio
import json
import socket
import struct
import weakref
from dataclasses import dataclass, field
from typing import Any, AsyncIterator, ClassVar

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"
LONGEST_WAIT = 30
NARROW = 32 * 1024


def message(method: str, params: dict[str, Any] | None = None, id: Any = 1, era: str = "handshake") -> dict[str, Any]:
    """A JSON-RPC request (or a notification, with `id=None`) with the envelope that the era demands."""
    params = dict(params or {})
    if era == "stateless":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": STATELESS,
            "io.modelcontextprotocol/clientCapabilities": {},
            **params.get("_meta", {}),
        }
    whole: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    if id is None:
        del whole["id"]
    if not params:
        del whole["params"]
    return whole


def headers_of(era: str, body: dict[str, Any], token: str = "", session: str = "") -> dict[str, str]:
    """The header fields that a well-behaved client of this era sends with this message."""
    fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    if session:
        fields["Mcp-Session-Id"] = session
    if era == "stateless":
        fields["MCP-Protocol-Version"] = STATELESS
        fields["Mcp-Method"] = body["method"]
        name = body.get("params", {}).get("name") or body.get("params", {}).get("uri")
        if name and body["method"] in ("tools/call", "prompts/get", "resources/read"):
            fields["Mcp-Name"] = name
    elif body.get("method") != "initialize":
        fields["MCP-Protocol-Version"] = HANDSHAKE
    return fields


@dataclass
class Answer:
    """One HTTP response; `body` is filled as it is read."""

    status: int
    fields: list[tuple[str, str]]
    received: bytearray = field(default_factory=bytearray)
    cut: bool = False
    """The body did not reach the end that its framing promised."""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return bytes(self.received)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.fields if key == name.lower()), None)

    @property
    def content_type(self) -> str:
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        return json.loads(self.body)

    def messages(self) -> list[Any]:
        """The JSON-RPC messages of the body, whether it is one object or a stream of events."""
        if self.content_type == "text/event-stream":
            return [json.loads(event["data"]) for event in parse_events(self.body) if event.get("data")]
        return [self.json()] if self.body.strip() else []

    def reply(self, id: Any = 1) -> dict[str, Any]:
        """The one answer to this id; fails if there is none or more than one."""
        replies = [m for m in self.messages() if "method" not in m and m.get("id") == id and type(m.get("id")) is type(id)]
        assert len(replies) == 1, (self.status, self.fields, self.body[:2000])
        return replies[0]


def parse_events(data: bytes) -> list[dict[str, str]]:
    """The complete events of a stream, by the rules of the HTML standard."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    events = []
    for block in text.split("\n\n")[:-1]:
        event: dict[str, str] = {}
        for line in block.split("\n"):
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "data" and "data" in event:
                event["data"] += "\n" + value
            elif key:
                event[key] = value
        if event:
            events.append(event)
    return events


class Wire:
    """One connection. Everything read is also added to `seen`."""

    _transports: ClassVar["weakref.WeakSet[asyncio.BaseTransport]"] = weakref.WeakSet()
    """Every connection that was opened and may be open. A wire that a test forgot is gone, but its connection is not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        self.reader = reader
        self.writer = writer
        self.seen = seen

    @classmethod
    async def narrow(cls, port: int) -> "Wire":
        """A connection of which this side's system takes little by itself: what is not read here stays with the sender."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=plain, limit=NARROW)
        return cls(reader, writer, bytearray())

    @classmethod
    async def open(cls, port: int, seen: bytearray | None = None) -> "Wire":
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024 * 1024)
        cls._transports.add(writer.transport)
        return cls(reader, writer, bytearray() if seen is None else seen)

    @classmethod
    async def abort_all(cls) -> None:
        """Ends every connection that is still open, at the end of the event loop that they belong to."""
        for transport in list(cls._transports):
            transport.abort()
        cls._transports.clear()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    async def __aenter__(self) -> "Wire":
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.abort()

    def abort(self) -> None:
        """Goes away at once, without a word."""
        self.writer.transport.abort()

    def reset(self) -> None:
        """Goes away with a reset, so that the other side's next write fails."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), LONGEST_WAIT)

    async def request(
        self, method: str, path: str, fields: dict[str, str] | list[tuple[str, str]], body: bytes = b"", host: str = ""
    ) -> None:
        pairs = list(fields.items()) if isinstance(fields, dict) else list(fields)
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            port = self.writer.get_extra_info("peername")[1]
            pairs.insert(0, ("Host", host or f"127.0.0.1:{port}"))
        if method == "POST" and not names & {"content-length", "transfer-encoding"}:
            pairs.append(("Content-Length", str(len(body))))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs) + "\r\n"
        await self.send(head.encode("latin-1") + body)

    async def head(self, deadline: float = LONGEST_WAIT) -> Answer:
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), deadline)
        self.seen += raw
        start, *lines = raw[:-4].decode("latin-1").split("\r\n")
        assert start.startswith("HTTP/1."), f"no head of an answer: {raw[:500]!r}"
        fields = [(key.lower(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
        answer = Answer(int(start.split(" ")[1]), fields)
        if 100 <= answer.status < 200 and answer.status != 101:
            return await self.head(deadline)
        return answer

    async def chunks(self, answer: Answer, deadline: float = LONGEST_WAIT) -> AsyncIterator[bytes]:
        """The body as it comes; sets `cut` if it ends before its framing says so."""
        try:
            if "chunked" in (answer.header("transfer-encoding") or ""):
                while True:
                    line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), deadline)
                    size = int(line.split(b";")[0], 16)
                    data = await asyncio.wait_for(self.reader.readexactly(size + 2), deadline)
                    if not size:
                        return
                    self._note(answer, data[:-2])
                    yield data[:-2]
            elif (length := answer.header("content-length")) is not None:
                left = int(length)
                while left:
                    data = await asyncio.wait_for(self.reader.read(min(left, 65536)), deadline)
                    if not data:
                        answer.cut = True
                        return
                    left -= len(data)
                    self._note(answer, data)
                    yield data
            elif answer.status not in (204, 304):
                while data := await asyncio.wait_for(self.reader.read(65536), deadline):
                    self._note(answer, data)
                    yield data
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.cut = True

    def _note(self, answer: Answer, data: bytes) -> None:
        answer.received += data
        if len(self.seen) < 8 << 20:
            self.seen += data

    async def rest(self, answer: Answer, deadline: float = LONGEST_WAIT) -> Answer:
        async for _ in self.chunks(answer, deadline):
            pass
        return answer

    async def events(self, answer: Answer, deadline: float = LONGEST_WAIT) -> AsyncIterator[dict[str, str]]:
        """The events of a stream, each as soon as it is complete."""
        given = 0
        async for _ in self.chunks(answer, deadline):
            events = parse_events(answer.body)
            for event in events[given:]:
                yield event
            given = len(events)

    async def closed(self, deadline: float = LONGEST_WAIT) -> bool:
        """Whether the other side closes within the deadline, without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), deadline) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def exchange(
        self, method: str, path: str, fields: dict[str, str], body: bytes = b"", deadline: float = LONGEST_WAIT
    ) -> Answer:
        await self.request(method, path, fields, body)
        return await self.rest(await self.head(deadline), deadline)


async def post(
    url: str,
    body: dict[str, Any] | bytes,
    *,
    era: str = "handshake",
    token: str = "",
    session: str = "",
    seen: bytearray | None = None,
    more: dict[str, str] | None = None,
    deadline: float = LONGEST_WAIT,
) -> Answer:
    """One POST over a connection of its own, with the header fields that belong to it."""
    port, path = split(url)
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    fields = headers_of(era, json.loads(raw) if isinstance(body, bytes) else body, token, session)
    async with await Wire.open(port, seen) as wire:
        return await wire.exchange("POST", path, {**fields, **(more or {})}, raw, deadline)


def split(url: str) -> tuple[int, str]:
    """Port and path of a loopback URL."""
    authority, slash, path = url.removeprefix("http://").partition("/")
    return int(authority.rpartition(":")[2]), slash + path


async def initialize(url: str, token: str = "", seen: bytearray | None = None, version: str = HANDSHAKE) -> str:
    """Opens a handshake session and completes it; its id, or an empty string where none is issued."""
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    answer = await post(url, message("initialize", params, id=0), token=token, seen=seen)
    assert answer.status == 200, (answer.status, answer.body)
    assert "result" in answer.reply(0), answer.body
    session = answer.header("mcp-session-id") or ""
    notified = await post(url, message("notifications/initialized", id=None), token=token, session=session, seen=seen)
    assert notified.status == 202, (notified.status, notified.body)
    return session
