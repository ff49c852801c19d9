# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""`Mcp-Param-*` of a program's tools: the gateway is the HTTP server for them, so it checks that headers say what the body says."""

import sys

import pytest
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ERA = "stateless"
PROGRAM = """
import json, sys
SCHEMA = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    hints = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    match message["method"]:
        case "server/discover":
            answer["result"] = {**hints, "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        case "tools/list":
            answer["result"] = {**hints, "tools": [{"name": "deploy", "inputSchema": SCHEMA}]}
        case "tools/call":
            text = message["params"]["arguments"].get("region", "nowhere")
            answer["result"] = {"resultType": "complete", "content": [{"type": "text", "text": text}]}
        case _:
            answer["error"] = {"code": -32601, "message": "Method not found"}
    print(json.dumps(answer), flush=True)
"""


async def test_headers_of_a_program_are_checked(gateway_of):
    """A call whose header is missing or says something else is refused; one that is right, and one without, pass."""
    gateway = gateway_of({"up": {"command": sys.executable, "args": ["-c", PROGRAM]}}, options={"pingInterval": 0})
    gateway.wait_until_ready()

    async def ask(body, region=None):
        more = {"Mcp-Param-Region": region} if region else {}
        return await post(gateway.url("up"), body, era=ERA, token=gateway.token, seen=gateway.seen, more=more)

    def call(arguments):
        return message("tools/call", {"name": "deploy", "arguments": arguments}, id=1, era=ERA)

    assert (await ask(message("tools/list", {}, id=0, era=ERA))).reply(0)["result"]["tools"]
    for arguments, field, is_right in [
        ({"region": "north"}, "north", True),
        ({"region": "Zürich"}, "=?base64?WsO8cmljaA==?=", True),
        ({}, None, True),
        ({"region": "north"}, "south", False),
        ({"region": "north"}, None, False),
        ({}, "north", False),
    ]:
        answer = await ask(call(arguments), field)
        if is_right:
            assert answer.reply(1)["result"]["content"][0]["text"] == arguments.get("region", "nowhere")
        else:
            assert answer.status == 400 and answer.reply(1)["error"]["code"] == -32020, (arguments, field, answer.body)
