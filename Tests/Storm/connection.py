# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A caller's connection: reads only when told to, leaves in every way, and knows whose bytes it receives."""

import asyncio
import collections
import itertools
import json
import socket
import struct
import time
from typing import Any, AsyncIterator, ClassVar

from .ledger import LONGEST_NONCE, Ledger

HELD = 256 * 1024
LARGEST_BODY = 16 * 1024 * 1024
_hosts = itertools.cycle(range(2, 60))


class Cut(Exception):
    """The gateway ended the connection in the middle of an answer, or before it."""


class Unreadable(Exception):
    """What came is no HTTP."""


class Head:
    def __init__(self, raw: bytes) -> None:
        start, *lines = raw.decode("latin-1").split("\r\n")
        words = start.split(" ", 2)
        if not start.startswith("HTTP/1.1 ") or not words[1].isdigit():
            raise Unreadable(start[:200])
        self.status = int(words[1])
        self.fields = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}

    @property
    def is_stream(self) -> bool:
        return self.fields.get("content-type", "").startswith("text/event-stream")

    @property
    def closes(self) -> bool:
        return self.fields.get("connection", "").lower() == "close"


class Connection(asyncio.Protocol):
    """`actor` is who uses it now; every byte that comes while it does is searched for what belongs to others."""

    everyone: ClassVar[set["Connection"]] = set()
    """Those that are open."""

    def __init__(self, ledger: Ledger, actor: Any) -> None:
        self.ledger = ledger
        self.actor = actor
        self.buffer = bytearray()
        self.transport: Any = None
        self.is_closed = False
        self.has_ended = False
        self.how_ended = "in order"
        """What the socket said, if that ended."""
        self._waiting: asyncio.Future[None] | None = None
        self._can_write: asyncio.Future[None] | None = None
        self._stopped = False
        self._tail = b""
        self.last_used = 0.0
        self.used_by: collections.deque[str] = collections.deque(maxlen=6)
        """The last things that happened on it."""
        self.use(actor)

    def use(self, actor: Any) -> None:
        """What comes from now on is this actor's."""
        self.actor = actor
        actor.connections.add(self)

    def note(self, text: str) -> None:
        self.used_by.append(f"{time.monotonic() - self.ledger.began:.2f} {self.actor.number}: {text}")

    @classmethod
    async def open(cls, port: int, ledger: Ledger, actor: Any) -> "Connection":
        loop = asyncio.get_running_loop()
        connection = cls(ledger, actor)
        # Many addresses, so that closed connections do not use up the ports of one.
        near = socket.socket()
        near.setblocking(False)
        near.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        near.bind((f"127.0.0.{next(_hosts)}", 0))
        try:
            await asyncio.wait_for(loop.sock_connect(near, ("127.0.0.1", port)), 10)
            await loop.create_connection(lambda: connection, sock=near)
        except BaseException:
            near.close()
            raise
        return connection

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=HELD)
        Connection.everyone.add(self)

    def data_received(self, data: bytes) -> None:
        self.ledger.scan(self._tail + data, self.actor, f"on {self}")
        self._tail = data[-LONGEST_NONCE:] if b"nonce-" in data[-LONGEST_NONCE:] else b""
        if (at := self._tail.find(b"-end")) >= 0:
            self._tail = self._tail[at:]  # it was seen whole
        self.buffer += data
        if len(self.buffer) > HELD:
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self.has_ended = True
        self.how_ended = "closed"
        self._wake()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        Connection.everyone.discard(self)
        if not self.has_ended:
            self.how_ended = repr(error)
        self.is_closed = self.has_ended = True
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        self._can_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)
        self._can_write = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # Writing and leaving.

    async def send(self, data: bytes, deadline: float = 15) -> None:
        if self.is_closed or self.transport.is_closing():
            raise Cut("closed before the request")
        self.note(data.partition(b"\r\n")[0][:60].decode("latin-1"))
        self.transport.write(data)
        if self._can_write is not None:
            await asyncio.wait_for(asyncio.shield(self._can_write), deadline)

    def stop(self, shrink: bool = False) -> None:
        """Reads nothing any more; what arrives is held by this machine, and little of that if it shall `shrink`.

        A connection that shrank stays slow for ever.
        """
        self._stopped = True
        if not self.transport.is_closing():
            if shrink:
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.transport.pause_reading()

    def go_on(self) -> None:
        self._stopped = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def half_close(self) -> None:
        if not self.transport.is_closing():
            self.transport.write_eof()

    def leave(self, how: str) -> None:
        """fin or rst."""
        self.actor.connections.discard(self)
        # It may have been given up before it stood.
        if self.transport is None or self.transport.is_closing():
            return
        if how == "rst":
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        else:
            self.transport.close()

    # Reading.

    async def more(self) -> None:
        """Until there is more in the buffer than now."""
        if self.has_ended:
            raise Cut("the gateway closed the connection")
        if not self._stopped and not self.transport.is_reading():
            self.transport.resume_reading()
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    async def until(self, mark: bytes) -> bytes:
        while (at := self.buffer.find(mark)) < 0:
            if len(self.buffer) > HELD:
                raise Unreadable(f"no end: {bytes(self.buffer[:200])!r}")
            await self.more()
        taken = bytes(self.buffer[:at])
        del self.buffer[: at + len(mark)]
        return taken

    async def head(self) -> Head:
        while True:
            head = Head(await self.until(b"\r\n\r\n"))
            self.note(str(head.status))
            if head.status >= 200:
                return head

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """The body in the pieces that it comes in."""
        if "chunked" in head.fields.get("transfer-encoding", ""):
            while True:
                line = await self.until(b"\r\n")
                try:
                    left = int(line, 16)
                except ValueError:
                    rest = bytes(self.buffer[:500])
                    raise Unreadable(f"no size of a chunk: {line[:100]!r}, then {rest!r}, on {self}") from None
                if not left:
                    await self.until(b"\r\n")
                    return
                async for piece in self._bytes(left):
                    yield piece
                await self.until(b"\r\n")
        elif "content-length" in head.fields:
            async for piece in self._bytes(int(head.fields["content-length"])):
                yield piece
        elif head.status not in (204, 304):
            while not self.has_ended or self.buffer:
                if not self.buffer:
                    await self.more()
                piece = bytes(self.buffer)
                self.buffer.clear()
                yield piece

    async def _bytes(self, left: int) -> AsyncIterator[bytes]:
        while left:
            while not self.buffer:
                await self.more()
            piece = bytes(self.buffer[:left])
            del self.buffer[: len(piece)]
            left -= len(piece)
            yield piece

    async def whole(self, head: Head) -> bytes:
        data = bytearray()
        async for piece in self.body(head):
            data += piece
            if len(data) > LARGEST_BODY:
                raise Unreadable("a body without end")
        return bytes(data)

    async def events(self, head: Head) -> AsyncIterator[tuple[str, str, bytes]]:
        """Id, name and data of each event."""
        rest = bytearray()
        async for piece in self.body(head):
            rest += piece
            while (at := rest.find(b"\n\n")) >= 0:
                id, name, data = "", "message", []
                for line in bytes(rest[:at]).split(b"\n"):
                    key, _, value = line.partition(b":")
                    value = value.removeprefix(b" ").rstrip(b"\r")
                    if key == b"id":
                        id = value.decode()
                    elif key == b"event":
                        name = value.decode()
                    elif key == b"data":
                        data.append(value)
                del rest[: at + 2]
                if id or data:
                    yield id, name, b"\n".join(data)

    def __str__(self) -> str:
        return f"the connection [{', '.join(self.used_by)}]"


def request(method: str, path: str, port: int, fields: dict[str, str], body: Any = None) -> bytes:
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in fields.items())]
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


class Shared:
    """Idle connections that any caller may use next."""

    def __init__(self, port: int, ledger: Ledger) -> None:
        self.port = port
        self.ledger = ledger
        self._idle: list[Connection] = []

    async def take(self, actor: Any, reuse: bool) -> Connection:
        now = asyncio.get_running_loop().time()
        while reuse and self._idle:
            connection = self._idle.pop(actor.random.randrange(len(self._idle)))
            if connection.has_ended or now - connection.last_used > 20:
                connection.leave("fin")
                continue
            if connection.buffer:
                text = bytes(connection.buffer[:300])
                self.ledger.find("unasked", connection.actor, f"bytes that nobody asked for on {connection}: {text!r}")
                connection.leave("rst")
                continue
            connection.use(actor)
            return connection
        return await Connection.open(self.port, self.ledger, actor)

    def give(self, connection: Connection) -> None:
        """A connection whose answers are all whole."""
        connection.actor.connections.discard(connection)
        if connection.has_ended or len(self._idle) > 30:
            return connection.leave("fin")
        connection.last_used = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().leave("fin")
