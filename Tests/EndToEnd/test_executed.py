# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""An error says `"executed": "no"` only where no attempt of the message can have run, whatever became of the last one."""

import pytest
from harness.callers import Caller, call_of
from harness.wire import message

pytestmark = pytest.mark.gateway_only

TIMEOUT = "1s"


def data_of(reply):
    """What the gateway's own error says."""
    assert "error" in reply, reply
    return reply["error"]["data"]


async def test_time_is_over_while_a_stream_waits(gateway_of, raw):
    """A call whose broken stream waits to be taken up again may have run when its time is over."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/events", "protocol": "handshake", "timeout": TIMEOUT}
    gateway = gateway_of({"up": entry}, log_level="info")
    caller = await Caller.open(gateway, "up")
    raw.control("/control/clear")
    answer = await caller.post(call_of("stream", {"count": 8, "breaks": 2, "retry": 5000}, id=7, token="t"))
    data = data_of(answer.reply(7))
    assert (data["reason"], data["executed"]) == ("upstream_timeout", "unknown"), data
    assert not [e for e in raw.control("/control/journal")["entries"] if e["last"]], "nor was the stream asked for again"


async def test_time_is_over_while_a_session_is_looked_at(gateway_of, tokens):
    """A call that was refused without a word about the session may have run when its time is over before the look is."""
    entry = tokens.entry("/sessions", "A", timeout=TIMEOUT)
    gateway = gateway_of({"up": entry}, log_level="info", options={"pingInterval": 0})
    caller = await Caller.open(gateway, "up")
    tokens.script(A={"tools/call": {"status": 400, "body": "what?"}, "ping": {"hang": True}})
    data = data_of(await caller.ask("echo"))
    assert (data["reason"], data["executed"]) == ("upstream_timeout", "unknown"), data
    assert tokens.count("ping"), "the session was looked at"


@pytest.mark.parametrize("refusal", [401, 403, 429, 503])
async def test_listing_is_lost_and_then_refused(gateway_of, tokens, refusal):
    """A listing that was lost on its way, and sent again, may have run although the second was refused."""
    gateway = gateway_of({"up": tokens.entry("/plain", "A")}, log_level="info")
    caller = await Caller.open(gateway, "up")
    tokens.script(A={"tools/list": [{"reset": True}, refusal]})
    data = data_of((await caller.post(message("tools/list", {}, id=5))).reply(5))
    assert len(tokens.journal("tools/list")) == 2
    assert data["executed"] == "unknown", data
