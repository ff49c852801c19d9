# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What a server speaks is found out whatever it answers to what it does not know, and if it is not usable everybody who
asks is told the same true reason."""

import asyncio
import json

import pytest
from harness.callers import Caller, text_of
from harness.clients import SSE_CLIENTS
from harness.errors import gateway_reply
from harness.gateway import Gateway
from harness.processes import FIXTURES, Everything, Upstream, free_port, poll, until
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ODD = ["401", "403", "404", "405", "406", "415", "422", "429", "500", "503", "html", "close"]
"""What servers, their gateways and firewalls answer to what they do not know."""
QUICK = {"connectTimeout": "500ms"}
ALONE = {"pingInterval": 0, "reconnectInterval": "300ms"}


@pytest.fixture(scope="module")
def probed():
    """The server that answers as its path says (Tests/Fixtures/probedupstream.py)."""
    upstream = Upstream("2x", FIXTURES / "probedupstream.py", "0")
    yield upstream
    upstream.kill()


def status(gateway, name):
    """What /_status says of a server."""
    return json.loads(gateway.get("/_status")[1])["upstreams"][name]


def at(port, path, **more):
    return {"url": f"http://127.0.0.1:{port}{path}", **more}


async def stateless(gateway, name):
    body = message("tools/list", id=9, era="stateless")
    return await post(gateway.url(name), body, era="stateless", token=gateway.token, seen=gateway.seen)


# What it speaks.


async def test_whatever_is_answered_to_discover(probed, gateway_of):
    """`initialize` is tried next, with and without `transportType`; a caller of the other era is told what is spoken."""
    servers = {}
    for answer in [*ODD, "hang"]:
        servers[f"typed-{answer}"] = at(probed.port, f"/{answer}/ok/405")
        servers[f"untyped-{answer}"] = at(probed.port, f"/{answer}/ok/405", transportType=None)
    gateway = gateway_of(servers, limits=QUICK, options=ALONE)
    gateway.wait_until_ready()
    assert json.loads(gateway.get("/_readyz")[1])["status"] == "ready", gateway.get("/_readyz")
    for name in servers:
        caller = await Caller.open(gateway, name)
        assert text_of(await caller.ask("here")) == "here", name
        assert status(gateway, name)["transport"] == "streamable-http"
        refused = await stateless(gateway, name)
        assert refused.status == 400, (name, refused.body)
        error = refused.reply(9)["error"]
        assert error["code"] == -32022 and "2025-06-18" in error["data"]["supported"], (name, error)


async def test_whatever_is_answered_to_post(probed, gateway_of):
    """Without `transportType` an SSE server is found by its GET stream."""
    answers = [*ODD, "stream", "moved"]
    servers = {answer: at(probed.port, f"/{answer}/{answer}/ok", transportType=None) for answer in answers}
    servers["hang"] = at(probed.port, "/hang/hang/ok", transportType=None)
    gateway = gateway_of(servers, limits=QUICK, options=ALONE)
    gateway.wait_until_ready()
    assert json.loads(gateway.get("/_readyz")[1])["status"] == "ready", gateway.get("/_readyz")
    for name in servers:
        assert status(gateway, name)["transport"] == "sse"
        caller = await Caller.open(gateway, name)
        assert text_of(await caller.ask("here")) == "here", name
        await caller.delete()
    posts = [method for path, method in probed.control("/control/journal") if path == "/stream/stream/ok"]
    assert posts.count("server/discover") == 1 and "initialize" not in posts, "its stream said enough"


async def test_asked_again(probed, gateway_of):
    """A server that was busy when it was asked about the stateless era is asked again when a caller wants it."""
    path = "/503-then-404/ok/405"
    gateway = gateway_of({"s": at(probed.port, path)}, options=ALONE)
    gateway.wait_until_ready()
    eras = status(gateway, "s")["eras"]
    assert (eras["handshake"], eras["stateless"]) == (True, None), "503 says nothing of it"
    assert (await stateless(gateway, "s")).reply(9)["error"]["code"] == -32022
    probed.control(f"/control/turn{path}")

    async def is_known():
        assert (await stateless(gateway, "s")).reply(9)["error"]["code"] == -32022
        return status(gateway, "s")["eras"]["stateless"] is False

    await until("it was asked again", is_known)


# Redirects.


@pytest.fixture(scope="module", params=["2x-mounted", "1x-mounted", "2x-sse-mounted", "1x-sse-mounted"])
def mounted(request):
    """An official server below a path of a larger application, which redirects that path to itself with a slash."""
    server = Everything(request.param)
    yield server
    server.kill()


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "untyped"])
def test_behind_a_redirect(mounted, typed, clients, gateway_of):
    """It is found, used and ready; only the first message pays for the redirect."""
    entry = mounted.entry if typed else {**mounted.entry, "transportType": None}
    gateway = gateway_of({"m": entry}, options={"pingInterval": 0})
    gateway.wait_until_ready()
    assert status(gateway, "m")["state"] == "usable", gateway.get("/_readyz")
    mounted.journal(clear=True)
    for client in ("2x-auto", "1x", "2x-auto-sse"):
        transport = "sse" if client in SSE_CLIENTS else "mcp"
        assert clients.run(client, "tools", gateway.url("m", transport), gateway.token)
        assert gateway.get("/_readyz")[0] == 200
    requests = mounted.journal()["requests"]
    redirected = [request for request in requests if request["status"] == 307]
    if mounted.is_sse:
        assert {request["method"] for request in redirected} <= {"GET"}, "one a stream"
    else:
        assert not redirected, "the target is remembered"
    assert len(gateway.logged("upstream state changed")) == 1, "it does not flap"


async def test_remembered_target_is_forgotten(gateway_of):
    """What moves again is found again: the call that the old place sends elsewhere is the last that goes there."""
    first = Everything("2x-mounted")
    gateway = gateway_of({"m": first.entry}, options={"pingInterval": 0})
    gateway.wait_until_ready()
    first.kill()
    second = Everything("2x", port=first.port)  # at the URL itself
    call = message("tools/call", {"name": "echo", "arguments": {"text": "x"}}, era="stateless")

    async def is_found():
        return "result" in (await post(gateway.url("m"), call, era="stateless", token=gateway.token)).reply(1)

    try:
        await until("it is found", is_found)
        assert await is_found()
        moved = [request["path"] for request in second.journal()["requests"] if request["status"] == 307]
        assert moved == ["/mcp/"]
    finally:
        second.kill()


# Why it is not usable.


CAUSES = {
    # what: reason of a call, cause, a word of the detail, state
    "refused port": ("unreachable", "connect_refused", "nothing listens at 127.0.0.1:", "unreachable"),
    "no such name": ("unreachable", "dns", "nowhere.invalid has no address", "unreachable"),
    "https to http": ("unreachable", "tls_handshake", "http://", "unreachable"),
    "unknown authority": ("unreachable", "tls_verify", "not signed by an authority", "unreachable"),
    "expired": ("unreachable", "tls_verify", "expired on 2020-02-01", "unreachable"),
    "wrong name": ("unreachable", "tls_verify", "not for this host", "unreachable"),
    "wrong path": ("upstream_status", "http_4xx", "404", "unusable"),
    "login page": ("upstream_protocol", "web_page", "web page", "unusable"),
    "elsewhere": ("upstream_protocol", "redirect", "/elsewhere?key=•••", "unusable"),
    "broken": ("upstream_status", "http_5xx", "503", "unusable"),
    "limited": ("rate_limited", "rate_limited", "rate", "unusable"),
    "closed": ("upstream_closed", "closed_before_response", "closed before", "unreachable"),
    "token": ("credential_rejected", "auth_401", "401", "rejected"),
    "pool of one": ("credential_rejected", "auth_403", "slot 0", "rejected"),
    "pool of two": ("credentials_exhausted", "exhausted", "statuses: 401, 401", "rejected"),
}


@pytest.fixture(scope="module")
def unusable(probed, certificates, tmp_path_factory):
    """A gateway before every server of CAUSES, typed and untyped, as HTTP and, where that is another matter, as SSE."""
    pages = {"wrong path": "404", "login page": "html", "elsewhere": "moved", "broken": "503", "limited": "429"}
    pages |= {"closed": "close", "token": "401", "pool of one": "403", "pool of two": "401"}
    origins = {
        what: Upstream("2x", FIXTURES / "origin.py", "0", "--tls", str(certificates / f"{name}.pem"))
        for what, name in {"unknown authority": "otherca-leaf", "expired": "expired", "wrong name": "wrongname"}.items()
    }
    tls = {"caFile": str(certificates / "ca.pem")}
    entries = {
        "refused port": at(free_port(), "/mcp"),
        "no such name": {"url": "http://nowhere.invalid/mcp"},
        "https to http": {"url": f"https://127.0.0.1:{probed.port}/ok/ok/ok"},
        **{what: {"url": f"https://127.0.0.1:{origin.port}/echo", "tls": tls} for what, origin in origins.items()},
        **{what: at(probed.port, f"/{page}/{page}/{page}") for what, page in pages.items()},
    }
    for what, count in (("pool of one", 1), ("pool of two", 2)):
        entries[what]["options"] = {"auth": {"tokens": [f"CANARY-{what.replace(' ', '-')}-{n}" for n in range(count)]}}
    servers = {}
    for what, entry in entries.items():
        for kind in ("streamable-http", "sse", None):
            servers[f"{what.replace(' ', '-')}-{kind}"] = {**entry, "transportType": kind}
    options = {"pingInterval": 0, "autoReconnect": False}
    gateway = Gateway(tmp_path_factory.mktemp("unusable"), servers, options=options, startupGracePeriod="3s")
    gateway.wait_until_looked()
    yield gateway
    gateway.stop()
    for origin in origins.values():
        origin.kill()


@pytest.mark.parametrize("kind", ["streamable-http", "sse", None])
@pytest.mark.parametrize("what", CAUSES)
async def test_one_true_cause(unusable, what, kind):
    """The log, a call, /_readyz and /_status say the same, whatever the configuration says of the transport."""
    gateway, name = unusable, f"{what.replace(' ', '-')}-{kind}"
    reason, cause, detail, state = CAUSES[what]
    initialize = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}, id=4)
    answer = await post(gateway.url(name), initialize, token=gateway.token, seen=gateway.seen)
    error = answer.reply(4)["error"]
    gateway_reply(answer.reply(4), name, {reason} | ({"credential_rejected"} if cause == "exhausted" else set()), {"no", "unknown"})
    seen = status(gateway, name)
    assert (seen["state"], seen["cause"]) == (state, cause), seen
    assert detail in seen["detail"], seen
    ready = json.loads(gateway.get("/_readyz")[1])
    assert ready["upstreams"][name] == ("rejected" if state == "rejected" else "unreachable")
    assert ready["causes"][name] == cause
    lines = gateway.logged("upstream state changed", upstream=name)
    assert [(line["to"], line["cause"]) for line in lines] == [(state, cause)], lines
    assert detail in lines[0]["detail"] and lines[0]["level"] == "warning"
    assert "not known" not in error["message"]
    if cause != "exhausted":
        assert error["data"]["cause"] == cause and detail in error["message"], error


async def test_not_known_before_the_first_look(gateway_of):
    """Only a call that comes before the first look has ended, and gives up waiting, hears that nothing is known."""
    silent = await asyncio.start_server(lambda reader, writer: reader.read(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    gateway = gateway_of({"s": at(port, "/mcp", transportType=None, timeout="1s")}, options=ALONE)
    answer = await post(gateway.url("s"), message("ping"), token=gateway.token)
    error = answer.reply(1)["error"]
    assert error["data"]["cause"] == "not_probed" and "not known" in error["message"], error
    silent.close()


# Readiness.


async def test_readiness_is_what_the_next_call_meets(probed, gateway_of):
    """A server that answers everything with 404 is not usable, and stays so while calls come."""
    gateway = gateway_of({"s": at(probed.port, "/404/404/404")}, options={"pingInterval": 0}, startupGracePeriod="1s")
    poll("a verdict", lambda: gateway.get("/_readyz")[0] == 503 and status(gateway, "s")["state"] == "unusable")
    for _ in range(3):
        answer = await post(gateway.url("s"), message("tools/list"), token=gateway.token)
        gateway_reply(answer.reply(1), "s", {"upstream_status"}, {"no", "unknown"})
        assert gateway.get("/_readyz")[0] == 503 and status(gateway, "s")["cause"] == "http_4xx"
    assert len(gateway.logged("upstream state changed")) == 1


async def test_call_that_goes_wrong_brings_a_look(probed, gateway_of):
    """A server that turned into a login page is seen to be unusable by its calls, though it was never idle."""
    path = "/404/ok-then-html/404"
    gateway = gateway_of({"s": at(probed.port, path)}, options={"pingInterval": "10m"})
    gateway.wait_until_ready()
    usable = status(gateway, "s")
    assert usable["state"] == "usable" and "cause" not in usable
    assert json.loads(gateway.get("/_readyz")[1]) == {"status": "ready", "upstreams": {}}
    probed.control(f"/control/turn{path}")
    answer = await post(gateway.url("s"), message("tools/list"), token=gateway.token)
    assert gateway_reply(answer.reply(1), "s", {"upstream_protocol"}, {"unknown"})["cause"] == "web_page"
    await until("it is seen", lambda: status(gateway, "s").get("cause") == "web_page")


# The credentials that it was asked with.


async def test_slot_shows_what_the_probe_met(tokens, gateway_of):
    """A token that the gateway's own probe saw refused, or accepted, is not shown as unused."""
    tokens.script(A=401, B=403)
    servers = {"http": tokens.entry("/plain", "A B C D"), "sse": tokens.entry("/sse", "A B C D")}
    gateway = gateway_of(servers, options={"pingInterval": 0})
    gateway.wait_until_ready()
    for name in servers:
        pool = gateway.credentials(name)
        assert [slot["state"] for slot in pool["slots"]] == ["rejected", "rejected", "accepted", "unused"], (name, pool)
        assert [slot["failures"] for slot in pool["slots"]] == [0, 0, 0, 0] and pool["rotations"] == 0
        assert pool["slots"][0]["lastFailure"] and pool["slots"][0]["lastRefusal"] == "rejected"
        assert pool["slots"][2]["lastSuccess"] and not pool["slots"][2]["lastFailure"]
    tokens.script(A=200)
    caller = await Caller.open(gateway, "http")
    assert (await caller.ask("echo"))["result"]
    assert gateway.credentials("http")["slots"][0]["state"] == "accepted"
