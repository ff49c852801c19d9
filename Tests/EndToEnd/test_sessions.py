# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Handshake sessions: the caller's ids are the gateway's, the upstream's stay with the upstream."""

import asyncio
import json

import pytest
from harness.processes import PEERS, Upstream, until
from harness.wire import Wire, initialize, message, post, split

CALL = message("tools/call", {"name": "echo", "arguments": {"text": "x"}})


def entry(raw, path="/sessions"):
    return {"url": f"http://127.0.0.1:{raw.port}{path}", "protocol": "handshake"}


@pytest.fixture
def gateway(gateway_of, raw):
    """A gateway before the upstream with sessions, and before the one that forgets them."""
    servers = {"sessions": entry(raw), "amnesia": entry(raw, "/amnesia"), "fast": entry(raw, "/fast")}
    started = gateway_of(servers)
    started.wait_until_ready()
    raw.control("/control/clear")
    return started


def journal(raw):
    return raw.control("/control/journal")["entries"]


async def test_ids_are_ours(gateway, raw):
    """A caller's id is long, random and ours; the upstream sees only its own, with every message of the session."""
    url = gateway.url("sessions")
    mine = await initialize(url, gateway.token, gateway.seen)
    other = await initialize(url, gateway.token, gateway.seen)
    assert mine != other and len(mine) >= 22 and not mine.startswith("upstream")
    assert (await post(url, CALL, token=gateway.token, session=mine, seen=gateway.seen)).status == 200
    used = [e["session"] for e in journal(raw) if e["rpc"] != "initialize"]
    assert used and all(session.startswith("upstream-") for session in used)
    assert b"upstream-" not in gateway.seen, "the upstream's id is never shown to a caller"
    assert mine.encode() not in gateway.child.err, "nor ours in full in the log"
    call = next(e for e in journal(raw) if e["rpc"] == "tools/call")
    assert call["version"] == "2025-11-25"
    assert next(e for e in journal(raw) if e["rpc"] == "initialize")["version"] is None


async def test_no_id_over_a_sessionless_upstream(gateway, raw):
    """Where the upstream issues none, neither do we, and none is needed."""
    assert await initialize(gateway.url("fast"), gateway.token, gateway.seen) == ""
    assert (await post(gateway.url("fast"), CALL, token=gateway.token)).status == 200


async def test_without_an_id(gateway, raw):
    """A message that needs a session and names none is refused, and the upstream is not asked."""
    await initialize(gateway.url("sessions"), gateway.token, gateway.seen)
    raw.control("/control/clear")
    answer = await post(gateway.url("sessions"), CALL, token=gateway.token, seen=gateway.seen)
    assert answer.status == 400 and answer.json()["error"]["code"] == -32600
    assert not journal(raw)


async def test_unknown_id(gateway, raw):
    """An id that never was is 404, with a JSON-RPC error, and the upstream is not asked."""
    answer = await post(gateway.url("sessions"), CALL, token=gateway.token, session="f" * 32, seen=gateway.seen)
    assert answer.status == 404 and "error" in answer.json()
    assert not journal(raw)


async def test_delete(gateway, raw):
    """DELETE ends the session here and upstream; after it the id is unknown."""
    url = gateway.url("sessions")
    session = await initialize(url, gateway.token, gateway.seen)
    port, path = split(url)
    fields = {"Authorization": f"Bearer {gateway.token}", "Mcp-Session-Id": session}
    async with await Wire.open(port, gateway.seen) as wire:
        assert (await wire.exchange("DELETE", path, fields)).status == 204
        assert (await wire.exchange("DELETE", path, fields)).status == 404
    assert (await post(url, CALL, token=gateway.token, session=session)).status == 404
    await until("the upstream is told", lambda: [e for e in journal(raw) if e["method"] == "DELETE"])
    await until("it has no session left", lambda: raw.control("/control/journal")["sessions"] == 0)


async def test_second_stream_replaces_the_first(gateway, raw):
    """A client behind a half-open connection is not locked out: its new GET stream ends the old one."""
    url = gateway.url("sessions")
    session = await initialize(url, gateway.token, gateway.seen)
    port, path = split(url)
    fields = {
        "Authorization": f"Bearer {gateway.token}",
        "Mcp-Session-Id": session,
        "Accept": "text/event-stream",
        "MCP-Protocol-Version": "2025-11-25",
    }
    async with await Wire.open(port, gateway.seen) as first, await Wire.open(port, gateway.seen) as second:
        await first.request("GET", path, fields)
        one = await first.head()
        assert one.status == 200 and one.content_type == "text/event-stream"
        await second.request("GET", path, fields)
        two = await second.head()
        assert two.status == 200
        await first.rest(one, 5)
        assert not one.cut, "it ends properly"
        await until("one stream upstream", lambda: raw.control("/control/journal")["streams"] == 1)
        raw.control("/control/broadcast")
        # The first has an id and nothing else.
        event = [await anext(events) for events in [second.events(two)] for _ in range(2)][1]
        assert json.loads(event["data"])["method"] == "notifications/tools/list_changed"


async def test_stream_without_upstream_stream(gateway, raw):
    """Where the upstream has no GET stream (405), neither have we."""
    port, path = split(gateway.url("fast"))
    fields = {"Authorization": f"Bearer {gateway.token}", "Accept": "text/event-stream"}
    async with await Wire.open(port, gateway.seen) as wire:
        answer = await wire.exchange("GET", path, fields)
        assert answer.status == 405, (answer.status, answer.body)
        assert "POST" in (answer.header("allow") or "")


async def test_upstream_forgets(gateway, raw):
    """A call in a session that the upstream forgot is not lost: it is initialised again, once, and the call sent again."""
    url = gateway.url("sessions")
    session = await initialize(url, gateway.token, gateway.seen)
    raw.control("/control/forget")
    raw.control("/control/clear")
    answers = await asyncio.gather(
        *(post(url, {**CALL, "id": n}, token=gateway.token, session=session, seen=gateway.seen) for n in range(10))
    )
    for n, answer in enumerate(answers):
        assert answer.status == 200 and "result" in answer.reply(n)
    seen = journal(raw)
    assert len([e for e in seen if e["rpc"] == "initialize"]) == 1, "one re-initialisation for all"
    for n in range(10):
        assert len([e for e in seen if e["id"] == n and e["executed"]]) == 1, f"call {n} ran once"


async def test_upstream_that_never_remembers(gateway, raw):
    """Refused again after one try, the caller's session ends with 404, so that it initialises anew itself."""
    url = gateway.url("amnesia")
    port, _ = split(url)
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "wire", "version": "1"}}
    opened = await post(url, message("initialize", params), token=gateway.token, seen=gateway.seen)
    session = opened.header("mcp-session-id")
    assert session
    raw.control("/control/clear")
    answer = await post(url, CALL, token=gateway.token, session=session, seen=gateway.seen)
    assert answer.status == 404, answer.body
    assert len([e for e in journal(raw) if e["rpc"] == "tools/call"]) == 2
    assert len([e for e in journal(raw) if e["rpc"] == "initialize"]) == 1
    assert (await post(url, CALL, token=gateway.token, session=session)).status == 404


async def test_upstream_restarts(gateway_of):
    """After a restart of the upstream on its port the next call of an old session works."""
    first = Upstream("2x", PEERS / "raw_upstream.py", "0")
    gateway = gateway_of({"sessions": entry(first)})
    url = gateway.url("sessions")
    session = await initialize(url, gateway.token, gateway.seen)
    assert (await post(url, CALL, token=gateway.token, session=session)).status == 200
    first.kill()
    answer = await post(url, CALL, token=gateway.token, session=session, seen=gateway.seen)
    assert answer.reply(1)["error"]["data"]["reason"] in ("unreachable", "upstream_closed")
    second = Upstream("2x", PEERS / "raw_upstream.py", str(first.port))
    try:
        answer = await post(url, CALL, token=gateway.token, session=session, seen=gateway.seen)
        assert answer.status == 200 and "result" in answer.reply(1), answer.body
    finally:
        second.kill()


async def test_route_before_its_upstream(gateway_of, raw):
    """A route exists from the first moment: a call to an upstream that is not up is an error, and works once it is."""
    gateway = gateway_of({"late": {"url": "http://127.0.0.1:1/mcp"}, "sessions": entry(raw)}, startupGracePeriod="250ms")
    for era in ("handshake", "stateless"):
        call = message("tools/call", {"name": "x", "arguments": {}}, era=era)
        answer = await post(gateway.url("late"), call, era=era, token=gateway.token, seen=gateway.seen)
        assert answer.status == (200 if era == "handshake" else 502)
        data = answer.reply(1)["error"]["data"]
        assert (data["reason"], data["executed"]) == ("unreachable", "no"), data
    assert (await post(gateway.url("sessions"), message("ping"), token=gateway.token)).status in (200, 400)
    await until("one of two is usable", lambda: gateway.get("/_readyz")[0] == 200)
