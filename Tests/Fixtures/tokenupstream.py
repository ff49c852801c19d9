#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""An MCP upstream that treats each bearer token as it is told, and records what arrives. Standard library only.

usage: tokenupstream.py PORT [--tls PEM]      (0: any; the first line on stdout is {"port": N, "tls": M})

With a certificate the same upstream is also served over TLS, on a port of its own.

    /plain       both eras, without sessions
    /streams     the same, and GET streams are held open
    /sessions    handshake with session ids, which belong to the token that opened them: 403 to any other token, 404 to an
                 id that nobody has; GET streams are held open; DELETE ends a session
    /sse         HTTP+SSE of 2024-11-05, messages go to /message?session=N with the token that opened the stream

    POST /control/script     {"TOKEN": BEHAVIOUR, ...} or {"TOKEN": {"RPC METHOD": BEHAVIOUR, ..., "*": BEHAVIOUR}, ...};
                             adds to what was said before. A BEHAVIOUR is a status, or an object with `status`, `body` (text),
                             `fields` (a list of pairs), `ms` (before the head), `bodyMs` (before the body), `reset` (the
                             connection, before any answer), `hang`, `early` (the answer comes after the head of the request;
                             "close": then it closes, and says so; "stop": it reads no more, closes later and does not), `gate` (the answer comes when the gate is opened), `endless`
                             (the body of the answer never ends), or a list of those, used one after the other; the last stays.
                             200 is the ordinary answer. Method names of streams are GET and DELETE.
    GET  /control/journal    what arrived, in order, and the open streams;  /control/clear empties it and the script
    GET  /control/count      how many arrived of each method, without what they were
    GET  /control/go         opens the gate for those who wait at it
    POST /control/broadcast  sends a message on every GET stream, list_changed unless the body is another
    GET  /control/drop       ends every GET stream;  /control/hangup every stream of the old transport
    GET  /control/forget     forgets every session
    GET  /control/restart    forgets every session and ends every GET stream, as a server that starts anew

A session id that comes with another token than the one that opened it is kept in `strays`, which nothing empties.

Tools: `echo` (the text), `sleep` (`ms`), `whoami` (the token's number of requests so far), `state` (input_required with a
requestState, after `pad` characters), `task` (a task id; `flat`: at the top of the result), `ask` (asks the caller for its roots on the answer's stream, or with `aside` on the GET stream of the session, where a
question is lost if there is none, and says what it was told; `gated`: it does not wait for that, but for the gate),
`progress` (`count` notifications on a stream, `ms` apart), `break` (a stream that ends without the answer), `deny` (a
JSON-RPC error that says unauthorized). With the argument `stream` others answer on a stream, too.
"""

import asyncio
import collections
import hashlib
import json
import secrets
import socket
import ssl
import sys
import time
import urllib.parse

STATELESS = "2026-07-28"
VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


class Closed(Exception):
    """Nothing more is read from this connection."""


class Upstream:
    def __init__(self):
        self.clear()
        self.sessions = {}
        """The token that opened it, by session id."""
        self.streams = {}
        """The session of each open GET stream, by its writer."""
        self.legacy = {}
        """Writer and token of each stream of the old transport, by number."""
        self.answers = {}
        """What waits for a caller's answer, by session and id."""
        self.owners = {}
        """As `sessions`, but with those that are over."""
        self.strays = []
        self.gate = asyncio.Event()

    def clear(self):
        self.journal = []
        self.script = {}
        self.used = {}

    def behaviour(self, token, rpc):
        told = self.script.get(token, 200)
        key = token
        if isinstance(told, dict) and not {"status", "reset", "hang", "body"} & set(told):
            key = f"{token} {rpc}" if rpc in told else f"{token} *"
            told = told.get(rpc, told.get("*", 200))
        if isinstance(told, list):
            n = self.used.get(key, 0)
            self.used[key] = n + 1
            told = told[min(n, len(told) - 1)]
        return told if isinstance(told, dict) else {"status": told}

    async def serve(self, reader, writer):
        try:
            while True:
                await self.one(reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, Closed):
            pass
        finally:
            self.streams.pop(writer, None)
            writer.close()

    async def one(self, reader, writer):
        raw = await reader.readuntil(b"\r\n\r\n")
        start, *lines = raw[:-4].decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        pairs = [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]
        fields = dict(pairs)
        url = urllib.parse.urlsplit(target)
        length = int(fields.get("content-length", 0))
        given = [value for name, value in pairs if name == "authorization"]
        token = given[0].removeprefix("Bearer ") if given else ""
        early = self.script.get(token)
        if isinstance(early, dict) and early.get("early"):
            self.journal.append({"method": method, "path": url.path, "token": token, "status": early["status"], "early": True})
            kind = early["early"]
            if kind is not True:
                writer.transport.pause_reading()
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.reply(writer, early["status"], early.get("body", ""), {"Connection": "close"} if kind == "close" else {})
            await writer.drain()
            if kind is not True:
                await asyncio.sleep(0.3)
                raise Closed
            await reader.readexactly(length)
            return
        body = await reader.readexactly(length)
        if url.path.startswith("/control/"):
            return self.reply(writer, 200, json.dumps(self.control(url.path.rpartition("/")[2], body)), {})
        message = json.loads(body) if body else {}
        entry = {
            "method": method,
            "path": url.path,
            "target": target,
            "token": token,
            "authorizations": len(given),
            "session": fields.get("mcp-session-id"),
            "last": fields.get("last-event-id"),
            "rpc": message.get("method"),
            "id": message.get("id"),
            "body": body.decode() if length <= 4096 else None,
            "digest": hashlib.sha256(body).hexdigest(),
            "fields": fields,
            "peer": writer.get_extra_info("peername")[1],
            "t": time.monotonic(),
            "status": None,
        }
        self.journal.append(entry)
        owner = self.owners.get(entry["session"], token)
        if owner != token:
            self.strays.append({"session": entry["session"], "owner": owner, "token": token, "rpc": entry["rpc"] or method})
        told = self.behaviour(token, message.get("method") or method)
        await asyncio.sleep(told.get("ms", 0) / 1000)
        if told.get("gate"):
            await self.gate.wait()
        if told.get("reset"):
            linger = b"\x01\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            raise Closed
        if told.get("hang"):
            await reader.read(1)
            raise Closed
        if told.get("status", 200) != 200:
            entry["status"] = told["status"]
            text = told.get("body", json.dumps({"error": f"refused {token}"}))
            if "bodyMs" in told:
                head = f"HTTP/1.1 {told['status']} Said\r\nContent-Length: {len(text)}\r\n\r\n"
                writer.write(head.encode())
                await writer.drain()
                await asyncio.sleep(told["bodyMs"] / 1000)
                writer.write(text.encode())
                return
            if told.get("endless"):
                writer.write(f"HTTP/1.1 {told['status']} Said\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
                while not writer.is_closing():
                    writer.write(b"1\r\n.\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.01)
                raise Closed
            return self.reply(writer, told["status"], text, told.get("fields", []))
        await self.answer(reader, writer, method, url, token, fields, message, entry)

    async def answer(self, reader, writer, method, url, token, fields, message, entry):
        entry["status"] = 200
        session = fields.get("mcp-session-id")
        if url.path == "/sessions":
            if message.get("method") == "initialize":
                session = None
            elif session not in self.sessions:
                entry["status"] = 404 if session else 400
                # As the SDKs of Python say it: the error is not about the message.
                text = json.dumps(error({"id": "server-error"}, "no such session"))
                return self.reply(writer, entry["status"], text, {})
            elif self.sessions[session] != token:
                entry["status"] = 403
                return self.reply(writer, 403, json.dumps(error(message, "session user mismatch")), {})
        if method == "GET" and url.path == "/sse":
            return await self.legacy_stream(reader, writer, token, entry)
        if method == "GET" and url.path in ("/sessions", "/streams"):
            self.begin_stream(writer)
            self.streams[writer] = session
            await writer.drain()
            await reader.read(1)
            raise Closed
        if method == "DELETE" and url.path == "/sessions":
            del self.sessions[session]
            return self.reply(writer, 204, None, {})
        if method != "POST":
            entry["status"] = 405
            return self.reply(writer, 405, "", {"Allow": "POST"})
        if url.path == "/message":
            return await self.legacy_message(writer, url, token, message, entry)
        if "id" not in message or "method" not in message:
            self.told(session, message)
            return self.reply(writer, 202, None, {})
        if url.path == "/sessions" and message["method"] == "initialize":
            issued = f"up-{secrets.token_hex(8)}"
            self.sessions[issued] = self.owners[issued] = token
            entry["issued"] = issued
            return self.reply(writer, 200, json.dumps(self.result(message, token)), {"Mcp-Session-Id": issued})
        tool = message.get("params", {}).get("name") if message["method"] == "tools/call" else None
        if tool in ("ask", "progress", "break"):
            return await self.stream(writer, tool, session, message)
        if tool == "deny":
            return self.reply(writer, 200, json.dumps(error(message, "unauthorized")), {})
        if tool == "sleep":
            await asyncio.sleep(message["params"]["arguments"]["ms"] / 1000)
        result = self.result(message, token)
        if tool and message["params"].get("arguments", {}).get("stream"):
            self.begin_stream(writer)
            self.event(writer, result)
            return writer.write(b"0\r\n\r\n")
        self.reply(writer, 200, json.dumps(result), {})

    def told(self, session, message):
        waiting = self.answers.pop((session, json.dumps(message.get("id"))), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def result(self, message, token):
        params = message.get("params", {})
        arguments = params.get("arguments", {})
        match message["method"]:
            case "initialize":
                asked = params.get("protocolVersion")
                result = {
                    "protocolVersion": asked if asked in VERSIONS else VERSIONS[-1],
                    "capabilities": {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}},
                    "serverInfo": {"name": "token", "version": "1"},
                }
            case "server/discover":
                result = {"supportedVersions": [STATELESS], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
            case "tools/list":
                names = ["echo", *([] if not token.endswith("-more") else ["extra"])]
                result = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
            case "tools/call" if params.get("name") == "state" and "requestState" not in params:
                inputs = {"pad": "x" * arguments["pad"]} if "pad" in arguments else {}
                state = f"s-{secrets.token_hex(8)}"
                return reply(message, {"resultType": "input_required", "inputRequests": inputs, "requestState": state})
            case "tools/call" if params.get("name") == "task":
                task = {"taskId": f"t-{secrets.token_hex(8)}", "status": "working"}
                return reply(message, {"resultType": "task", **task} if arguments.get("flat") else {"task": task})
            case "tools/call" if params.get("name") == "whoami":
                text = str(sum(entry.get("token") == token for entry in self.journal))
                result = {"content": [{"type": "text", "text": text}]}
            case "tools/call":
                result = {"content": [{"type": "text", "text": str(arguments.get("text", ""))}]}
            case _:
                result = {}
        if "_meta" in params and any(key.startswith("io.modelcontextprotocol/") for key in params["_meta"]):
            result = {"resultType": "complete", **result}
        return reply(message, result)

    async def stream(self, writer, tool, session, message):
        self.begin_stream(writer)
        arguments = message["params"].get("arguments", {})
        if tool == "break":
            await writer.drain()
            raise Closed
        if tool == "progress":
            token = message["params"].get("_meta", {}).get("progressToken")
            for n in range(arguments.get("count", 1)):
                params = {"progressToken": token, "progress": n}
                self.event(writer, {"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
                await writer.drain()
                await asyncio.sleep(arguments.get("ms", 0) / 1000)
            text = "done"
        else:
            # Every session counts its questions from 0, so that two of them use the same ids.
            waiting = self.answers[(session, "0")] = asyncio.get_running_loop().create_future()
            question = {"jsonrpc": "2.0", "id": 0, "method": "roots/list"}
            for stream in [w for w, s in self.streams.items() if s == session] if arguments.get("aside") else [writer]:
                self.event(stream, question)
                await stream.drain()
            if arguments.get("gated"):
                await self.gate.wait()
                text = "not told"
            else:
                text = json.dumps((await waiting).get("result"))
        self.event(writer, reply(message, {"content": [{"type": "text", "text": text}]}))
        writer.write(b"0\r\n\r\n")

    # The transport of 2024-11-05.

    async def legacy_stream(self, reader, writer, token, entry):
        number = entry["issued"] = str(len(self.legacy))
        self.legacy[number] = (writer, token)
        self.begin_stream(writer)
        self.event(writer, f"/message?session={number}", "endpoint")
        await writer.drain()
        await reader.read(1)
        del self.legacy[number]
        self.legacy[f"gone {number}"] = None
        raise Closed

    async def legacy_message(self, writer, url, token, message, entry):
        number = dict(urllib.parse.parse_qsl(url.query)).get("session")
        stream = self.legacy.get(number)
        if stream is None or stream[1] != token:
            entry["status"] = 404 if stream is None else 403
            return self.reply(writer, entry["status"], "", {})
        self.reply(writer, 202, None, {})
        if "id" in message and "method" in message:
            is_slow = message.get("params", {}).get("name") == "sleep"
            ms = message["params"]["arguments"]["ms"] if is_slow else 0
            # Others are answered meanwhile, on this connection too.
            answer = lambda: self.event(stream[0], self.result(message, token))
            asyncio.get_running_loop().call_later(ms / 1000, answer)

    # Bytes.

    def begin_stream(self, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def event(self, writer, data, name="message"):
        text = data if isinstance(data, str) else json.dumps(data)
        event = f"event: {name}\ndata: {text}\n\n".encode()
        if not writer.is_closing():
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))

    def reply(self, writer, status, text, more):
        pairs = list(more.items()) if isinstance(more, dict) else [tuple(pair) for pair in more]
        data = b"" if text is None else text.encode()
        if text is not None and not any(name.lower() == "content-type" for name, _ in pairs):
            pairs.append(("Content-Type", "application/json"))
        if status != 204:
            pairs.append(("Content-Length", str(len(data))))
        head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs) + "\r\n"
        writer.write(head.encode() + data)

    def control(self, action, body):
        if action == "script":
            self.script.update(json.loads(body))
        if action == "clear":
            self.clear()
        if action == "broadcast":
            said = json.loads(body) if body else {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
            for writer in self.streams:
                self.event(writer, said)
        if action in ("drop", "restart"):
            for writer in self.streams:
                writer.transport.abort()
        if action == "hangup":
            for stream in filter(None, self.legacy.values()):
                stream[0].close()
        if action in ("forget", "restart"):
            self.sessions.clear()
        if action == "go":
            self.gate.set()
            self.gate = asyncio.Event()
        if action == "count":
            return collections.Counter(entry.get("rpc") or entry["method"] for entry in self.journal)
        return {
            "entries": self.journal,
            "streams": list(self.streams.values()),
            "sessions": self.sessions,
            "strays": self.strays,
        }


def reply(message, result):
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def error(message, text):
    return {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": -32600, "message": text}}


async def listen(serve, port, context=None):
    """Serves on this port of loopback; gives the port."""
    # With the protocol named asyncio turns off the delay of small writes.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    await asyncio.start_server(serve, sock=listener, backlog=4096, limit=16 * 1024 * 1024, ssl=context)
    return listener.getsockname()[1]


async def main():
    upstream = Upstream()
    ports = {"port": await listen(upstream.serve, int(sys.argv[1]))}
    if "--tls" in sys.argv:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[sys.argv.index("--tls") + 1])
        ports["tls"] = await listen(upstream.serve, 0, context)
    print(json.dumps(ports), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
