# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote, each as its own documentation says: connects, lists the tools, calls `echo`.

`foreign_client.py CLIENT` reads one JSON object a line, `{"url", "token", "text"}`, and answers each with
`{"tools": [name, …], "text": what echo gave}` or `{"error": what it said, "trace": …}`. Nothing is set that people do not
have to set, the mode least of all. The URL says the transport: HTTP+SSE where the path ends with `/sse`, else streamable HTTP.
"""

import asyncio
import contextlib
import json
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, Awaitable, Callable

DEADLINE = 30
Outcome = tuple[list[str], Any]
CLIENTS: dict[str, Callable[..., Awaitable[Outcome]]] = {}


def client(function: Callable[..., Awaitable[Outcome]]) -> Callable[..., Awaitable[Outcome]]:
    CLIENTS[function.__name__.replace("_", "-")] = function
    return function


@client
async def mcp_2x(url: str, headers: dict[str, str], text: str) -> Outcome:
    import httpx2
    from mcp import Client
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    async with httpx2.AsyncClient(headers=headers) as http:
        transport = sse_client(url, headers) if url.endswith("/sse") else streamable_http_client(url, http_client=http)
        async with Client(transport) as connected:
            tools = await connected.list_tools()
            result = await connected.call_tool("echo", {"text": text})
            return [tool.name for tool in tools.tools], result.content[0].text


@client
async def mcp_1x(url: str, headers: dict[str, str], text: str) -> Outcome:
    import httpx
    from mcp import ClientSession
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    async with httpx.AsyncClient(headers=headers) as http:
        transport = sse_client(url, headers) if url.endswith("/sse") else streamable_http_client(url, http_client=http)
        async with transport as (read, write, *_), ClientSession(read, write) as connected:
            await connected.initialize()
            tools = await connected.list_tools()
            result = await connected.call_tool("echo", {"text": text})
            return [tool.name for tool in tools.tools], result.content[0].text


@client
async def fastmcp(url: str, headers: dict[str, str], text: str) -> Outcome:
    from fastmcp import Client
    from fastmcp.client.transports import SSETransport, StreamableHttpTransport

    transport = SSETransport if url.endswith("/sse") else StreamableHttpTransport
    async with Client(transport(url, headers=headers)) as connected:
        tools = await connected.list_tools()
        result = await connected.call_tool("echo", {"text": text})
        return [tool.name for tool in tools], result.content[0].text


@client
async def openai_agents(url: str, headers: dict[str, str], text: str) -> Outcome:
    from agents.mcp import MCPServerSse, MCPServerStreamableHttp

    server = MCPServerSse if url.endswith("/sse") else MCPServerStreamableHttp
    async with server(params={"url": url, "headers": headers}) as connected:
        tools = await connected.list_tools()
        result = await connected.call_tool("echo", {"text": text})
        return [tool.name for tool in tools], result.content[0].text


@client
async def pydantic_ai(url: str, headers: dict[str, str], text: str) -> Outcome:
    from pydantic_ai.mcp import MCPToolset

    async with MCPToolset(url, headers=headers) as connected:
        tools = await connected.list_tools()
        return [tool.name for tool in tools], await connected.direct_call_tool("echo", {"text": text})


@client
async def strands(url: str, headers: dict[str, str], text: str) -> Outcome:
    from strands.tools.mcp import MCPClient

    def use() -> Outcome:
        from mcp.client.sse import sse_client

        made = MCPClient(lambda: sse_client(url, headers=headers)) if url.endswith("/sse") else MCPClient(url=url, headers=headers)
        with made as connected:
            tools = connected.list_tools_sync()
            result = connected.call_tool_sync("1", "echo", {"text": text})
            assert result["status"] == "success", result
            return [tool.tool_name for tool in tools], result["content"][0]["text"]

    return await asyncio.to_thread(use)


@client
async def google_adk(url: str, headers: dict[str, str], text: str) -> Outcome:
    from google.adk.tools.mcp_tool import McpToolset, SseConnectionParams, StreamableHTTPConnectionParams

    parameters = SseConnectionParams if url.endswith("/sse") else StreamableHTTPConnectionParams
    toolset = McpToolset(connection_params=parameters(url=url, headers=headers))
    try:
        tools = await toolset.get_tools()
        # A tool runs within an agent's invocation, which needs a model; this is the session that it would use.
        session = await toolset._mcp_session_manager.create_session()
        result = await session.call_tool("echo", {"text": text})
        return [tool.name for tool in tools], result.content[0].text
    finally:
        await toolset.close()


@client
async def llama_index(url: str, headers: dict[str, str], text: str) -> Outcome:
    from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

    connected = BasicMCPClient(url, headers=headers)
    tools = await McpToolSpec(connected).to_tool_list_async()
    echo = next(tool for tool in tools if tool.metadata.name == "echo")
    result = await echo.acall(text=text)
    return [tool.metadata.name for tool in tools], result.raw_output.content[0].text


@client
async def smolagents(url: str, headers: dict[str, str], text: str) -> Outcome:
    from smolagents import MCPClient

    def use() -> Outcome:
        transport = "sse" if url.endswith("/sse") else "streamable-http"
        parameters = {"url": url, "headers": headers, "transport": transport}
        with MCPClient(parameters, structured_output=False) as tools:
            echo = next(tool for tool in tools if tool.name == "echo")
            return [tool.name for tool in tools], echo(text=text)

    return await asyncio.to_thread(use)


@client
async def autogen(url: str, headers: dict[str, str], text: str) -> Outcome:
    from autogen_ext.tools.mcp import McpWorkbench, SseServerParams, StreamableHttpServerParams

    parameters = SseServerParams if url.endswith("/sse") else StreamableHttpServerParams
    async with McpWorkbench(server_params=parameters(url=url, headers=headers)) as connected:
        tools = await connected.list_tools()
        result = await connected.call_tool("echo", {"text": text})
        return [tool["name"] for tool in tools], result.result[0].content


@client
async def agno(url: str, headers: dict[str, str], text: str) -> Outcome:
    from agno.tools.mcp import MCPTools

    transport = "sse" if url.endswith("/sse") else "streamable-http"
    async with MCPTools(url=url, transport=transport, headers=headers) as connected:
        result = await connected.session.call_tool("echo", {"text": text})
        return list(connected.functions), result.content[0].text


@client
async def haystack(url: str, headers: dict[str, str], text: str) -> Outcome:
    from haystack_integrations.tools.mcp import MCPToolset, SSEServerInfo, StreamableHttpServerInfo

    def use() -> Outcome:
        information = SSEServerInfo if url.endswith("/sse") else StreamableHttpServerInfo
        toolset = MCPToolset(information(url=url, headers=headers), eager_connect=True)
        try:
            echo = next(tool for tool in toolset if tool.name == "echo")
            said = json.loads(echo.invoke(text=text))
            return [tool.name for tool in toolset], said["content"][0]["text"]
        finally:
            toolset.close()

    return await asyncio.to_thread(use)


@client
async def langchain(url: str, headers: dict[str, str], text: str) -> Outcome:
    from langchain_mcp_adapters.client import MultiServerMCPClient

    transport = "sse" if url.endswith("/sse") else "streamable_http"
    tools = await MultiServerMCPClient({"one": {"transport": transport, "url": url, "headers": headers}}).get_tools()
    echo = next(tool for tool in tools if tool.name == "echo")
    said = await echo.ainvoke({"text": text})
    return [tool.name for tool in tools], said if isinstance(said, str) else said[0]["text"]


@client
async def mcp_use(url: str, headers: dict[str, str], text: str) -> Outcome:
    from mcp_use import MCPClient

    made = MCPClient.from_dict({"mcpServers": {"one": {"url": url, "headers": headers}}})
    try:
        session = await made.create_session("one")
        tools = await session.list_tools()
        result = await session.call_tool("echo", {"text": text})
        return [tool.name for tool in tools], result.content[0].text
    finally:
        await made.close_all_sessions()


@client
async def semantic_kernel(url: str, headers: dict[str, str], text: str) -> Outcome:
    from semantic_kernel.connectors.mcp import MCPSsePlugin, MCPStreamableHttpPlugin

    plugin = MCPSsePlugin if url.endswith("/sse") else MCPStreamableHttpPlugin
    async with plugin(name="one", url=url, headers=headers) as connected:
        tools = await connected.session.list_tools()
        result = await connected.call_tool("echo", text=text)
        return [tool.name for tool in tools.tools], result[0].text


@client
async def huggingface(url: str, headers: dict[str, str], text: str) -> Outcome:
    from huggingface_hub import MCPClient

    kind = "sse" if url.endswith("/sse") else "http"
    async with MCPClient(model="none", api_key="none") as connected:
        await connected.add_mcp_server(type=kind, url=url, headers=headers)
        result = await connected.sessions["echo"].call_tool("echo", {"text": text})
        return [tool["function"]["name"] for tool in connected.available_tools], result.content[0].text


@client
async def mcp_proxy(url: str, headers: dict[str, str], text: str) -> Outcome:
    """The bridge for clients that know only stdio: a program between the SDK and the server."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    transport = "sse" if url.endswith("/sse") else "streamablehttp"
    fields = [part for field in headers.items() for part in ("--headers", *field)]
    program = Path(sys.executable).with_name("mcp-proxy")
    parameters = StdioServerParameters(command=str(program), args=["--transport", transport, *fields, url])
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as connected:
        await connected.initialize()
        tools = await connected.list_tools()
        result = await connected.call_tool("echo", {"text": text})
        return [tool.name for tool in tools.tools], result.content[0].text


async def run(name: str, command: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {command['token']}"} if command["token"] else {}
    async with asyncio.timeout(DEADLINE):
        tools, text = await CLIENTS[name](command["url"], headers, command["text"])
    return {"tools": tools, "text": text}


def innermost(error: BaseException) -> BaseException:
    """What made the others: of a group its first, of a chain its cause."""
    while True:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        if inner is None:
            return error
        error = inner


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some print on their standard output
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        try:
            answer = asyncio.run(run(name, json.loads(line)))
        except BaseException as error:
            cause = innermost(error)
            answer = {"error": f"{type(cause).__name__}: {cause}", "trace": traceback.format_exc()}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
