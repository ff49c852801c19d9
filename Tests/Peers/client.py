# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Drives the official SDK of this interpreter (1.x or 2.x) as a client, one row of rows.py at a time.

Reads one JSON object a line, `{"row", "url", "token", "mode", "arguments"}`, and answers each with `{"ok": value}` or
`{"error": traceback}`. `mode` is one of the 2.x SDK's (legacy, auto, 2026-07-28); the 1.x SDK knows only the handshake.
The URL says the transport: `stdio:` and a configuration entry in JSON, SSE where the path ends with `/sse`, else streamable HTTP.
"""

import asyncio
import contextlib
import json
import logging
import sys
import traceback
import urllib.parse
import warnings
from typing import Any, AsyncIterator, Callable

import rows

try:
    import httpx2 as httpx
    import mcp_types as types
    from mcp import Client, StdioServerParameters
    from mcp.client.sse import sse_client
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    SDK = 2
except ImportError:
    import httpx
    from mcp import ClientSession, StdioServerParameters, types
    from mcp.client.sse import sse_client
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from pydantic import AnyUrl

    SDK = 1

ROW_DEADLINE = 40


class Peer:
    """One connected client, alike for both SDKs: results are plain JSON values with the names of the wire."""

    def __init__(self, handle: Any, era: str) -> None:
        self.handle = handle
        self.era = era
        self.log: list[Any] = []
        self.notifications: list[dict[str, Any]] = []
        self.noticed = asyncio.Event()
        self.questions: list[str] = []

    # The callbacks that the server's requests and notifications reach.

    async def on_log(self, params: Any) -> None:
        self.log.append(params.data)

    async def on_message(self, message: Any) -> None:
        root = getattr(message, "root", message)
        if hasattr(root, "method"):
            self.notifications.append(root.model_dump(by_alias=True, mode="json", exclude_none=True))
            self.noticed.set()

    async def on_elicitation(self, context: Any, params: Any) -> Any:
        self.questions.append(params.message)
        return types.ElicitResult(action="accept", content={"answer": "forty-two \u00e9"})

    async def on_sampling(self, context: Any, params: Any) -> Any:
        asked = params.messages[-1].content
        text = asked[0].text if isinstance(asked, list) else asked.text
        reply = types.TextContent(type="text", text=text.upper())
        return types.CreateMessageResult(role="assistant", content=reply, model="of the test")

    # What the rows call.

    async def call(self, tool: str, arguments: dict[str, Any], on_progress: Callable | None = None) -> dict[str, Any]:
        return plain(await self.handle.call_tool(tool, arguments, progress_callback=on_progress))

    async def call_text(self, tool: str, **arguments: Any) -> str:
        result = await self.call(tool, arguments)
        assert not result.get("isError"), result
        return result["content"][0]["text"]

    async def request(self, name: str, *arguments: Any) -> Any:
        if SDK == 1 and name == "read_resource":
            arguments = (AnyUrl(arguments[0]),)
        if SDK == 1 and name == "subscribe_resource":
            arguments = (AnyUrl(arguments[0]),)
        return plain(await getattr(self.handle, name)(*arguments))

    async def complete(self, prompt: str, argument: str, value: str) -> Any:
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        return plain(await self.handle.complete(reference, {"name": argument, "value": value}))

    @contextlib.asynccontextmanager
    async def listening(self, uri: str) -> AsyncIterator[Callable]:
        """Within it, `await (yielded)()` waits for the next `resources/updated` of this resource."""
        if self.era == "stateless":
            async with self.handle.listen(resource_subscriptions=[uri]) as events:

                async def next_event() -> str:
                    return str((await anext(aiter(events))).uri)

                yield next_event
        else:
            await self.request("subscribe_resource", uri)

            async def next_notification() -> str:
                while True:
                    for notification in self.notifications:
                        if notification["method"] == "notifications/resources/updated":
                            self.notifications.remove(notification)
                            return str(notification["params"]["uri"])
                    self.noticed.clear()
                    await self.noticed.wait()

            yield next_notification


def plain(value: Any) -> Any:
    return value.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(value, "model_dump") else value


@contextlib.asynccontextmanager
async def streams(url: str, headers: dict[str, str]) -> AsyncIterator[tuple[Any, Any]]:
    """The SDK's transport to this URL."""
    if url.startswith("stdio:"):
        entry = json.loads(url.removeprefix("stdio:"))
        server = StdioServerParameters(command=entry["command"], args=entry["args"], env=entry.get("env"))
        async with stdio_client(server) as (read, write):
            yield read, write
    elif urllib.parse.urlsplit(url).path.endswith("/sse"):
        async with sse_client(url, headers, timeout=30) as (read, write):
            yield read, write
    else:
        async with httpx.AsyncClient(headers=headers, timeout=httpx.Timeout(30, read=300), trust_env=False) as http:
            unlimited = {"max_sse_event_size": None} if SDK == 2 else {}
            async with streamable_http_client(url, http_client=http, **unlimited) as (read, write, *_):
                yield read, write


@contextlib.asynccontextmanager
async def connect(url: str, token: str, mode: str, headers: dict[str, str] | None = None) -> AsyncIterator[Peer]:
    """Connects, and ends the session when left."""
    peer = Peer(None, "handshake")
    transport = streams(url, {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})})
    callbacks = {
        "sampling_callback": peer.on_sampling,
        "elicitation_callback": peer.on_elicitation,
        "logging_callback": peer.on_log,
        "message_handler": peer.on_message,
    }
    async with contextlib.AsyncExitStack() as stack:
        if SDK == 2:
            client = Client(transport, mode=mode, log_level="info", cache=None, **callbacks)
            peer.handle = await stack.enter_async_context(client)
            peer.era = "stateless" if client.protocol_version >= "2026" else "handshake"
        else:
            read, write = await stack.enter_async_context(transport)
            peer.handle = await stack.enter_async_context(ClientSession(read, write, **callbacks))
            await peer.handle.initialize()
        yield peer


async def run(command: dict[str, Any]) -> Any:
    row = getattr(rows, command["row"])
    arguments = command.get("arguments", {})
    deadline = command.get("deadline", ROW_DEADLINE)
    async with asyncio.timeout(deadline):
        if getattr(row, "connects_itself", False):
            return await row(lambda **more: connect(command["url"], command["token"], command["mode"], **more), **arguments)
        async with connect(command["url"], command["token"], command["mode"]) as peer:
            return await row(peer, **arguments)


def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        try:
            answer = {"ok": asyncio.run(run(json.loads(line)))}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


main()
