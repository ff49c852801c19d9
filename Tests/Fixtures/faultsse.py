#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A server of the HTTP+SSE transport of 2024-11-05 that misbehaves on demand. Standard library only.

usage: faultsse.py PORT        (0: any; the first line on stdout is {"port": N})

    GET  /sse/FAULT[/sse]      the stream; FAULT is one of FAULTS, and `ok` behaves
    POST /message/FAULT?session=N

    GET  /control/journal      every message received, in order, with what became of it, and the open streams
    GET  /control/faults       the names;   /control/clear empties the journal;   /control/drop ends every stream;
                               /control/announce says list_changed on each, /control/flood?bytes=N so many of log messages,
                               each piece but the last ending in the middle of one

The tool `echo` always works where the fault lets anything work, and so does `slow`, `ms` later; the tool `fault` does what
the fault says.
"""

import asyncio
import json
import socket
import sys
import time
import urllib.parse

FAULTS = """ok no-endpoint endpoint-late endpoint-cross endpoint-cross-port endpoint-absolute endpoint-relative
endpoint-garbage endpoint-twice end-mid-call rst-mid-call end-in-event silent post-hang post-reset post-202-late
post-400 post-404 post-404-once post-413 post-429 post-401 post-403 post-500 post-503 post-redirect garbage-data
foreign-id retyped-id two-answers answer-in-post request-same-id huge-event endless-line comments crlf-bom
get-404 get-405 get-500 get-401 get-html get-redirect get-hang""".split()
NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


class Session:
    """One open stream."""

    def __init__(self, number, fault, writer):
        self.number = number
        self.fault = fault
        self.writer = writer

    def event(self, data, name="message"):
        raw = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
        self.raw(b"event: %s\ndata: %s\n\n" % (name.encode(), raw))

    def raw(self, data):
        if not self.writer.is_closing():
            self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self):
        """The proper end of the stream."""
        if not self.writer.is_closing():
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()
            self.writer.close()

    def reset(self):
        linger = b"\x01\0\0\0\0\0\0\0"
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


class Upstream:
    """The state of the server."""

    def __init__(self):
        self.journal = []
        self.sessions = {}
        self.made = 0
        self.port = 0
        self.forgotten = set()
        self.flooded = 0
        self.floods = []

    async def serve(self, reader, writer):
        try:
            while True:
                raw = await reader.readuntil(b"\r\n\r\n")
                start, *lines = raw[:-4].decode("latin-1").split("\r\n")
                method, target, _ = start.split(" ")
                fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                url = urllib.parse.urlsplit(target)
                kind, _, fault = url.path.lstrip("/").partition("/")
                if kind == "control":
                    reply(writer, 200, await self.control(fault, url.query))
                elif kind == "sse" and method == "GET" and "message/" not in fault:
                    fault = fault.removesuffix("/sse")  # the SDKs' driver tells the transport from the end of the path
                    if not await self.stream(reader, writer, fault, fields):
                        return
                elif method == "POST" and (kind == "message" or "message/" in fault):
                    number = int(dict(urllib.parse.parse_qsl(url.query)).get("session", 0))
                    await self.post(writer, fault.rpartition("/")[2], number, fields, json.loads(body))
                else:
                    self.note(fault, method, fields, {"method": None})
                    reply(writer, 405, {"error": "not here"}, Allow="GET" if kind == "sse" else "POST")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.sessions = {n: s for n, s in self.sessions.items() if s.writer is not writer}
            writer.close()

    def note(self, fault, method, fields, message):
        entry = {
            "fault": fault,
            "method": method,
            "rpc": message.get("method"),
            "id": message.get("id"),
            "message": message,
            "authorization": fields.get("authorization", ""),
            "fields": fields,
            "executed": False,
            "t": time.monotonic(),
        }
        self.journal.append(entry)
        return entry

    async def stream(self, reader, writer, fault, fields):
        """Serves a stream to its end; true if the connection can be used again."""
        self.note(fault, "GET", fields, {})
        refusals = {"get-404": 404, "get-405": 405, "get-500": 500, "get-401": 401}
        if fault in refusals:
            reply(writer, refusals[fault], {"error": "as asked"})
            return True
        if fault == "get-html":
            reply(writer, 200, b"<html>sign in</html>", **{"Content-Type": "text/html"})
            return True
        if fault == "get-redirect":
            reply(writer, 307, None, Location=f"http://localhost:{self.port}/sse/ok")
            return True
        if fault == "get-hang":
            await reader.read(1)
            return False
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.made += 1
        session = self.sessions[self.made] = Session(self.made, fault, writer)
        path = f"/message/{fault}?session={session.number}"
        endpoints = {
            "endpoint-cross": f"http://localhost:{self.port}{path}",
            "endpoint-cross-port": f"http://127.0.0.1:1{path}",
            "endpoint-absolute": f"http://127.0.0.1:{self.port}{path}",
            "endpoint-relative": path.lstrip("/"),
            "endpoint-garbage": "http://[::1:bad/\x01",
        }
        if fault == "crlf-bom":
            event = b"\xef\xbb\xbf: hello\r\nevent: endpoint\r\ndata: %s\r\nid: 1\r\nretry: 10\r\n\r\n" % path.encode()
            session.raw(event)
        elif fault == "no-endpoint":
            session.raw(b": nothing to say\n\n")
        else:
            if fault == "endpoint-late":
                session.event(NOTIFICATION)
            session.event(endpoints.get(fault, path).encode(), "endpoint")
            if fault == "endpoint-twice":
                session.event(f"http://localhost:{self.port}{path}".encode(), "endpoint")
        await writer.drain()
        await reader.read(1)
        return False

    async def post(self, writer, fault, number, fields, message):
        entry = self.note(fault, "POST", fields, message)
        session = self.sessions.get(number)
        if session is None or number in self.forgotten:
            return reply(writer, 404, b"Could not find session")
        if fault.startswith("post-") and is_fault(message):
            if not await self.refuse(writer, fault, session):
                return
        if fault == "answer-in-post" and is_fault(message):
            entry["executed"] = True
            return reply(writer, 200, answer(message))
        if fault != "post-202-late" or not is_fault(message):
            reply(writer, 202, b"Accepted")
            await writer.drain()
        if "id" not in message or "method" not in message:
            return
        entry["executed"] = True
        await self.answer(session, fault, message)
        if fault == "post-202-late" and is_fault(message):
            await asyncio.sleep(0.3)
            reply(writer, 202, b"Accepted")

    async def refuse(self, writer, fault, session):
        """True where the message is taken all the same."""
        what = fault.removeprefix("post-")
        if what == "202-late":
            return True
        if what == "404-once":
            self.forgotten.add(session.number)
            if len(self.forgotten) > 1:
                self.forgotten.discard(session.number)
                return True
            reply(writer, 404, b"Could not find session")
        elif what == "hang":
            await asyncio.sleep(600)
        elif what == "reset":
            Session(0, fault, writer).reset()
            raise ConnectionError
        elif what == "redirect":
            reply(writer, 307, None, Location=f"http://localhost:{self.port}/message/ok?session={session.number}")
        else:
            more = {"Retry-After": "2"} if what == "429" else {}
            reply(writer, int(what), b"as asked", **more)
        return False

    async def answer(self, session, fault, message):
        right = answer(message)
        if not is_fault(message):
            is_slow = message["method"] == "tools/call" and message["params"]["name"] == "slow"
            ms = message["params"]["arguments"]["ms"] if is_slow else 0
            # Others are answered meanwhile, on this connection too.
            return asyncio.get_running_loop().call_later(ms / 1000, session.event, right) if ms else session.event(right)
        id = message["id"]
        if fault == "end-mid-call":
            return await session.end()
        if fault == "rst-mid-call":
            return session.reset()
        if fault == "end-in-event":
            session.raw(b"event: message\ndata: " + json.dumps(right).encode()[:20])
            return await session.end()
        if fault == "silent":
            return
        if fault == "garbage-data":
            for garbage in (b"not json", b"[1,2", b"42", b"null", b"{}", b""):
                session.event(garbage)
        if fault == "foreign-id":
            session.event({**right, "id": "nobody-asked-this"})
            return session.event({**right, "id": 987654321})
        if fault == "retyped-id":
            return session.event({**right, "id": str(id) if isinstance(id, int) else 0})
        if fault == "request-same-id":
            session.event({"jsonrpc": "2.0", "id": id, "method": "ping"})
        if fault in ("huge-event", "endless-line"):
            session.raw(b"event: message\ndata: ")
            for _ in range(64 << 4):
                if session.writer.is_closing():
                    return
                session.raw(b"a" * 65536)
                await session.writer.drain()
            return session.raw(b"\n\n") if fault == "huge-event" else None
        if fault == "comments":
            for _ in range(20000):
                session.raw(b": keep-alive\n\n")
            session.event(b"what is this", "unknown-event")
        session.event(right)
        if fault == "two-answers":
            session.event(answer(message, "the second"))

    async def control(self, action, query):
        if action == "faults":
            return FAULTS
        if action == "clear":
            self.journal = []
        if action == "announce":
            for session in self.sessions.values():
                session.event(NOTIFICATION)
        if action == "flood":
            self.flooded = 0
            total = int(dict(urllib.parse.parse_qsl(query))["bytes"])
            self.floods = [asyncio.create_task(self.flood(session, total)) for session in self.sessions.values()]
        if action == "drop":
            for session in list(self.sessions.values()):
                await session.end()
        return {"entries": self.journal, "streams": len(self.sessions), "made": self.made, "flooded": self.flooded}

    async def flood(self, session, total):
        said = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x" * 65536}}
        event = b"event: message\ndata: " + json.dumps(said).encode() + b"\n\n"
        half = len(event) // 2
        session.raw(event[:half])
        for _ in range(total // len(event)):
            session.raw(event[half:] + event[:half])
            await session.writer.drain()
            self.flooded += len(event)
        session.raw(event[half:])
        self.flooded = total


def is_fault(message):
    return message.get("method") == "tools/call" and message["params"]["name"] == "fault"


def answer(message, text=None):
    """The answer of a server that behaves."""
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        version = params["protocolVersion"] if params["protocolVersion"] < "2026" else "2025-11-25"
        info = {"name": "faultsse", "version": "1"}
        result = {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": info}
    elif method == "tools/list":
        result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "fault")]}
    elif method == "tools/call":
        shown = json.dumps(params.get("arguments", {}), ensure_ascii=False) if text is None else text
        result = {"content": [{"type": "text", "text": shown}]}
    elif method in ("ping", "logging/setLevel"):
        result = {}
    else:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def reply(writer, status, body, **more):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/plain" if isinstance(body, bytes) else "application/json"
    fields = {"Content-Type": kind, "Content-Length": str(len(data)), **more}
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
    writer.write(head.encode() + data)


async def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    upstream = Upstream()
    upstream.port = listener.getsockname()[1]
    await asyncio.start_server(upstream.serve, sock=listener, backlog=1024, limit=16 * 1024 * 1024)
    print(json.dumps({"port": upstream.port}), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
