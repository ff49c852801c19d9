# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What tests of changes of a running gateway have in common."""

import json
from typing import Any

from .callers import Caller, text_of
from .wire import message, post

CHANGES = ("added", "removed", "replaced", "tuned")
DRAINED = 5
"""Seconds after its last call in which what was replaced or removed is gone, also on a slow machine."""


def at(tokens: Any, path: str, **more: Any) -> dict[str, Any]:
    """A server of the configuration at this path of the upstream, with one token as a header."""
    kind = "sse" if path == "/sse" else "streamable-http"
    return {"url": f"http://127.0.0.1:{tokens.port}{path}", "transportType": kind, **more}


def changes(last: dict[str, Any]) -> dict[str, list[str]]:
    """What a reload did, without what it did not."""
    return {kind: sorted(last[kind]) for kind in CHANGES if last[kind]}


async def stateless(gateway: Any, name: str, tool: str = "echo", **arguments: Any) -> str:
    """The text that a call of 2026-07-28 gives."""
    body = message("tools/call", {"name": tool, "arguments": arguments}, era="stateless")
    answer = await post(gateway.url(name), body, era="stateless", token=gateway.token, seen=gateway.seen)
    return text_of(answer.reply(1))


async def process_of(caller: Caller) -> int:
    """The process that answers this caller."""
    return json.loads(text_of(await caller.ask("report-env")))["pid"]
