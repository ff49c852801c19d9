# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a call when its upstream misbehaves: every fault of faultupstream.py, for callers of both eras.

The upstream's journal is the ledger: whatever the caller is told, a call is never executed twice, and `executed: no` is
never said of a call that ran.
"""

import itertools
import json
import time

import pytest
from harness.callers import text_of
from harness.errors import gateway_error
from harness.processes import until
from harness.wire import Wire, headers_of, message, post, split

ERAS = ["handshake", "stateless"]
SHORT = {"timeout": "1s"}
NO, UNKNOWN, YES = {"no"}, {"unknown"}, {"yes"}
REFUSED = NO | UNKNOWN  # a 4xx says that it did not run, but not every server means it
BEGAN = YES | UNKNOWN

# fault?query: what the caller gets. "same" is the upstream's own answer, byte for byte.
SAME = [
    "ok",
    "isError",
    "jsonrpc-auth-error",
    "1xx-then-200",
    "http10-close",
    "307-same",
    "308-same",
    "slow-headers?ms=2",
    "slow-body?ms=2",
    "excess-length",
    "extra-response",
    # Framing is checked, JSON is not: what the caller's own parser makes of these is the caller's business.
    "garbage-json",
    "wrong-id",
    "id-retyped",
    "null-id",
    "batch",
    "dup-keys",
    "deep-json?n=1000",
    "deep-json",
    "big-number",
    "bad-utf8",
    "lone-surrogate",
    "huge-body?n=8388608",
    # A status of 400 and more that comes with a JSON-RPC answer to this very id.
    "400?json=1",
    "404?json=1",
    "500?json=1",
    "503?json=1",
]
EVENTS = [
    "ok-sse?ms=5",
    "sse-crlf-bom",
    "sse-cr-only",
    "sse-split-utf8",
    "sse-comment-flood?n=20000",
    "sse-two-responses",
    "sse-after-response",
    "sse-request-to-client",
]
# fault: reasons, what may be said of `executed`, then times that the upstream sees the call (1 unless said).
ERRORS = {
    "400": ({"upstream_status"}, REFUSED),
    "404": ({"upstream_status"}, REFUSED),
    "405": ({"upstream_status"}, REFUSED),
    "413": ({"upstream_status"}, REFUSED),
    "408": ({"upstream_status"}, REFUSED, 2),
    "421": ({"upstream_status"}, REFUSED, 2),
    "425": ({"upstream_status"}, REFUSED, 2),
    "500": ({"upstream_status"}, UNKNOWN),
    "502": ({"upstream_status"}, UNKNOWN),
    "503": ({"upstream_status"}, UNKNOWN),
    "503-retry-after": ({"upstream_status"}, UNKNOWN),
    "504": ({"upstream_status"}, UNKNOWN),
    "session-404": ({"upstream_status"}, REFUSED),
    "429": ({"rate_limited"}, NO),
    "429-retry-after": ({"rate_limited"}, NO),
    "429-date": ({"rate_limited"}, NO),
    "429-garbage": ({"rate_limited"}, NO),
    "429-negative": ({"rate_limited"}, NO),
    "429-huge": ({"rate_limited"}, NO),
    "401": ({"credential_rejected"}, NO),
    "401?json=1": ({"credential_rejected"}, NO),
    "401-bare": ({"credential_rejected"}, NO),
    "401-basic": ({"credential_rejected"}, NO),
    "401-ssrf": ({"credential_rejected"}, NO),
    "early-401": ({"credential_rejected"}, NO),
    "403-scope": ({"credential_rejected"}, NO),
    "403-bare": ({"credential_rejected"}, NO),
    "401-crlf-echo": ({"upstream_protocol"}, REFUSED),
    **{f"{code}-{where}": ({"upstream_protocol"}, NO) for code in (301, 302, 303) for where in ("same", "cross")},
    "307-cross": ({"upstream_protocol"}, NO),
    "308-cross": ({"upstream_protocol"}, NO),
    "redirect-loop": ({"upstream_protocol"}, NO, 4),
    "redirect-file": ({"upstream_protocol"}, NO),
    "redirect-metadata": ({"upstream_protocol"}, NO),
    "redirect-noloc": ({"upstream_protocol"}, NO),
    "drop-before-read": ({"upstream_closed"}, UNKNOWN),
    "rst-before-read": ({"upstream_closed"}, UNKNOWN),
    "close-after-read": ({"upstream_closed"}, UNKNOWN),
    "rst-after-read": ({"upstream_closed"}, UNKNOWN),
    "close-mid-headers": ({"upstream_closed"}, UNKNOWN),
    "half-close": ({"upstream_closed"}, YES),
    "truncated-length": ({"upstream_closed"}, YES),
    "chunk-truncated": ({"upstream_closed"}, YES),
    "slow-headers?ms=300": ({"upstream_timeout"}, UNKNOWN),
    "slow-body?ms=300": ({"upstream_timeout"}, BEGAN),
    "hang": ({"upstream_timeout"}, UNKNOWN),
    "sse-silent": ({"upstream_timeout"}, UNKNOWN),
    "sse-endless?ms=20": ({"upstream_timeout"}, UNKNOWN),
    "empty-200": ({"upstream_protocol"}, UNKNOWN),
    "202-for-request": ({"upstream_protocol"}, UNKNOWN),
    "204-for-request": ({"upstream_protocol"}, UNKNOWN),
    "wrong-ctype": ({"upstream_protocol"}, UNKNOWN),
    "no-ctype": ({"upstream_protocol"}, UNKNOWN),
    "html-200": ({"upstream_protocol"}, UNKNOWN),
    "http09": ({"upstream_protocol"}, UNKNOWN),
    "101-switch": ({"upstream_protocol"}, UNKNOWN),
    # Without a length the body must be held to know whether it is whole.
    "endless-body": ({"upstream_protocol", "upstream_closed"}, YES),
    "chunk-bad-size": ({"upstream_protocol"}, BEGAN),
    "chunk-huge-size": ({"upstream_protocol"}, BEGAN),
    "cl-te": ({"upstream_protocol"}, BEGAN),
    "dup-cl-differ": ({"upstream_protocol"}, BEGAN),
    "dup-cl-same": ({"upstream_protocol"}, BEGAN),
    "negative-cl": ({"upstream_protocol"}, BEGAN),
    "obs-fold": ({"upstream_protocol"}, BEGAN),
    "huge-header": ({"upstream_protocol"}, BEGAN),
    "many-headers": ({"upstream_protocol"}, BEGAN),
    "header-nul": ({"upstream_protocol"}, BEGAN),
    "sse-cut-mid-event": ({"upstream_closed"}, UNKNOWN),
    "sse-no-response": ({"upstream_closed"}, UNKNOWN),
    "sse-rst": ({"upstream_closed"}, UNKNOWN),
    "sse-huge-event": ({"upstream_protocol"}, BEGAN),
    "sse-endless-line": ({"upstream_protocol"}, BEGAN),
    "sse-garbage-data": ({"upstream_protocol"}, BEGAN),
}
COMPRESSED = ["gzip-ok", "gzip-bomb"]
OTHERWISE_TESTED = {"tokens", "keepalive-then-rst"}
RETRY_AFTER = {
    "429": None,
    "429-garbage": None,
    "429-negative": None,
    "429-retry-after": 2000,
    "429-date": 300_000,
    "429-huge": 300_000,
}
"""Milliseconds that the caller is told; from 1 s to 300 s, and nothing where the upstream's hint is none."""
LONG_BODY = 3 * 1024 * 1024
MEMORY_LIMIT = 150 * 1024 * 1024

ids = itertools.count(700_000)  # digits that no fault has in its own text


def server_name(fault: str, era: str) -> str:
    return f"{era[0]}-{fault.replace('?', '-').replace('=', '-').replace('&', '-')}"


@pytest.fixture(scope="module")
def gateway(faults, tmp_path_factory):
    """One gateway with an entry for every fault and era, whose era is pinned so that nothing but the call is sent."""
    from harness.gateway import Gateway

    servers = {}
    for fault in [*SAME, *EVENTS, *ERRORS, *COMPRESSED, "keepalive-then-rst?ms=50"]:
        for era in ERAS:
            slow = "upstream_timeout" in ERRORS.get(fault, ([],))[0]
            servers[server_name(fault, era)] = {
                "url": f"http://127.0.0.1:{faults.port}/mcp/{fault}",
                "protocol": era,
                **(SHORT if slow else {"timeout": "20s"}),
            }
    # Without pings and recovery: hundreds of upstreams would keep some connection open all the time.
    options = {"pingInterval": 0, "autoReconnect": False}
    started = Gateway(tmp_path_factory.mktemp("faults"), servers, log_level="debug", options=options)
    yield started
    try:
        assert started.child.rss("VmHWM") < MEMORY_LIMIT, f"{started.child.rss('VmHWM')} bytes at the most"
        started.settle(20)
    finally:
        started.stop()


def call_of(era, fault, id):
    arguments = {"pad": "x" * LONG_BODY} if fault == "early-401" else {}
    return message("tools/call", {"name": "tool", "arguments": arguments}, id=id, era=era)


class Ledger:
    """What the upstream saw of one call."""

    def __init__(self, faults, fault: str) -> None:
        self._faults = faults
        self._fault = fault.partition("?")[0]
        self._since = len(faults.control("/journal"))

    def entries(self):
        """The attempts, and where a redirect led them; the gateway's own pings and cancellations are left out."""
        news = self._faults.control("/journal")[self._since :]
        ours = [entry for entry in news if entry["fault"] in (self._fault, "ok")]
        return [entry for entry in ours if entry["method"] in ("tools/call", None)]

    def executed(self) -> int:
        return sum(entry["executed"] for entry in self.entries())


each_era = pytest.mark.parametrize("era", [pytest.param(e, marks=pytest.mark.xdist_group(f"faults-{e}")) for e in ERAS])


@pytest.mark.xdist_group("faults-handshake")
def test_table_is_complete(faults, gateway_of):
    """Every fault that the upstream knows has its row."""
    rows = {row.partition("?")[0] for row in [*SAME, *EVENTS, *ERRORS, *COMPRESSED]} | OTHERWISE_TESTED
    assert set(faults.control("/faults")) == rows


@each_era
@pytest.mark.parametrize("fault", SAME)
async def test_passed_on(gateway, faults, fault, era):
    """Status and body are the upstream's own, to the byte, and the call is sent once."""
    id = next(ids)
    call = call_of(era, fault, id)
    reached = "ok" if fault in ("307-same", "308-same") else fault
    direct = await post(f"http://127.0.0.1:{faults.port}/mcp/{reached}", call, era=era)
    ledger = Ledger(faults, fault)
    name = server_name(fault, era)
    answer = await post(gateway.url(name), call, era=era, token=gateway.token, seen=gateway.seen)
    assert (answer.status, answer.content_type) == (direct.status, direct.content_type)
    assert answer.body == direct.body and not answer.cut
    assert ledger.executed() == (0 if "?json" in fault or fault == "jsonrpc-auth-error" else 1)
    second = await post(gateway.url(name), call_of(era, fault, id + 100_000), era=era, token=gateway.token)
    assert second.status == answer.status
    assert second.body == answer.body.replace(str(id).encode(), str(id + 100_000).encode()), "another call's answer"


@each_era
async def test_compressed(gateway, faults, era):
    """An answer that is compressed is decoded; one that grows a thousandfold is cut off."""
    for fault in COMPRESSED:
        id = next(ids)
        ledger = Ledger(faults, fault)
        url = gateway.url(server_name(fault, era))
        answer = await post(url, call_of(era, fault, id), era=era, token=gateway.token, seen=gateway.seen)
        assert answer.status == 200 and answer.header("content-encoding") is None
        if fault == "gzip-ok":
            assert text_of(answer.reply(id)) == "ok" and not answer.cut
        else:
            assert answer.cut and len(answer.body) < 40 << 20
        assert len(ledger.entries()) == 1


@each_era
@pytest.mark.parametrize("fault", EVENTS)
async def test_stream_passed_on(gateway, faults, fault, era):
    """The events arrive whole and in order up to the answer, with which the stream ends at once."""
    id = next(ids)
    ledger = Ledger(faults, fault)
    url = gateway.url(server_name(fault, era))
    began = time.monotonic()
    answer = await post(url, call_of(era, fault, id), era=era, token=gateway.token, seen=gateway.seen)
    assert answer.status == 200 and answer.content_type == "text/event-stream" and not answer.cut
    assert "result" in answer.reply(id)
    messages = answer.messages()
    assert messages[-1] == answer.reply(id), "the answer is the last event"
    requests = [m for m in messages if "method" in m and "id" in m]
    if fault == "sse-request-to-client":
        assert len(requests) == (1 if era == "handshake" else 0), "servers send no requests in 2026-07-28"
    if fault.startswith("ok-sse"):
        assert [m["params"]["progress"] for m in messages[:-1]] == [0, 1, 2]
    if fault == "sse-two-responses":
        assert "second" not in answer.reply(id)["result"]
    if fault == "sse-split-utf8":
        assert answer.reply(id)["result"]["t"] == "\u00e9\U0001f600"
    if fault == "sse-after-response":
        assert time.monotonic() - began < 5, "the upstream's open stream does not hold the caller's open"
    assert ledger.executed() == 1


@each_era
@pytest.mark.parametrize("fault", ERRORS)
async def test_error(gateway, faults, fault, era):
    """The caller is told what happened, and truthfully whether the call can have run."""
    reasons, executed, *times = ERRORS[fault]
    id = next(ids)
    ledger = Ledger(faults, fault)
    name = server_name(fault, era)
    began = time.monotonic()
    answer = await post(gateway.url(name), call_of(era, fault, id), era=era, token=gateway.token, seen=gateway.seen)
    took = time.monotonic() - began
    data = gateway_error(answer, id, era, name, reasons, executed)
    ran = ledger.executed()
    assert ran <= 1, "executed twice"
    assert not (ran and data["executed"] == "no"), "it ran, and the caller was told that it did not"
    assert len(ledger.entries()) == (times[0] if times else 1), ledger.entries()
    if "upstream_timeout" in reasons:
        assert 0.9 < took < 5, took
    if data["reason"] in ("upstream_status", "credential_rejected"):
        assert data["status"] == (404 if fault == "session-404" else int(fault.removeprefix("early-")[:3])), data
    if fault in RETRY_AFTER:
        assert data.get("retryAfterMs") == RETRY_AFTER[fault], data
        if era == "stateless":
            hint = RETRY_AFTER[fault]
            assert answer.header("retry-after") == (str(hint // 1000) if hint else None)
    if fault in ("sse-no-response", "sse-rst"):
        assert len(answer.messages()) == 2, "what came before the end is delivered"


@each_era
async def test_stale_connection(gateway, faults, era):
    """A call on a pooled connection that the upstream has reset runs once or is said to be of unknown fate."""
    name = server_name("keepalive-then-rst?ms=50", era)
    first = await post(gateway.url(name), call_of(era, name, 1), era=era, token=gateway.token)
    assert first.status == 200 and "result" in first.reply(1)
    for id in range(2, 12):
        ledger = Ledger(faults, "keepalive-then-rst")
        answer = await post(gateway.url(name), call_of(era, name, id), era=era, token=gateway.token, seen=gateway.seen)
        assert ledger.executed() <= 1
        if "error" in answer.reply(id):
            gateway_error(answer, id, era, name, {"upstream_closed"}, UNKNOWN)
        # A listing may be sent again, so it always has its answer.
        answer = await post(gateway.url(name), message("tools/list", id=id, era=era), era=era, token=gateway.token)
        assert "result" in answer.reply(id), answer.body


@each_era
async def test_failures_are_counted(gateway, faults, era):
    """Each failure moves its metric by one, and leaves one line that says what happened."""
    name = server_name("close-after-read", era)
    before = gateway.metric("upstream_failures_total", server=name)
    lines = len([line for line in gateway.log() if name in json.dumps(line)])
    await post(gateway.url(name), call_of(era, "close-after-read", next(ids)), era=era, token=gateway.token)
    await until("the failure is counted", lambda: gateway.metric("upstream_failures_total", server=name) == before + 1)
    await until("it is logged", lambda: len([line for line in gateway.log() if name in json.dumps(line)]) > lines)


@pytest.mark.xdist_group("faults-handshake")
async def test_half_the_request_is_nothing(gateway, faults):
    """A caller that goes away inside its request causes nothing upstream."""
    name = server_name("ok", "handshake")
    port, path = split(gateway.url(name))
    call = call_of("handshake", "ok", next(ids))
    body = json.dumps(call).encode()
    ledger = Ledger(faults, "ok")
    async with await Wire.open(port) as wire:
        fields = {**headers_of("handshake", call, gateway.token), "Content-Length": str(len(body))}
        await wire.request("POST", path, fields, body[:-5])
    answer = await post(gateway.url(name), call_of("handshake", "ok", next(ids)), token=gateway.token)
    assert answer.status == 200
    assert len(ledger.entries()) == 1, "only the second call arrived"
