# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""One MCP server with a bit of everything: what everything_server_1x.py and everything_server_2x.py have in common.

It serves streamable HTTP at `/mcp`, with `--sse` the old HTTP+SSE at `/sse`, with `--stdio` its own stdin and stdout.
Over HTTP it answers `GET /control/journal[?nonce=TEXT][&clear=1]` with all that reached it, and `POST /control/forget`
by forgetting every session, as a restart would. With `--journal FILE` what the tools do is also a line each in the file.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import os
import socket
import time
from typing import Any, Callable

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount

KEPT_BODY = 64 * 1024
ANSWER_QUESTION = "Which answer? \u2603"


class Journal:
    """What reached this server: HTTP requests (as dictionaries) and what became of the tools' work."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self.file: str = ""

    def tool(self, name: str, phase: str, nonce: str) -> None:
        self.tools.append({"tool": name, "phase": phase, "nonce": nonce, "pid": os.getpid(), "t": time.monotonic()})
        if self.file:
            with open(self.file, "a") as lines:
                lines.write(json.dumps(self.tools[-1]) + "\n")

    def view(self, nonce: str, clear: bool) -> dict[str, Any]:
        picked = {
            "requests": [r for r in self.requests if not nonce or nonce in (r["body"] or "") or nonce in r["path"]],
            "tools": [t for t in self.tools if not nonce or t["nonce"] == nonce],
        }
        if clear:
            self.requests, self.tools = [], []
        return picked


JOURNAL = Journal()


class JournalMiddleware:
    """Writes down each request when it is complete, and when and how its exchange ended.

    All times are of the monotonic clock, which every process of one machine shares.
    """

    def __init__(self, app: Any, server: Any) -> None:
        self.app = app
        self.server = server

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["path"].startswith("/control/"):
            return await self.control(scope, send)
        headers = [[k.decode("latin-1"), v.decode("latin-1")] for k, v in scope["headers"]]
        entry: dict[str, Any] = {
            "n": len(JOURNAL.requests),
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "headers": headers,
            "session": next((v for k, v in headers if k == "mcp-session-id"), None),
            "peer": f"{scope['client'][0]}:{scope['client'][1]}",
            "body": None,
            "rpc": None,
            "id": None,
            "status": None,
            "issued": None,
            "ended": None,
            "started": time.monotonic(),
        }
        JOURNAL.requests.append(entry)
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                entry.update(ended="cut in the request", t_ended=time.monotonic())
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        entry["sha256"] = hashlib.sha256(body).hexdigest()
        entry["bytes"] = len(body)
        if len(body) <= KEPT_BODY:
            entry["body"] = body.decode("utf-8", "replace")
        try:
            decoded = json.loads(body)
            entry["rpc"], entry["id"] = decoded.get("method"), decoded.get("id")
        except (ValueError, AttributeError):
            pass

        gone = asyncio.Event()
        handed_over = False

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if entry["ended"] is None:
                entry.update(ended="caller gone", t_ended=time.monotonic())
            gone.set()

        async def receive_once() -> dict[str, Any]:
            nonlocal handed_over
            if not handed_over:
                handed_over = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send_and_note(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
                for key, value in message["headers"]:
                    if key.lower() == b"mcp-session-id":
                        entry["issued"] = value.decode("latin-1")
            elif message["type"] == "http.response.body" and not message.get("more_body") and entry["ended"] is None:
                entry.update(ended="answered", t_ended=time.monotonic())
            await send(message)

        watcher = asyncio.create_task(watch())
        try:
            await self.app(scope, receive_once, send_and_note)
        finally:
            watcher.cancel()

    async def control(self, scope: dict[str, Any], send: Any) -> None:
        query = dict(part.partition("=")[::2] for part in scope["query_string"].decode().split("&"))
        if scope["path"] == "/control/forget":
            sessions = self.server.session_manager._server_instances
            forgotten = list(sessions.values())
            sessions.clear()
            for transport in forgotten:
                await transport.terminate()
            answer: Any = {"forgotten": len(forgotten)}
        else:
            answer = JOURNAL.view(query.get("nonce", ""), "clear" in query)
        payload = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": payload})


class Answer(BaseModel):
    """What an elicitation asks for."""

    answer: str


def register(server: Any, Context: type, Completion: type, ToolError: type[Exception]) -> None:
    """Adds the tools, prompts and resources that both SDKs can offer alike; the types are the SDK's own."""

    @server.tool(structured_output=False)
    def echo(text: str) -> str:
        return text

    @server.tool()
    def numbers(value: Any) -> dict[str, Any]:
        return {"value": value, "text": json.dumps(value)}

    @server.tool(structured_output=False)
    def big(size: int) -> str:
        return ("0123456789abcde\n" * (size // 16 + 1))[:size]

    @server.tool(structured_output=False)
    def fail(message: str) -> str:
        raise ToolError(message)

    @server.tool(structured_output=False)
    async def progress(steps: int, interval: float, ctx: Context) -> str:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps, f"step {step}")
            if interval:
                await asyncio.sleep(interval)
        return f"{steps} steps"

    @server.tool(structured_output=False)
    async def labelled(label: str, steps: int, ctx: Context) -> str:
        for step in range(steps):
            await ctx.report_progress(step, steps, f"{label} {step}")
            await asyncio.sleep(0.005)
        return label

    @server.tool(structured_output=False)
    async def watched(seconds: float, nonce: str, ctx: Context) -> str:
        """Like slow, and says by a first progress that it runs."""
        await ctx.report_progress(0, 1, nonce)
        return await slow(seconds, nonce)

    @server.tool(structured_output=False)
    async def slow(seconds: float, nonce: str) -> str:
        JOURNAL.tool("slow", "started", nonce)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            JOURNAL.tool("slow", "cancelled", nonce)
            raise
        JOURNAL.tool("slow", "finished", nonce)
        return nonce

    @server.tool(structured_output=False)
    async def speak(count: int, ctx: Context) -> str:
        for n in range(count):
            await ctx.info(f"line {n}")
        return f"{count} lines"

    @server.tool(structured_output=False)
    async def touch(uri: str, ctx: Context) -> str:
        """Says that a resource changed: on the session's GET stream, or to those who listen (2026-07-28)."""
        if hasattr(ctx, "notify_resource_updated"):
            await ctx.notify_resource_updated(uri)
        await ctx.session.send_resource_updated(uri)
        return uri

    @server.prompt()
    def greet(name: str) -> str:
        return f"Greet {name}, please."

    @server.resource("memo://first", mime_type="text/plain")
    def first() -> str:
        return "the first memo \u00e9\U0001f600"

    @server.resource("memo://bytes", mime_type="application/octet-stream")
    def raw_bytes() -> bytes:
        return bytes(range(256))

    @server.resource("memo://named/{name}")
    def named(name: str) -> str:
        return f"memo of {name}"

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        values = [v for v in ("anna", "annika", "bob") if v.startswith(argument.value)]
        return Completion(values=values, total=len(values))


def mounted(app: Any, path: str, manager: Any) -> Any:
    """An application with `app` below a path: Starlette redirects the path itself with 307 to the one with a slash."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> Any:
        async with manager.run() if manager else contextlib.nullcontext():
            yield

    return Starlette(routes=[Mount(path, app=app)], lifespan=lifespan)


def serve(make_server: Callable[[argparse.Namespace], tuple[Any, Any]]) -> None:
    """Serves until killed, or over stdio until its stdin ends. Over HTTP the first line on stdout is `{"port": N}`.

    `make_server` gives the server and a function that makes its ASGI application.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stateless", action="store_true", help="issue no session ids")
    parser.add_argument("--json", action="store_true", help="answer with JSON instead of SSE")
    parser.add_argument("--sse", action="store_true", help="the transport of 2024-11-05")
    parser.add_argument("--mounted", action="store_true", help="below /mcp or /sse of a larger application, as people do it")
    parser.add_argument("--stdio", action="store_true")
    parser.add_argument("--journal", default="", help="a file for what the tools did")
    options = parser.parse_args()
    JOURNAL.file = options.journal
    logging.disable(logging.CRITICAL)
    server, make_app = make_server(options)
    if options.stdio:
        return asyncio.run(server.run_stdio_async())
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(1024)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    app = make_app()
    if options.mounted:
        app = mounted(app, "/sse" if options.sse else "/mcp", None if options.sse else server.session_manager)
    config = uvicorn.Config(JournalMiddleware(app, server), log_level="critical", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])
