# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A hand-made MCP upstream: fast, with thousands of streams, and with sessions that behave as the path says.

    POST /fast?ms=N      answers any request after N milliseconds, or after its argument `ms`, with its own arguments, or with
                         as many `bytes` as the query says; notifications with 202
    /sessions            handshake with session ids; GET streams are held open; DELETE ends a session
    /amnesia             issues session ids and knows none of them
    /events              like /sessions, but answers calls with a stream of `count` progress notifications, `ms` apart and
                         padded to `bytes`, and the result, which takes `pause` ms more. Each event has an id; after `breaks` of them the connection
                         ends, and GET with Last-Event-ID goes on (`resume` false: 405; `empty`: nothing or
                         another-id comes there, and the end), with `retry` of so many ms
    /hasty               like /sessions, but GET streams end at once, after a word that they may be opened again in 0 ms
    /moody               like /sessions, but says to the tool `lose` that it does not know the session
    /tools?depth=N       like /fast, but lists one tool with a schema so deep
    /endless?as=KIND     answers any request without end, with `json`, `text`, a `refusal` or `events`
    /mute                like /sessions, but GET is never answered
    /listen              2026-07-28 only: answers server/discover, holds subscriptions/listen open

Where there are sessions the tools are `flood`, which answers with events of so many `bytes` before its result, `haunt`,
which is silent until another calls `cue`, and then says on the GET streams what its arguments say (`method`, `params`, and
`id` if it is a question); `cue` ends when that was answered, or 0.5 s later. All other tools do what the path says.

    GET /control/journal what arrived, and how many streams are open and how many GETs are
    not answered;   /control/broadcast sends every open stream an
    event and gives their number;   /control/forget forgets all sessions;   /control/restart ends all streams, too;
    /control/flood?bytes=N sends that in events on every stream, and `flooded` of the journal counts them;
    /control/clear empties the journal.

What floods never ends a piece that it writes where an event ends.

The first line on stdout is `{"port": N}`. Standard library only.
"""

import asyncio
import contextlib
import json
import secrets
import socket
import sys
import time
import urllib.parse
from typing import Any

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"
VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", HANDSHAKE)
REMEMBERED = ("/sessions", "/events", "/hasty", "/moody", "/mute")
SESSIONS = (*REMEMBERED, "/amnesia")
"""The paths that issue session ids; the last knows none of them."""
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
DONE = {"content": [{"type": "text", "text": "done"}], "resultType": "complete"}


class Upstream:
    """The state of the server."""

    def __init__(self) -> None:
        self.journal: list[dict[str, Any]] = []
        self.sessions: set[str] = set()
        self.streams: dict[asyncio.StreamWriter, Any] = {}
        self.calls: list[dict[str, Any]] = []
        self.flooded = 0
        self.floods: set[asyncio.Task[None]] = set()
        self.cue = asyncio.Event()
        self.told = asyncio.Event()
        self.unanswered = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                raw = await reader.readuntil(b"\r\n\r\n")
                start, *lines = raw[:-4].decode("latin-1").split("\r\n")
                method, target, _ = start.split(" ")
                pairs = ((k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines))
                fields = dict(pairs)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                url = urllib.parse.urlsplit(target)
                query = dict(urllib.parse.parse_qsl(url.query))
                if url.path.startswith("/control/"):
                    self.reply(writer, 200, await self.control(url.path.rpartition("/")[2], query))
                elif method == "POST":
                    await self.post(reader, writer, url.path, query, fields, json.loads(body))
                elif method == "GET" and url.path == "/events" and "last-event-id" in fields:
                    self.note(method, url.path, fields, {})
                    await self.resume(writer, fields["last-event-id"])
                elif method == "GET" and url.path == "/hasty" and fields.get("mcp-session-id") in self.sessions:
                    self.note(method, url.path, fields, {})
                    writer.write(EVENTS + b"Connection: close\r\n\r\nretry: 0\nid: up\ndata: \n\n")
                    await writer.drain()
                    return
                elif method == "GET" and url.path in REMEMBERED and fields.get("mcp-session-id") in self.sessions:
                    self.note(method, url.path, fields, {})
                    if url.path == "/mute":
                        await self.ignore(reader)
                    await self.hold(reader, writer, None)
                    return
                elif method == "DELETE" and fields.get("mcp-session-id") in self.sessions:
                    self.note(method, url.path, fields, {})
                    self.sessions.discard(fields["mcp-session-id"])
                    self.reply(writer, 204, None)
                else:
                    self.note(method, url.path, fields, {})
                    self.reply(writer, 404 if "mcp-session-id" in fields else 405, {"error": "not here"})
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.streams.pop(writer, None)
            writer.close()

    def note(self, method: str, path: str, fields: dict[str, str], message: dict[str, Any]) -> dict[str, Any]:
        entry = {
            "method": method,
            "path": path,
            "session": fields.get("mcp-session-id"),
            "version": fields.get("mcp-protocol-version"),
            "last": fields.get("last-event-id"),
            "rpc": message.get("method"),
            "id": message.get("id"),
            "message": message if len(str(message)) < 4096 else None,
            "code": message.get("error", {}).get("code"),
            "executed": False,
            "t": time.monotonic(),
        }
        self.journal.append(entry)
        return entry

    async def post(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        query: dict[str, str],
        fields: dict[str, str],
        message: dict[str, Any],
    ) -> None:
        entry = self.note("POST", path, fields, message)
        session = fields.get("mcp-session-id")
        rpc = message.get("method")
        is_lost = path == "/moody" and message.get("params", {}).get("name") == "lose"
        if path in SESSIONS and rpc != "initialize" and (session not in self.sessions or is_lost):
            error = {"code": -32001 if session else -32600, "message": "Session not found"}
            return self.reply(writer, 404 if session else 400, {"jsonrpc": "2.0", "id": None, "error": error})
        if path == "/endless":
            return await self.without_end(writer, query["as"])
        if "method" not in message:
            self.told.set()
        if "id" not in message or "method" not in message:
            return self.reply(writer, 202, None)
        if rpc == "initialize" and path != "/listen":
            issued = f"upstream-{secrets.token_hex(8)}" if path in SESSIONS else ""
            if path in REMEMBERED:
                self.sessions.add(issued)
            asked = message["params"].get("protocolVersion")
            result = {
                "protocolVersion": asked if asked in VERSIONS else HANDSHAKE,
                "capabilities": {"tools": {}, "resources": {"subscribe": True}},
                "serverInfo": {"name": "raw", "version": "1"},
            }
            return self.reply(writer, 200, answer(message, result), {"Mcp-Session-Id": issued} if issued else {})
        if path == "/listen" and rpc == "server/discover":
            result = {
                "resultType": "complete",
                "supportedVersions": [STATELESS],
                "capabilities": {"tools": {}},
                "ttlMs": 0,
                "cacheScope": "private",
            }
            return self.reply(writer, 200, answer(message, result))
        if path == "/listen" and rpc == "subscriptions/listen":
            return await self.hold(reader, writer, message)
        entry["executed"] = True
        tool = message.get("params", {}).get("name") if path in SESSIONS and rpc == "tools/call" else None
        if tool == "flood":
            writer.write(EVENTS + b"Connection: close\r\n\r\n")
            await self.flood(writer, message["params"]["arguments"]["bytes"])
            writer.write(f"event: message\ndata: {json.dumps(answer(message, DONE))}\n\n".encode())
            await writer.drain()
            raise ConnectionError
        if tool == "haunt":
            return await self.haunt(reader, message["params"]["arguments"])
        if tool == "cue":
            self.told.clear()
            self.cue.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.told.wait(), 0.5)
            return self.reply(writer, 200, answer(message, DONE))
        if path == "/tools" and rpc == "tools/list":
            schema: dict[str, Any] = {"type": "object"}
            for _ in range(int(query["depth"])):
                schema = {"type": "object", "properties": {"x": schema}}
            return self.reply(writer, 200, answer(message, {"tools": [{"name": "echo", "inputSchema": schema}]}))
        if path == "/events" and rpc == "tools/call":
            self.calls.append(message)
            return await self.play(writer, len(self.calls) - 1, 0)
        arguments = message.get("params", {}).get("arguments", {})
        await asyncio.sleep(int(arguments.get("ms", query.get("ms", 0))) / 1000)
        text = json.dumps(arguments, ensure_ascii=False)
        if "bytes" in query:
            text = "x" * int(query["bytes"])
        self.reply(writer, 200, answer(message, {"content": [{"type": "text", "text": text}], "resultType": "complete"}))

    def reply(
        self, writer: asyncio.StreamWriter, status: int, body: Any, more: dict[str, str] | None = None
    ) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Content-Type": "application/json", **(more or {})} if body is not None else dict(more or {})
        if status != 204:
            fields["Content-Length"] = str(len(data))
        head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        writer.write(head.encode() + data)

    async def ignore(self, reader: asyncio.StreamReader) -> None:
        """Says nothing until the other side closes."""
        self.unanswered += 1
        try:
            await reader.read(1)
        finally:
            self.unanswered -= 1
        raise ConnectionError

    async def hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listen: Any) -> None:
        """An event stream without end, until the other side closes."""
        writer.write(EVENTS + b"Transfer-Encoding: chunked\r\n\r\n")
        if listen is not None:
            self.event(writer, listen, "notifications/subscriptions/acknowledged")
        self.streams[writer] = listen
        await writer.drain()
        await reader.read(1)
        raise ConnectionError

    async def flood(self, writer: asyncio.StreamWriter, total: int, frame: bytes = b"%s") -> None:
        """Events of this size together; every piece but the last ends in the middle of one."""
        data = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x" * 65536}}
        event = f"event: message\ndata: {json.dumps(data)}\n\n".encode()
        half = len(event) // 2
        for n in range(total // len(event) + 1):
            piece = event[half:] + event[:half] if n else event[:half]
            writer.write(frame.replace(b"%x", b"%x" % len(piece)).replace(b"%s", piece))
            await writer.drain()
            self.flooded += len(piece)
        piece = event[half:]
        writer.write(frame.replace(b"%x", b"%x" % len(piece)).replace(b"%s", piece))
        await writer.drain()
        self.flooded += len(piece)

    async def without_end(self, writer: asyncio.StreamWriter, kind: str) -> None:
        if kind != "events":
            status = 500 if kind == "refusal" else 200
            media = "text/plain" if kind == "text" else "application/json"
            head = f"HTTP/1.1 {status} Said\r\nContent-Type: {media}\r\nConnection: close\r\n\r\n{{"
            writer.write(head.encode())
            while True:
                writer.write(b" " * 65536)
                await writer.drain()
                self.flooded += 65536
        writer.write(EVENTS + b"Connection: close\r\n\r\n")
        await self.flood(writer, 1 << 40)

    async def haunt(self, reader: asyncio.StreamReader, said: dict[str, Any]) -> None:
        """Says something on every GET stream when it is cued, whether or not its caller is still there."""

        async def wait() -> None:
            await self.cue.wait()
            self.cue.clear()
            for writer in list(self.streams):
                self.chunk(writer, f"data: {json.dumps({'jsonrpc': '2.0', **said})}\n\n".encode())

        task = asyncio.create_task(wait())
        self.floods.add(task)
        task.add_done_callback(self.floods.discard)
        await reader.read(1)
        raise ConnectionError

    def chunk(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def play(self, writer: asyncio.StreamWriter, call: int, start: int) -> None:
        """The events of a call of /events from this one on, up to its answer or to where it breaks."""
        message = self.calls[call]
        params = message["params"]
        wanted = {"count": 0, "ms": 0, "bytes": 0, "breaks": 0, "retry": None, "empty": "", "pause": 0, **params["arguments"]}
        writer.write(EVENTS + b"Connection: close\r\n\r\n")
        if wanted["retry"] is not None:
            writer.write(b"retry: %d\n\n" % wanted["retry"])
        if start and wanted["empty"]:
            if wanted["empty"] == "another-id":
                writer.write(f"id: up-{call}-{start - 1}\ndata: \n\n".encode())
            await writer.drain()
            raise ConnectionError
        for n in range(start, wanted["count"] + 1):
            if wanted["breaks"] and start == 0 and n == wanted["breaks"]:
                break
            if n < wanted["count"]:
                token = params.get("_meta", {}).get("progressToken")
                progress = {"progressToken": token, "progress": n, "message": f"{n} " + "x" * wanted["bytes"]}
                data: Any = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
            else:
                await asyncio.sleep(wanted["pause"] / 1000)
                data = answer(message, {"content": [{"type": "text", "text": "done"}]})
            writer.write(f"id: up-{call}-{n}\nevent: message\ndata: {json.dumps(data)}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(wanted["ms"] / 1000)
        await writer.drain()
        raise ConnectionError

    async def resume(self, writer: asyncio.StreamWriter, last: str) -> None:
        _, call, n = last.split("-")
        if not self.calls[int(call)]["params"]["arguments"].get("resume", True):
            return self.reply(writer, 405, {"error": "no"})
        await self.play(writer, int(call), int(n) + 1)

    def event(self, writer: asyncio.StreamWriter, listen: Any, method: str) -> None:
        params = {} if listen is None else {"_meta": {"io.modelcontextprotocol/subscriptionId": listen["id"]}}
        data = json.dumps({"jsonrpc": "2.0", "method": method, "params": params})
        self.chunk(writer, f"event: message\r\ndata: {data}\r\n\r\n".encode())

    async def control(self, action: str, query: dict[str, str]) -> Any:
        if action == "broadcast":
            for writer, listen in list(self.streams.items()):
                self.event(writer, listen, "notifications/tools/list_changed")
            return {"streams": len(self.streams)}
        if action in ("forget", "restart"):
            forgotten, self.sessions = len(self.sessions), set()
            for writer in list(self.streams) if action == "restart" else ():
                writer.close()
            return {"forgotten": forgotten}
        if action == "flood":
            for writer in self.streams:
                task = asyncio.create_task(self.flood(writer, int(query["bytes"]), b"%x\r\n%s\r\n"))
                self.floods.add(task)
                task.add_done_callback(self.floods.discard)
            return {"streams": len(self.streams)}
        if action == "clear":
            self.journal = []
        counts = {"streams": len(self.streams), "unanswered": self.unanswered, "sessions": len(self.sessions)}
        counts["flooded"] = self.flooded
        return {"entries": self.journal, **counts}


def answer(message: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


async def main() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    upstream = Upstream()
    await asyncio.start_server(upstream.serve, sock=listener, backlog=4096, limit=16 * 1024 * 1024)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
