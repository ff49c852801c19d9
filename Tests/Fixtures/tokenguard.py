#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Stands before an MCP server that knows no tokens and refuses some, with 401. Standard library only.

usage: tokenguard.py PORT REFUSED...      (of the server; the first line on stdout is {"port": N})
"""

import asyncio
import json
import sys


async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    """One request a connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head[:-4].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        token = fields.get("authorization", "").removeprefix("Bearer ")
        if token in sys.argv[2:]:
            writer.write(b'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer error="invalid_token"\r\n')
            writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return writer.close()
        kept = [line for line in lines if line.partition(":")[0].lower() not in ("connection", "authorization")]
        there, here = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
        here.write("\r\n".join([start, *kept, "Connection: close", "", ""]).encode("latin-1") + body)
        await asyncio.gather(copy(there, writer), copy(reader, here))
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024, limit=1 << 20)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
