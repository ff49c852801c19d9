# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Every HTTP upstream of the storm in one process: does with each call what its plan says (plans.py), and writes the
call's number to the ledger first. What no plan decides comes from the seed.

usage: upstream.py LEDGER SEED [--calm]      (the first line on stdout is {"port": N}; --calm: no plan, no fault)

    /sessions /shared   handshake with session ids; GET streams, which break and can be resumed
    /plain              handshake without sessions, no GET
    /stateless          2026-07-28 only
    /pool               handshake with sessions, which belong to the token that opened them; the first token of the pool is
                        refused now and then
    /sse, /message      HTTP+SSE of 2024-11-05
"""

import asyncio
import collections
import json
import os
import random
import re
import secrets
import socket
import sys
import time
import urllib.parse

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
STATELESS = "2026-07-28"
NUMBER = re.compile(r"nonce-([0-9]+)-end")
REMEMBERED = 5_000
INBOUND = "CANARY-inbound"
FIRST = "CANARY-pool0"
"""How tokens of callers, and the first token of the pool, begin."""
SESSION_PATHS = ("/sessions", "/shared", "/pool")


class Calm(random.Random):
    """Nothing happens that happens now and then only."""

    def random(self):
        return 0.999


class Closed(Exception):
    """Nothing more happens on this connection."""


class Session:
    def __init__(self, owner):
        self.owner = owner
        self.is_shared = owner[0] == "/shared"
        self.stream = None
        self.sent = 0
        self.missed = collections.deque(maxlen=50)
        self.asked = {}

    def say(self, message):
        """Sends this on the session's GET stream, or keeps it for when that is resumed."""
        if self.is_shared:
            # Kept and told later it would come at a time when somebody else calls, and nobody could know whose it is.
            return self.stream is not None and event(self.stream, message)
        self.sent += 1
        said = b"id: g-%d\nevent: message\ndata: %s\n\n" % (self.sent, json.dumps(message).encode())
        self.missed.append((self.sent, said))
        if self.stream is not None:
            chunk(self.stream, said)


class Upstream:
    def __init__(self, ledger, seed, is_calm=False):
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND)
        self.random = Calm() if is_calm else random.Random(f"{seed} upstream")
        self.sessions = collections.OrderedDict()
        self.attempts = collections.OrderedDict()
        self.calls = collections.OrderedDict()
        """Broken answer streams, by number: the events that are left, by their ids."""
        self.channels = collections.OrderedDict()
        self.tasks = set()
        self.busy = collections.Counter()
        """Requests that are being answered."""

    def note(self, text):
        os.write(self.ledger, text.encode() + b"\n")

    def later(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader, writer):
        writer.transport.set_write_buffer_limits(high=256 * 1024)
        try:
            while True:
                await self.one(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, Closed, TimeoutError):
            pass
        finally:
            writer.close()

    async def one(self, reader, writer):
        raw = await reader.readuntil(b"\r\n\r\n")
        start, *lines = raw[:-4].decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        if target == "/control":
            said = {"busy": dict(self.busy), "sessions": collections.Counter(s.owner[0] for s in self.sessions.values())}
            return reply(writer, 200, said)
        what = f"{method} {urllib.parse.urlsplit(target).path}"
        self.busy[what] += 1
        try:
            await self.answer(reader, writer, raw, method, target, fields, body)
            await writer.drain()
        finally:
            self.busy[what] -= 1

    async def answer(self, reader, writer, raw, method, target, fields, body):
        if INBOUND.encode() in raw or INBOUND.encode() in body:
            self.note("finding a caller's token came to an upstream: " + repr(raw[:500]))
        url = urllib.parse.urlsplit(target)
        token = fields.get("authorization", "").removeprefix("Bearer ")
        if url.path == "/sse" and method == "GET":
            await self.channel(reader, writer, token)
        if url.path == "/message":
            return await self.channel_message(writer, int(urllib.parse.parse_qs(url.query)["n"][0]), token, json.loads(body))
        session = self.sessions.get(fields.get("mcp-session-id"))
        if session is not None and session.owner != (url.path, token):
            self.note(f"finding a session of {session.owner[0]} came to {url.path}, or with the token of another")
        if method == "GET":
            return await self.get(reader, writer, url.path, session, fields)
        if method == "DELETE":
            self.sessions.pop(fields.get("mcp-session-id"), None)
            self.note("deleted")
            return reply(writer, 204 if session else 404, None)
        message = json.loads(body)
        await self.post(reader, writer, url.path, token, session, fields, message)

    # Streamable HTTP.

    async def get(self, reader, writer, path, session, fields):
        last = fields.get("last-event-id", "")
        if last.startswith("c-"):
            number, _, at = last[2:].partition("-")
            events = self.calls.get(int(number))
            if events is None:
                return reply(writer, 404, {"error": "gone"})
            self.note("resumed")
            begin(writer)
            for n, (said, wait) in enumerate(events, 1):
                if n > int(at):
                    chunk(writer, said)
                    await writer.drain()
                    await asyncio.sleep(wait)
            return writer.write(b"0\r\n\r\n")
        if path not in SESSION_PATHS:
            return reply(writer, 405, None)
        if session is None:
            return reply(writer, 404, {"error": "no such session"})
        if self.random.random() < 0.1:
            return reply(writer, self.random.choice([405, 500, 503, 429]), None)
        if self.random.random() < 0.15:
            await asyncio.sleep(self.random.random() * 2)
        begin(writer)
        session.stream = writer
        if last.startswith("g-"):
            for n, said in list(session.missed):
                if n > int(last[2:]):
                    chunk(writer, said)
        try:
            async with asyncio.timeout(30 if self.random.random() < 0.5 else self.random.random() * 4):
                await writer.drain()
                await reader.read(1)
        except TimeoutError:
            if self.random.random() < 0.5:
                reset(writer)
            else:
                writer.write(b"0\r\n\r\n")
        finally:
            if session.stream is writer:
                session.stream = None
        raise Closed

    async def post(self, reader, writer, path, token, session, fields, message):
        rpc, params = message.get("method"), message.get("params", {})
        if path == "/pool" and token.startswith(FIRST) and self.random.random() < 0.03:
            return reply(writer, self.random.choice([401, 403]), {"error": "no"}, {"WWW-Authenticate": "Bearer"})
        if path in SESSION_PATHS and rpc != "initialize" and session is None:
            return reply(writer, 404 if "mcp-session-id" in fields else 400, {"error": "no such session"})
        if rpc is None:
            waiting = session and session.asked.pop(message.get("id"), None)
            if waiting and not waiting.done():
                waiting.set_result(message.get("result", message.get("error")))
            return reply(writer, 202, None)
        if "id" not in message:
            return reply(writer, 202, None)
        if rpc == "initialize":
            return await self.initialize(writer, path, token, message)
        if rpc == "tools/call":
            return await self.call(reader, writer, path, session, fields, message)
        if rpc == "subscriptions/listen":
            begin(writer)
            meta = {"_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]}}
            event(writer, {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": meta})
            await writer.drain()
            try:
                async with asyncio.timeout(self.random.random() * 10):
                    await reader.read(1)
            except TimeoutError:
                pass
            raise Closed
        result = {}
        if rpc == "server/discover":
            result = {"supportedVersions": [STATELESS], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
        elif rpc == "tools/list":
            result = {"tools": [{"name": "run", "inputSchema": {"type": "object"}}]}
        elif rpc == "resources/subscribe" and session is not None:
            updated = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": params["uri"]}}
            asyncio.get_running_loop().call_later(0.1, session.say, updated)
        if path == "/stateless":
            result["resultType"] = "complete"
        elif rpc == "server/discover":
            return reply(writer, 200, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}})
        reply(writer, 200, answer(message, result))

    async def initialize(self, writer, path, token, message):
        if path == "/stateless":
            return reply(writer, 400, {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}})
        draw = self.random.random()
        if draw < 0.02:
            return reply(writer, self.random.choice([500, 503, 429]), None)
        if draw < 0.03:
            reset(writer)
            raise Closed
        if draw < 0.1:
            await asyncio.sleep(self.random.random())
        more = {}
        if path in SESSION_PATHS:
            id = f"up-{secrets.token_hex(8)}"
            more["Mcp-Session-Id"] = id
            self.sessions[id] = Session((path, token))
            while len(self.sessions) > REMEMBERED:
                self.sessions.popitem(last=False)
        reply(writer, 200, answer(message, initialized(message)), more)

    async def call(self, reader, writer, path, session, fields, message):
        arguments = message["params"]["arguments"]
        nonce, plan = arguments["nonce"], arguments.get("plan", {})
        fault = self.fault(nonce, plan)
        if fault in ("reset-before", "close-before"):
            if fault == "reset-before":
                reset(writer)
            raise Closed
        if fault == "404":
            self.sessions.pop(fields.get("mcp-session-id"), None)
            return reply(writer, 404, {"error": "forgotten"})
        if fault == "slow-refusal":
            await asyncio.sleep(0.3)
            return reply(writer, 503, {"error": "as planned"}, {"Retry-After": "1"})
        if fault in ("429", "503", "500", "401", "403", "421"):
            return reply(writer, int(fault), {"error": "as planned"})
        self.note(f"{NUMBER.search(nonce)[1]} {path} {fault} {time.monotonic():.3f}")
        if plan.get("log") and session is not None and self.random.random() < 0.5:
            session.say(log(nonce))
            if session.is_shared:
                await asyncio.sleep(0.7)  # so that it comes before the answer, on whatever connections
        if plan.get("stream"):
            return await self.stream(reader, writer, session, message, nonce, plan, fault)
        await asyncio.sleep(plan.get("delay", 0))
        whole = json.dumps(result(message, nonce, plan)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(whole)
        if fault in ("reset-in-head", "close-in-head"):
            writer.write(head[:30])
        elif fault == "garbage-head":
            writer.write(b"HTTP/1.1 2x0 what\r\nno colon\r\n\r\n")
        elif fault == "garbage-body":
            return reply(writer, 200, b'{"jsonrpc":"2.0","id":')
        elif fault == "empty":
            return reply(writer, 200, b"")
        elif fault in ("reset-large", "cut-large", "truncate"):
            writer.write(head + whole[: len(whole) * 2 // 3])
            await writer.drain()
            await asyncio.sleep(0.01)
        elif fault == "chunk-cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%s" % (len(whole) + 10, whole))
        elif fault == "endless":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(32):
                writer.write(b"10000\r\n%s\r\n" % (b" " * 65536))
                await writer.drain()
                await asyncio.sleep(0.01)
        elif fault == "hang":
            await self.hang(reader)
        else:
            return writer.write(head + whole)
        await writer.drain()
        if fault.startswith("reset"):
            reset(writer)
        raise Closed

    async def hang(self, reader):
        async with asyncio.timeout(20):
            await reader.read(1)
        raise Closed

    def fault(self, nonce, plan):
        """What is planned for this attempt."""
        if "fault" not in plan:
            return None
        made = self.attempts[nonce] = self.attempts.pop(nonce, 0) + 1
        while len(self.attempts) > REMEMBERED:
            self.attempts.popitem(last=False)
        return plan["fault"] if made <= plan.get("times", 1) else None

    async def stream(self, reader, writer, session, message, nonce, plan, fault):
        number = int(NUMBER.search(nonce)[1])
        token = message["params"].get("_meta", {}).get("progressToken")
        events = []
        for step in range(plan.get("progress", 0)):
            progress = {"progressToken": token, "progress": step, "message": nonce}
            said = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
            events.append((said if token is not None else log(nonce), plan.get("every", 0)))
        events += [(log(nonce), 0)] * plan.get("log", 0)
        begin(writer)
        told = None
        if plan.get("ask") and session is not None and not plan.get("breaks"):
            ask = f"ask-{nonce}"
            waiting = session.asked[ask] = asyncio.get_running_loop().create_future()
            params = {"message": nonce, "requestedSchema": {"type": "object", "properties": {}}}
            event(writer, {"jsonrpc": "2.0", "id": ask, "method": "elicitation/create", "params": params})
            await writer.drain()
            try:
                told = await asyncio.wait_for(waiting, 1.5)
            except TimeoutError:
                pass
            session.asked.pop(ask, None)
        events.append((result(message, nonce, plan, told), 0))
        ids = plan.get("ids")
        texts = []
        for n, (said, wait) in enumerate(events, 1):
            id = b"id: c-%d-%d\n" % (number, n) if ids else b""
            texts.append((id + b"event: message\ndata: %s\n\n" % json.dumps(said).encode(), wait))
        if ids:
            self.calls[number] = texts
            while len(self.calls) > 500:
                self.calls.popitem(last=False)
        if fault == "comments":
            for _ in range(200):
                chunk(writer, b": nothing\n\n")
        if fault == "garbage-event":
            chunk(writer, b"data: not json\n\n")
        for n, (text, wait) in enumerate(texts, 1):
            if n == len(texts):
                await asyncio.sleep(plan.get("delay", 0))
                if fault == "hang":
                    await writer.drain()
                    await self.hang(reader)
                if fault == "sse-cut":
                    writer.write(b"0\r\n\r\n")
                if fault == "sse-mid-event":
                    chunk(writer, text[: len(text) // 2])
                if fault in ("sse-cut", "sse-mid-event", "sse-reset"):
                    await writer.drain()
                    if fault == "sse-reset":
                        reset(writer)
                    self.calls.pop(number, None)  # it can be resumed nowhere
                    raise Closed
            chunk(writer, text)
            await writer.drain()
            if n == plan.get("breaks"):
                await asyncio.sleep(0.02)
                raise Closed
            await asyncio.sleep(wait)
        writer.write(b"0\r\n\r\n")

    # HTTP+SSE.

    async def channel(self, reader, writer, token):
        if self.random.random() < 0.03:
            reply(writer, self.random.choice([500, 503]), None)
            raise Closed
        number = len(self.channels) + 1
        begin(writer)
        self.channels[number] = (writer, token)
        chunk(writer, b"event: endpoint\ndata: /message?n=%d\n\n" % number)
        await writer.drain()
        try:
            await reader.read(1)
        finally:
            self.channels[number] = None
        raise Closed

    async def channel_message(self, writer, number, token, message):
        channel = self.channels.get(number)
        if channel is None:
            return reply(writer, 404, b"Could not find session")
        stream, owner = channel
        if owner != token:
            self.note("finding a message to a stream of another token")
        rpc, params = message.get("method"), message.get("params", {})
        if rpc != "tools/call":
            reply(writer, 202, b"Accepted")
            if rpc is None or "id" not in message:
                return
            if rpc == "initialize":
                event(stream, answer(message, initialized(message)))
            elif rpc == "tools/list":
                event(stream, answer(message, {"tools": [{"name": "run", "inputSchema": {"type": "object"}}]}))
            else:
                event(stream, answer(message, {}))
            if rpc == "resources/subscribe":
                said = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": params["uri"]}}
                asyncio.get_running_loop().call_later(0.1, event, stream, said)
            return
        nonce, plan = params["arguments"]["nonce"], params["arguments"].get("plan", {})
        fault = self.fault(nonce, plan)
        if fault == "post-reset":
            reset(writer)
            raise Closed
        if fault in ("post-404", "post-429", "post-503", "post-401"):
            return reply(writer, int(fault[5:]), b"as planned")
        self.note(f"{NUMBER.search(nonce)[1]} /sse {fault} {time.monotonic():.3f}")
        self.later(self.channel_call(stream, message, nonce, plan, fault))
        if fault == "post-late":
            await asyncio.sleep(0.2)
        reply(writer, 202, b"Accepted")

    async def channel_call(self, stream, message, nonce, plan, fault):
        token = message["params"].get("_meta", {}).get("progressToken")
        for step in range(plan.get("progress", 0)):
            if token is not None:
                progress = {"progressToken": token, "progress": step, "message": nonce}
                event(stream, {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
            await asyncio.sleep(plan.get("every", 0))
        for _ in range(plan.get("log", 0)):
            event(stream, log(nonce))
        await asyncio.sleep(plan.get("delay", 0))
        if stream.is_closing():
            return
        said = result(message, nonce, plan)
        if fault == "silent":
            return
        if fault == "stream-end":
            stream.write(b"0\r\n\r\n")
            return stream.close()
        if fault == "stream-reset":
            return reset(stream)
        if fault == "late":
            await asyncio.sleep(4)
        if fault == "garbage":
            for data in (b"not json", b"[1,2", b"null", b"{}"):
                chunk(stream, b"event: message\ndata: %s\n\n" % data)
        if fault == "foreign-id":
            event(stream, {**said, "id": "nobody"})
        if fault == "retyped-id":
            return event(stream, {**said, "id": str(said["id"]) if isinstance(said["id"], int) else 0})
        event(stream, said)
        if fault == "two-answers":
            event(stream, said)


def initialized(message):
    asked = message["params"].get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[-1],
        "capabilities": {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}},
        "serverInfo": {"name": "storm", "version": "1"},
    }


def log(nonce):
    return {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": nonce}}


def result(message, nonce, plan, told=None):
    text = json.dumps({"nonce": nonce, "told": told, "pad": "x" * plan.get("size", 0)})
    return answer(message, {"resultType": "complete", "content": [{"type": "text", "text": text}]})


def answer(message, result):
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def begin(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")


def chunk(writer, data):
    if not writer.is_closing():
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def event(writer, said):
    chunk(writer, b"event: message\ndata: %s\n\n" % json.dumps(said).encode())


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


def reply(writer, status, body, more=None):
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Type": "application/json", **(more or {})} if body is not None else dict(more or {})
    if status != 204:
        fields["Content-Length"] = str(len(data))
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    writer.write(head.encode() + data)


async def main():
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    upstream = Upstream(sys.argv[1], sys.argv[2], "--calm" in sys.argv)
    await asyncio.start_server(upstream.serve, sock=listener, backlog=2048, limit=16 * 1024 * 1024)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
