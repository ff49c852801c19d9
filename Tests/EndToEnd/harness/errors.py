# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The errors that the gateway makes itself, as the documentation promises them."""

from typing import Any

from .wire import Answer

CODES = {
    "unreachable": (-31001, 502),
    "outbound_proxy": (-31002, 502),
    "upstream_timeout": (-31003, 504),
    "upstream_closed": (-31004, 502),
    "upstream_protocol": (-31005, 502),
    "upstream_status": (-31006, 502),
    "credentials_exhausted": (-31007, 502),
    "credential_rejected": (-31007, 502),
    "rate_limited": (-31008, 429),
    "overloaded": (-31009, 503),
    "child_exited": (-31010, 502),
}
"""Reason: the JSON-RPC code, and the HTTP status for a caller of the stateless era."""

ALLOWED_DATA = {
    "gateway",
    "reason",
    "cause",
    "upstream",
    "executed",
    "retryable",
    "attempts",
    "statuses",
    "status",
    "stage",
    "proxyError",
    "retryAfterMs",
}


def gateway_error(
    answer: Answer, id: Any, era: str, upstream: str, reasons: set[str], executed: set[str]
) -> dict[str, Any]:
    """Asserts that the answer is an error of the gateway's own, whole and true to form; gives its data."""
    reply = answer.reply(id)
    data = gateway_reply(reply, upstream, reasons, executed)
    if era == "handshake" or answer.content_type == "text/event-stream":
        assert answer.status == 200, answer.status
    else:
        assert answer.status == CODES[data["reason"]][1], (answer.status, reply)
    assert answer.header("www-authenticate") is None
    if answer.content_type == "text/event-stream":
        assert not answer.cut, "the stream of an error ends properly"
        assert answer.messages()[-1] == reply, "the error is the last event"
    return data


def gateway_reply(reply: dict[str, Any], upstream: str, reasons: set[str], executed: set[str]) -> dict[str, Any]:
    """The same of a message alone, for callers who see no HTTP answer."""
    assert "error" in reply, f"no error but {str(reply)[:500]}"
    error = reply["error"]
    data = error.get("data") or {}
    assert data.get("gateway") is True, f"not the gateway's own: {error}"
    assert data["reason"] in reasons, f"reason {data['reason']}, wanted {sorted(reasons)}: {error}"
    assert error["code"] == CODES[data["reason"]][0], error
    assert isinstance(error["message"], str) and error["message"], error
    assert data["upstream"] == upstream, data
    assert data["executed"] in executed, f"executed {data['executed']}, wanted {sorted(executed)}: {error}"
    assert isinstance(data["retryable"], bool) and isinstance(data["attempts"], int), data
    assert set(data) <= ALLOWED_DATA, data
    return data
