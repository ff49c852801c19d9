# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The everything server on the official SDK 2.x: both eras; streamable HTTP, SSE, stdio. See everything.py."""

import argparse
import warnings
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp_types import Completion, CreateMessageResult, EmptyResult, SamplingMessage, SubscribeRequestParams, TextContent

from everything import ANSWER_QUESTION, Answer, register, serve

warnings.simplefilter("ignore")  # the SDK says of each feature of the handshake era that it is deprecated


async def ask_question() -> Elicit[Answer]:
    return Elicit(ANSWER_QUESTION, Answer)


async def sample_text(text: str) -> Sample:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return Sample([message], max_tokens=32)


def make_server(options: argparse.Namespace) -> tuple[Any, Any]:
    server = MCPServer("everything", version="2.0", log_level="CRITICAL")
    register(server, Context, Completion, ToolError)

    @server.tool(structured_output=False)
    async def ask(answer: Annotated[Answer, Resolve(ask_question)]) -> str:
        return f"answer: {answer.answer}"

    @server.tool(structured_output=False)
    async def sample(text: str, reply: Annotated[CreateMessageResult, Resolve(sample_text)]) -> str:
        return f"sampled: {reply.content.text}"

    async def subscribed(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        return EmptyResult()

    server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribed)
    def make_app() -> Any:
        if options.sse:
            return server.sse_app(sse_path="/" if options.mounted else "/sse")
        path = "/" if options.mounted else "/mcp"
        return server.streamable_http_app(
            streamable_http_path=path, json_response=options.json, stateless_http=options.stateless
        )

    return server, make_app


serve(make_server)
