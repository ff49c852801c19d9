# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Health, readiness, metrics and status: who may see them, and what they say."""

import json
import signal

import pytest
from harness.processes import poll, until
from harness.wire import message, post

CALL = message("tools/call", {"name": "x", "arguments": {}})


def good(raw, **more):
    return {"url": f"http://127.0.0.1:{raw.port}/fast", "protocol": "handshake", **more}


DEAD = {"url": "http://127.0.0.1:1/mcp"}


def test_healthz(gateway_of, raw):
    """200 while it serves, to anybody, with GET and HEAD."""
    gateway = gateway_of({"s": good(raw)})
    status, body = gateway.get("/_healthz", authorized=False)
    assert status == 200 and body


@pytest.mark.parametrize(
    "servers,grace,status,word",
    [
        (["good"], "30s", 200, "ready"),
        (["good", "dead"], "250ms", 200, "degraded"),
        (["dead"], "250ms", 503, "unavailable"),
        (["refused"], "250ms", 503, "unavailable"),
        (["good", "refused"], "250ms", 200, "degraded"),
    ],
)
def test_readyz(gateway_of, raw, faults, servers, grace, status, word):
    """The word and the status follow from the verdicts of the upstreams; reasons come from a closed list."""
    entries = {
        "good": {"url": f"http://127.0.0.1:{raw.port}/fast"},
        "dead": DEAD,
        "refused": {"url": f"http://127.0.0.1:{faults.port}/mcp/401"},
    }
    gateway = gateway_of({name: entries[name] for name in servers}, startupGracePeriod=grace)
    poll(word, lambda: gateway.get("/_readyz", authorized=False)[0] == status and word.encode() in gateway.get("/_readyz")[1])
    body = gateway.get("/_readyz")[1].decode()
    assert "127.0.0.1" not in body.lower(), "no host"
    if "dead" in servers:
        assert "unreachable" in body
    if "refused" in servers:
        assert "rejected" in body


def test_initializing(gateway_of, faults):
    """Until each upstream has given its verdict, or the grace is over, it is `initializing`."""
    gateway = gateway_of({"s": {"url": f"http://127.0.0.1:{faults.port}/mcp/hang"}}, startupGracePeriod="1s")
    status, body = gateway.get("/_readyz")
    assert status == 503 and b"initializing" in body
    poll("unavailable", lambda: b"unavailable" in gateway.get("/_readyz")[1])


@pytest.mark.parametrize("page", ["/metrics", "/_status"])
def test_access_with_tokens(gateway_of, raw, page):
    """With tokens configured at the top, a page needs one of them."""
    gateway = gateway_of({"s": good(raw)})
    assert gateway.get(page)[0] == 200
    assert gateway.get(page, authorized=False)[0] == 401
    assert gateway.get(page, authorized=False, Authorization="Bearer wrong")[0] == 401


@pytest.mark.parametrize("page", ["/metrics", "/_status"])
@pytest.mark.parametrize("trace", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"])
def test_access_without_tokens(gateway_of, raw, page, trace):
    """Without tokens it answers loopback only, and not what has come through a proxy."""
    gateway = gateway_of({"s": good(raw)}, open_to_all=True)
    assert gateway.get(page)[0] == 200
    assert gateway.get(page, **{trace: "192.0.2.1"})[0] == 403
    assert gateway.get(page, Host="gateway.example")[0] in (403, 421)


@pytest.mark.parametrize("page", ["/metrics", "/_status"])
@pytest.mark.parametrize("base", ["https://gateway.example/tools", "http://127.0.0.1:9"])
def test_access_behind_a_silent_proxy(gateway_of, raw, page, base):
    """An `https` address means that something stands in front, and everybody comes from this machine: tokens are needed.

    What stands there need not say so: it may set no field at all.
    """
    gateway = gateway_of({"s": good(raw)}, open_to_all=True, baseURL=base, allowedHosts=["127.0.0.1"])
    status, body = gateway.get(page)
    if base.startswith("https:"):
        assert status == 403 and b"mcpProxy.options.authTokens" in body, (status, body[:500])
    else:
        assert status == 200
    assert gateway.get("/_healthz")[0] == 200


def test_pages_under_the_path(gateway_of, raw):
    """The pages stand at the root and under the path of `baseURL`; routes stand under it alone."""
    gateway = gateway_of({"s": good(raw)}, baseURL="http://127.0.0.1:9/tools/v1")
    for page in ("/_healthz", "/_readyz", "/metrics", "/_status"):
        assert gateway.get(page)[0] in (200, 503)
        assert gateway.get("/tools/v1" + page)[0] in (200, 503)
    assert gateway.get("/s/mcp")[0] == 404
    assert gateway.get("/tools/v1/s/mcp")[0] in (405, 406)


def test_status_page(gateway_of, raw):
    """It is JSON, names every upstream with its era, and shows no secret."""
    gateway = gateway_of({"handshake-server": {"url": f"http://127.0.0.1:{raw.port}/fast"}, "dead": DEAD}, startupGracePeriod="250ms")
    gateway.wait_until_ready()
    status, body = gateway.get("/_status")
    assert status == 200
    text = json.dumps(json.loads(body))
    assert "handshake-server" in text and "dead" in text and "handshake" in text


async def test_metrics_are_honest(gateway_of, raw, faults):
    """What the counters count is what happened; they are valid Prometheus text with the documented names."""
    import asyncio

    bad = {"url": f"http://127.0.0.1:{faults.port}/mcp/close-after-read", "protocol": "handshake"}
    gateway = gateway_of({"good": good(raw), "bad": bad})
    await asyncio.gather(*(post(gateway.url("good"), {**CALL, "id": n}, token=gateway.token) for n in range(20)))
    await asyncio.gather(*(post(gateway.url("bad"), {**CALL, "id": n}, token=gateway.token) for n in range(5)))
    await post(gateway.url("good"), CALL, token="wrong")
    assert gateway.metric("requests_total", server="good", method="tools/call") == 20
    assert gateway.metric("requests_total", server="bad", method="tools/call") == 5
    assert gateway.metric("upstream_failures_total", server="bad") == 5
    assert gateway.metric("upstream_failures_total", server="good") == 0
    assert gateway.metric("request_duration_seconds_count", server="good") == 20
    assert gateway.metric("inbound_rejected_total") == 1
    assert gateway.metric("buffered_bytes") == 0
    names = {sample.partition("{")[0] for sample in gateway.metrics()}
    for name in ("build_info", "upstream_connections", "sessions", "streams", "process_resident_memory_bytes"):
        assert any(found.endswith(name) for found in names), name


async def test_names_do_not_make_series(gateway_of, raw):
    """Paths, tools and methods of callers' invention add no series."""
    gateway = gateway_of({"s": good(raw)}, log_level="info")
    await post(gateway.url("s"), message("made/up", id=1), token=gateway.token)
    await post(gateway.url("nowhere"), CALL, token=gateway.token)
    before = len(gateway.metrics())
    for n in range(50):
        await post(gateway.url("s"), message(f"made/up/{n}", id=n), token=gateway.token)
        await post(gateway.url("s"), message("tools/call", {"name": f"tool-{n}"}, id=n), token=gateway.token)
        await post(gateway.url(f"nowhere-{n}"), CALL, token=gateway.token)
    assert len(gateway.metrics()) <= before + 40


async def test_hangup(gateway_of, raw):
    """SIGHUP reads the configuration again: nobody notices, even at the first moment."""
    gateway = gateway_of({"s": good(raw)})
    gateway.child.process.send_signal(signal.SIGHUP)
    await until("one line", lambda: gateway.log("configuration reloaded"))
    assert len(gateway.log("configuration reloaded")) == 1
    assert (await post(gateway.url("s"), CALL, token=gateway.token)).status == 200


def test_stopped_at_once(gateway_of, raw):
    """From the moment that it says it listens, SIGTERM is a graceful stop."""
    gateway = gateway_of({"s": good(raw)})
    gateway.child.process.send_signal(signal.SIGTERM)
    gateway.stop(was_told=True)
