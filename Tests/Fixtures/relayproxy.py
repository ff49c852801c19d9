#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""An honest HTTP proxy on 127.0.0.1, which counts. Standard library only.

usage: relayproxy.py PORT [--hold MS] [--login USER:PASSWORD]     (0: any; the first line on stdout is {"port": N})

    CONNECT host:port    a tunnel, after `--hold` milliseconds; 407 without the login, if one is wanted
    GET /                {"dials": connections accepted, "tunnels": those open now, "crowd": [[handshakes open, tunnels
                         that had been made], ...]} with one pair for each dial, at the time when it came
"""

import argparse
import asyncio
import base64
import json
import socket


class Relay:
    def __init__(self, hold, login):
        self.hold = hold
        self.login = base64.b64encode(login.encode()).decode() if login else None
        self.open = 0
        self.made = 0
        self.tunnels = 0
        self.crowd = []

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            start, *lines = head[:-4].split("\r\n")
            method, target, _ = start.split(" ")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if method == "CONNECT":
                await self.connect(reader, writer, target, fields)
            else:
                self.tell(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def connect(self, reader, writer, target, fields):
        self.open += 1
        self.crowd.append([self.open, self.made])
        try:
            await asyncio.sleep(self.hold / 1000)
            if self.login is not None and fields.get("proxy-authorization") != f"Basic {self.login}":
                writer.write(b'HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="relay"\r\nContent-Length: 0\r\n\r\n')
                return await writer.drain()
            host, _, port = target.rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Here you are\r\n\r\n")
            self.made += 1
        finally:
            self.open -= 1
        self.tunnels += 1
        try:
            await asyncio.gather(self.pump(reader, back), self.pump(there, writer))
        finally:
            self.tunnels -= 1
            back.close()

    async def pump(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    def tell(self, writer):
        body = json.dumps({"dials": len(self.crowd), "tunnels": self.tunnels, "crowd": self.crowd}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--hold", type=int, default=0)
    parser.add_argument("--login")
    told = parser.parse_args()
    relay = Relay(told.hold, told.login)
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", told.port))
    await asyncio.start_server(relay.serve, sock=listener, backlog=4096)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
