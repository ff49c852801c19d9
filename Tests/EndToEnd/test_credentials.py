# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Credential pools over streamable HTTP: which token goes out, and what a refusal does (the vectors R and F)."""

import asyncio
import json

import pytest
from harness.callers import text_of
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"


async def call(gateway, id=1, tool="echo", text="hello", era="stateless"):
    """The answer to one call: the text of its result, or the error."""
    body = message("tools/call", {"name": tool, "arguments": {"text": text}}, id=id, era=era)
    answer = await post(gateway.url("pool"), body, era=era, token=gateway.token, seen=gateway.seen)
    reply = answer.reply(id)
    return text_of(reply) if "result" in reply else {**reply["error"], "http": answer.status}


async def calls(gateway, count):
    return [await call(gateway) for _ in range(count)]


ROWS = [
    # id, tokens, mode, auth, script, calls, sends, outcomes: "ok", or reason and statuses
    ("R01", "A B C", ROUND, {}, {}, 6, "A B C A B C", ["ok"] * 6),
    ("R02", "A B", ROUND, {}, {"A": 401}, 2, "A B", ["credential_rejected 401", "ok"]),
    ("R04", "A B", ROUND, {}, {"A": 429}, 2, "A B", ["rate_limited 429", "ok"]),
    ("R04", "A B", ROUND, {}, {"A": 500}, 2, "A B", ["upstream_status 500", "ok"]),
    ("R08", "A B C", ROUND, {"maxRetries": 2}, {"A": 401}, 2, "A B C", ["ok", "ok"]),
    ("R09", "A B C", ROUND, {"maxRetries": 3}, {"A": 403, "B": 403, "C": 403}, 1, "A B C", ["credentials_exhausted 403 403 403"]),
    ("F01", "A B", FAILOVER, {}, {}, 5, "A A A A A", ["ok"] * 5),
    ("F02", "A B", FAILOVER, {}, {"A": 401}, 2, "A B B", ["ok", "ok"]),
    ("F04", "A B", FAILOVER, {}, {"A": 403}, 2, "A B B", ["ok", "ok"]),
    ("F05", "A B C", FAILOVER, {}, {"A": [401, 200], "B": 403, "C": 401}, 2, "A B C A", ["credentials_exhausted 401 403 401", "ok"]),
    ("F07", "A B C", FAILOVER, {"maxRetries": 2}, {"A": 401, "B": 401}, 2, "A B C", ["credentials_exhausted 401 401", "ok"]),
    ("F08", "A B", FAILOVER, {"maxRetries": 1}, {"A": 401}, 2, "A B", ["credentials_exhausted 401", "ok"]),
    ("F09", "A B C", FAILOVER, {}, {"A": 401, "B": 500}, 2, "A B B", ["upstream_status 500", "upstream_status 500"]),
    ("F11", "A B", FAILOVER, {}, {"A": 429}, 2, "A A", ["rate_limited 429"] * 2),
    ("F17", "A", None, {}, {"A": 401}, 2, "A A", ["credential_rejected 401"] * 2),
    ("F23", "A B", FAILOVER, {}, {"A": {"status": 302, "fields": [["Location", "http://127.0.0.2:9/"]]}}, 1, "A", ["upstream_protocol 302"]),
    ("F27", "A B", FAILOVER, {"retryOn": [401]}, {"A": [403, 401]}, 2, "A A B", ["credential_rejected 403", "ok"]),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{'-'.join(map(str, row[4].values()))[:12]}")
async def test_vector(pool_of, tokens, row):
    """A scripted upstream gets these tokens in this order, and the caller this."""
    _, names, mode, auth, script, count, sends, outcomes = row
    gateway = pool_of(names, mode, **auth)
    tokens.clear()
    tokens.script(**script)
    seen = []
    for outcome in await calls(gateway, count):
        if isinstance(outcome, dict):
            data = outcome["data"]
            assert data["executed"] == ("unknown" if data.get("status") == 500 else "no")
            assert data["upstream"] == "pool"
            seen.append(" ".join([data["reason"], *map(str, data.get("statuses", [data.get("status")]))]))
        else:
            seen.append("ok")
    assert tokens.sends("tools/call") == sends
    assert seen == outcomes
