#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A server of the handshake era that answers each kind of message as its path says. Standard library only.

usage: probedupstream.py PORT     (0: any; the first line on stdout is {"port": N})

  /DISCOVER/INITIALIZE/GET    what `server/discover`, any other POST and GET are answered, each one of:
      a number    that HTTP status with a short text
      ok          properly: an answer to any request, or a stream with an `endpoint`
      html        200 and a page that asks people to sign in
      stream      200 and a stream that begins with `endpoint`, to a POST as well
      moved       302 to another origin, with a secret in its query
      close       nothing: the connection is closed
      hang        nothing at all
      A-then-B    A, and B once /control/turn was asked with this path behind it
  /message?session=N          where `endpoint` sends messages
  /control/journal            the messages that came, as [path, method]
"""

import asyncio
import json
import sys
import urllib.parse

TEXT = "text/plain"


def head(status, kind, length=None, *fields):
    lines = [f"HTTP/1.1 {status} As Asked", f"Content-Type: {kind}", *fields]
    lines.append("Connection: close" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(message):
    """The answer to a message of the handshake era; None where none is due."""
    if "id" not in message or "method" not in message:
        return None
    result = {"content": [{"type": "text", "text": "here"}]}
    if message["method"] == "initialize":
        identity = {"name": "probed", "version": "1"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": identity}
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()


class Server:
    def __init__(self):
        self.port = 0
        self.journal = []
        self.streams = {}
        self.turned = set()

    async def serve(self, reader, writer):
        try:
            while await self.one(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def one(self, reader, writer):
        """Answers one request; false if the connection is over."""
        first = await reader.readexactly(1)
        if not first.isalpha():
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")  # as to the beginning of TLS
            return False
        lines = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        verb, target, _ = lines[0].split(" ", 2)
        fields = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if ":" in line)}
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        url = urllib.parse.urlsplit(target)
        if url.path.startswith("/control/"):
            if url.path.startswith("/control/turn/"):
                self.turned.add(url.path.removeprefix("/control/turn"))
            said = json.dumps(self.journal).encode()
            writer.write(head(200, "application/json", len(said)) + said)
            return True
        message = json.loads(body) if verb == "POST" else {}
        self.journal.append([url.path, message.get("method") or verb])
        if url.path == "/message":
            writer.write(head(202, TEXT, 0))
            said = answer(message)
            if said:
                self.streams[urllib.parse.parse_qs(url.query)["session"][0]].write(b"data: " + said + b"\n\n")
            return True
        index = 2 if verb == "GET" else 0 if message.get("method") == "server/discover" else 1
        first, _, then = url.path.strip("/").split("/")[index].partition("-then-")
        behaviour = then if then and url.path in self.turned else first
        return await self.behave(behaviour, verb, message, reader, writer)

    async def behave(self, behaviour, verb, message, reader, writer):
        if behaviour == "close":
            return False
        if behaviour == "hang":
            await reader.read()
            return False
        if behaviour == "html":
            page = b"<html><title>Sign in</title></html>"
            writer.write(head(200, "text/html; charset=utf-8", len(page)) + page)
        elif behaviour == "moved":
            writer.write(head(302, TEXT, 0, f"Location: http://localhost:{self.port}/elsewhere?key=CANARY-redirect-0123456789"))
        elif behaviour == "stream" or behaviour == "ok" and verb == "GET":
            number = str(len(self.streams) + 1)
            self.streams[number] = writer
            writer.write(head(200, "text/event-stream") + f"event: endpoint\ndata: /message?session={number}\n\n".encode())
            await writer.drain()
            await reader.read()
            return False
        elif behaviour == "ok":
            said = answer(message)
            writer.write(head(200, "application/json", len(said)) + said if said else head(202, TEXT, 0))
        else:
            writer.write(head(int(behaviour), TEXT, 8) + b"as asked")
        return True


async def main():
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", int(sys.argv[1]))
    server.port = listener.sockets[0].getsockname()[1]
    print(json.dumps({"port": server.port}), flush=True)
    await listener.serve_forever()


asyncio.run(main())
