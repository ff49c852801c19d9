# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""JSON-RPC batches: a feature of 2025-03-26 alone, and no way around any rule."""

import json
import secrets

import pytest
from harness.callers import CLIENT, Caller, call_of, text_of
from harness.wire import message

pytestmark = pytest.mark.gateway_only

MOST = 50
KINDS = ["stdio", "1x", "1x-stateless", "1x-sse"]
INVALID = -32600


@pytest.fixture
def gateway(gateway_of, child, servers):
    """A program, and servers of the SDK 1.x, which knows no batches: the elements must reach them one by one."""
    entries = {"stdio": child.entry, **{flavor: servers[flavor].entry for flavor in KINDS[1:]}}
    started = gateway_of(entries, options={"pingInterval": 0})
    started.wait_until_ready()
    return started


def echo(id):
    return call_of("echo", {"text": f"text-{id}"}, id=id)


def answers(answer):
    """The elements of the answer, whether it is one array or events."""
    found = answer.messages()
    return [m for part in found for m in (part if isinstance(part, list) else [part]) if "method" not in m]


def by_id(answer):
    replies = answers(answer)
    ids = [json.dumps(reply.get("id")) for reply in replies]
    assert len(set(ids)) == len(ids), f"answered twice: {ids}"
    return {reply.get("id"): reply for reply in replies}


@pytest.mark.parametrize("kind", KINDS)
async def test_mixed(gateway, kind):
    """Requests are answered once each, whatever their number and kind; notifications and answers are taken."""
    caller = await Caller.open(gateway, kind, version="2025-03-26")
    batch = [
        echo(1),
        message("notifications/cancelled", {"requestId": 99}, id=None),
        echo("one"),
        {"jsonrpc": "2.0", "id": 12345, "result": {}},
        message("ping", id=3),
        call_of("fail", {"message": "no luck"}, id=4),
        message("no/such/method", id=5),
    ]
    answer = await caller.post(batch)
    assert answer.status == 200, (answer.status, answer.body)
    replies = by_id(answer)
    assert replies.keys() == {1, "one", 3, 4, 5}
    assert "text-1" in text_of(replies[1]) and "text-one" in text_of(replies["one"])
    assert replies[3]["result"] == {}
    assert replies[5]["error"]["code"] < 0
    assert "result" in await caller.ask("echo", {"text": "x"}), "single messages go on"


async def test_nothing_to_answer(gateway, child):
    """Only notifications, or only answers: 202 without a body."""
    caller = await Caller.open(gateway, "stdio", version="2025-03-26")
    cancel = message("notifications/cancelled", {"requestId": 99}, id=None)
    for batch in ([cancel], [cancel, cancel], [{"jsonrpc": "2.0", "id": 1, "result": {}}]):
        answer = await caller.post(batch)
        assert answer.status == 202 and not answer.body, (answer.status, answer.body)


async def test_most_elements(gateway, child):
    """Fifty elements are served, one more is refused as a whole, and none of it runs."""
    caller = await Caller.open(gateway, "stdio", version="2025-03-26")
    answer = await caller.post([echo(n) for n in range(MOST)])
    replies = by_id(answer)
    assert replies.keys() == set(range(MOST))
    assert all(f"text-{id}" in text_of(reply) for id, reply in replies.items())
    before = len(child.messages("tools/call"))
    answer = await caller.post([echo(n) for n in range(MOST + 1)])
    refused(answer)
    assert len(child.messages("tools/call")) == before == MOST


def refused(answer):
    assert answer.status == 400 and answer.json()["error"]["code"] == INVALID, (answer.status, answer.body)


async def test_empty(gateway):
    """Nothing is no message."""
    caller = await Caller.open(gateway, "stdio", version="2025-03-26")
    refused(await caller.post([]))


async def test_wrong_elements(gateway, child):
    """`initialize` and what is no message are errors of their own; the others are served."""
    caller = await Caller.open(gateway, "stdio", version="2025-03-26")
    params = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": CLIENT}
    initialized = len(child.messages("initialize"))
    answer = await caller.post([echo(1), message("initialize", params, id=2), echo(3)])
    replies = by_id(answer)
    assert replies.keys() == {1, 2, 3}
    assert replies[2]["error"]["code"] == INVALID
    assert "result" in replies[1] and "result" in replies[3]
    assert len(child.messages("initialize")) == initialized
    answer = await caller.post([echo(4), 42, [echo(5)]])
    codes = [reply["error"]["code"] for reply in answers(answer) if "error" in reply]
    if answer.status == 200:
        assert codes == [INVALID, INVALID] and "result" in by_id_of(answers(answer), 4)
    else:
        refused(answer)
    assert not child.executed("text-5"), "a batch in a batch"


def by_id_of(replies, id):
    return next(reply for reply in replies if reply.get("id") == id)


async def test_equal_ids(gateway, child):
    """An id that stands twice in a batch is that of two calls, each with its answer."""
    caller = await Caller.open(gateway, "stdio", version="2025-03-26")
    nonce = secrets.token_hex(8)
    answer = await caller.post([call_of("slow", {"seconds": 0.2, "nonce": nonce}, id=1), echo(1), echo(2)])
    if answer.status == 200:
        replies = answers(answer)
        assert sorted(r["id"] for r in replies) == [1, 1, 2] and all("result" in r for r in replies), replies
        assert child.executed(nonce) == 1
    else:
        refused(answer)
        assert not child.executed(nonce)


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_other_versions(gateway, child, version):
    """Every other revision knows one message a POST."""
    caller = await Caller.open(gateway, "stdio", version=version)
    refused(await caller.post([echo(1)]))
    assert not child.executed("text-1")
    assert "result" in await caller.ask("echo", {"text": "x"})


async def test_batch_without_a_session(gateway, child):
    """`initialize` in a batch opens none."""
    caller = Caller(gateway.url("stdio"), gateway.token, gateway.seen, "2025-03-26")
    params = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": CLIENT}
    answer = await caller.post([message("initialize", params, id=0), echo(1)])
    assert answer.header("mcp-session-id") is None
    assert answer.status == 400 or by_id(answer)[0]["error"]["code"] == INVALID
    assert not child.executed("text-1")


async def test_session_that_ends_within(gateway_of, raw):
    """Where the first element finds the session lost, the others are answered under their ids all the same."""
    entry = {"url": f"http://127.0.0.1:{raw.port}/amnesia", "protocol": "handshake", "options": {"isolation": "shared"}}
    gateway = gateway_of({"amnesia": entry})
    gateway.wait_until_ready()
    first, second, third = [await Caller.open(gateway, "amnesia", version="2025-03-26") for _ in range(3)]
    # The notification may be the one that finds it lost, and nobody expects an answer to it.
    cancelled = message("notifications/cancelled", {"requestId": 99}, id=None)
    replies = by_id(await third.post([cancelled, echo(1)]))
    assert set(replies) == {1}, replies
    assert (await first.post(echo(0))).status == 404, "it is lost for both"
    replies = by_id(await second.post([echo(1), cancelled, echo(2), echo(3)]))
    assert set(replies) == {1, 2, 3} and all(reply["error"]["code"] == INVALID for reply in replies.values()), replies
