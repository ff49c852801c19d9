# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The everything server on the last official SDK 1.x: handshake only, with or without sessions, SSE, stdio. See everything.py."""

import argparse
from typing import Any

from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.types import Completion, SamplingMessage, TextContent

from everything import ANSWER_QUESTION, Answer, register, serve


def make_server(options: argparse.Namespace) -> tuple[Any, Any]:
    paths = {"streamable_http_path": "/", "sse_path": "/"} if options.mounted else {}
    server = FastMCP(
        "everything", log_level="CRITICAL", stateless_http=options.stateless, json_response=options.json, **paths
    )
    register(server, Context, Completion, ToolError)

    @server.tool(structured_output=False)
    async def ask(ctx: Context) -> str:
        result = await ctx.elicit(ANSWER_QUESTION, Answer)
        return f"answer: {result.data.answer}"

    @server.tool(structured_output=False)
    async def sample(text: str, ctx: Context) -> str:
        reply = await ctx.session.create_message(
            messages=[SamplingMessage(role="user", content=TextContent(type="text", text=text))],
            max_tokens=32,
            related_request_id=ctx.request_id,
        )
        return f"sampled: {reply.content.text}"

    @server._mcp_server.subscribe_resource()
    async def subscribed(uri: Any) -> None:
        return None

    return server, server.sse_app if options.sse else server.streamable_http_app


serve(make_server)
