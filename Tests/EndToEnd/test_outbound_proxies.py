# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Outbound proxies that people use, before upstreams with and without TLS: what gets through, what is said when it does
not, and what nobody on the way should learn."""

import asyncio
import base64
import contextlib
import itertools
import json
import re
import secrets
import ssl
from collections import Counter

import pytest
from harness.callers import Caller, SSECaller, messages_of, text_of
from harness.errors import gateway_error
from harness.gateway import Gateway, binary
from harness.processes import Child, environment, free_port, until
from harness.realproxies import SPECIAL, Login, Recorder, connections, login
from harness.tokens import Tokens
from harness.wire import Wire, headers_of, message, post, split

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
QUIET = {"pingInterval": 0}
ABSENT = {"pingInterval": 0, "proxy": None}
TARGETS = ("http", "https")
KINDS = (
    "http-tinyproxy",
    "http-squid",
    "https-squid",
    "socks5-microsocks",
    "socks5h-microsocks",
    "socks5-dante",
    "socks5h-dante",
)
SAID = {"wrong": "proxy.auth.rejected", "missing": "proxy.auth.required"}

ids = itertools.count(1)


@contextlib.contextmanager
def upstream_before(outbound):
    """An upstream over TCP and TLS. Afterwards nothing that is meant for proxies has arrived there."""
    started = Tokens(outbound.certificates / "origin.pem")
    try:
        yield started
        entries, strays = started.journal(), started.state()["strays"]
    finally:
        started.kill()
    assert not strays
    told = [entry for entry in entries if [name for name in entry.get("fields", {}) if name.startswith("proxy-")]]
    assert not told, told


@pytest.fixture(scope="module")
def upstream(outbound):
    """The upstream of those who tell it nothing."""
    with upstream_before(outbound) as started:
        yield started


@pytest.fixture
def target(outbound):
    """An upstream for the test alone."""
    with upstream_before(outbound) as started:
        yield started


@pytest.fixture
def entry_of(outbound):
    """Makes an entry of the configuration: `entry_of(upstream, proxy, target, path, names=…, **more)`, with a pool of
    the tokens `names` if there are any. It trusts the upstream and the proxy."""
    return lambda *arguments, **more: entry_before(outbound, *arguments, **more)


def entry_before(outbound, upstream, proxy, target="http", path="/streams", *, names="", mode=None, era="handshake", **more):
    port = upstream.tls_port if target == "https" else upstream.port
    trusts = {"caFile": str(outbound.certificates / "ca.pem")}
    entry = {"url": f"{target}://127.0.0.1:{port}{path}", "protocol": era, "options": {}, **more}
    if target == "https":
        entry.setdefault("tls", trusts)
    if names:
        entry["options"]["auth"] = {"tokens": upstream.tokens(names), **({"rotationMode": mode} if mode else {})}
    if proxy is not None:
        if proxy.get("url", "").startswith("https:"):
            proxy = {"tls": trusts, **proxy}
        entry["options"]["proxy"] = proxy
    return entry


def with_canaries(gateway, *logins):
    for login in logins:
        gateway.canaries.add("proxy user", login.user)
        gateway.canaries.add("proxy password", login.password)
    return gateway


def program_of(outbound, kind):
    """The program of a kind, and the way in to it for those who have no login, and for those who have this one."""
    scheme, program = kind.split("-")
    if program == "squid":
        prefix = "tls_" if scheme == "https" else ""
        return outbound.squid, prefix + "open", outbound.squid, prefix + "basic", outbound.login
    if program == "dante":
        return None, scheme, outbound.dante, scheme, outbound.dante.login
    start = {"tinyproxy": outbound.tinyproxy, "microsocks": outbound.microsocks}[program]
    way = "port" if scheme == "http" else scheme
    return start(), way, start(outbound.login), way, outbound.login


def proxy_of(outbound, kind, auth="right"):
    """What `options.proxy` says of a kind. Nobody else has the same wrong password."""
    open_to_all, without, known, way, login = program_of(outbound, kind)
    if auth == "open":
        if open_to_all is None:
            pytest.skip("dante has one way in")
        return {"url": open_to_all.url(without)}
    user = (outbound.mistyped if known is outbound.squid else login).user
    given = {"right": login, "wrong": Login(user, f"wrong-{secrets.token_hex(16)}"), "missing": None}[auth]
    return {"url": known.url(way, given)}


async def call(gateway, name, era="handshake", tool="echo", **arguments):
    """The answer to a call, and its id."""
    id = next(ids)
    body = message("tools/call", {"name": tool, "arguments": arguments}, id=id, era=era)
    return await post(gateway.url(name), body, era=era, token=gateway.token, seen=gateway.seen), id


async def works(gateway, name, era="handshake", text=None, **arguments):
    """Asserts that the result of a call is what it should be; gives the answer."""
    text = text or secrets.token_hex(8)
    answer, id = await call(gateway, name, era, text=text, **arguments)
    assert text_of(answer.reply(id)) == text
    return answer


async def refused(gateway, name, code, stage, era="handshake"):
    """Asserts that a call fails with the proxy's error, and that it did not run; gives the data and the message."""
    answer, id = await call(gateway, name, era)
    data = gateway_error(answer, id, era, name, {"outbound_proxy"}, {"no"})
    assert (data["proxyError"], data["stage"]) == (code, stage), answer.reply(id)
    return data, answer.reply(id)["error"]["message"]


def no_token_is_blamed(gateway, name, count=2):
    pool = gateway.credentials(name)
    assert [slot["failures"] for slot in pool["slots"]] == [0] * count and pool["current"] == 0, pool


# Everything by everything.


def rows():
    for kind, auth, target in itertools.product(KINDS, ("open", "right", "wrong", "missing"), TARGETS):
        if (kind.partition("-")[2], auth) != ("dante", "open"):
            yield kind, auth, target


@pytest.fixture(scope="module")
def everything(outbound, upstream, tmp_path_factory):
    """A gateway with an upstream for each row."""
    servers = {}
    passwords = []
    for row in rows():
        kind, auth, target = row
        try:
            proxy = proxy_of(outbound, kind, auth)
        except (pytest.skip.Exception, pytest.fail.Exception):
            continue  # the row says so itself
        servers["-".join(row)] = entry_before(outbound, upstream, proxy, target, f"/streams?row={'-'.join(row)}")
        passwords.append(proxy["url"].rpartition("@")[0].rpartition(":")[2])
    gateway = Gateway(tmp_path_factory.mktemp("everything"), servers, options=QUIET, log_level="debug")
    with_canaries(gateway, outbound.login)
    for password in filter(None, passwords):
        gateway.canaries.add("proxy password", password)
    yield gateway
    try:
        gateway.settle()
    finally:
        gateway.stop()


@pytest.mark.parametrize("what", ["json", "sse", "get"])
@pytest.mark.parametrize("row", list(rows()), ids="-".join)
async def test_row(everything, outbound, upstream, row, what):
    """A proxy lets those through whom it should; the others hear what it wants of them, and the upstream nothing."""
    kind, auth, _ = row
    program_of(outbound, kind)
    name = "-".join(row)

    def arrived(rpc=None):
        entries = upstream.journal(*([rpc] if rpc else []))
        return [entry for entry in entries if f"row={name}&" in entry["target"]]

    if what == "get":
        wire, answer = await Caller(everything.url(name), everything.token, everything.seen).stream()
        async with wire:
            assert answer.status == 200 and answer.content_type == "text/event-stream"
            if auth in SAID:
                failures = lambda: everything.metric("outbound_proxy_failures_total", server=name)
                await until("it was tried", failures)
            else:
                await until("it is open", lambda: arrived("GET"))
                upstream.broadcast()
                assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
    elif auth in SAID:
        data, _ = await refused(everything, name, SAID[auth], "auth")
        assert not data["retryable"]
    else:
        answer = await works(everything, name, stream=what == "sse")
        assert answer.content_type == ("text/event-stream" if what == "sse" else "application/json")
        secret = everything.canaries.make("upstream")
        assert arrived("tools/call")[-1]["fields"]["authorization"] == f"Bearer {secret}"
    if auth in SAID:
        assert not arrived()


# Passwords.


@pytest.fixture(scope="module")
def peculiar(outbound, upstream, tmp_path_factory):
    """A gateway with each special password, in fields and in the URL, for squid and for microsocks."""
    servers = {}
    for name, login in SPECIAL.items():
        microsocks = outbound.microsocks(login)
        proxies = {
            "squid-fields": {"url": outbound.squid.url("basic"), **login.fields},
            "squid-url": {"url": outbound.squid.url("basic", login)},
            "microsocks-fields": {"url": microsocks.url("socks5h"), **login.fields},
            "microsocks-url": {"url": microsocks.url("socks5h", login)},
        }
        for how, proxy in proxies.items():
            servers[f"{name}-{how}"] = entry_before(outbound, upstream, proxy)
    gateway = Gateway(tmp_path_factory.mktemp("peculiar"), servers, options=QUIET, log_level="trace")
    with_canaries(gateway, *SPECIAL.values())
    gateway.wait_until_ready()
    yield gateway
    gateway.stop()


@pytest.mark.xdist_group("special passwords")
@pytest.mark.parametrize("program", ["squid", "microsocks"])
@pytest.mark.parametrize("how", ["fields", "url"])
@pytest.mark.parametrize("name", SPECIAL)
async def test_special_password(peculiar, name, how, program):
    """A password is what it says: in fields as it is, in a URL decoded once; the program agrees."""
    await works(peculiar, f"{name}-{program}-{how}")


# Refusals that look like the upstream's, or whose reasons are the upstream's.


@pytest.mark.parametrize("scheme, tunnel", [("http", "auto"), ("http", "never"), ("https", "auto")])
async def test_proxy_says_401(gateway_of, outbound, target, entry_of, scheme, tunnel):
    """tinyproxy refuses a wrong password with 401 and a challenge: that is nothing that a token is to be blamed for."""
    known = outbound.tinyproxy(outbound.login)
    wrong = Login(outbound.login.user, f"wrong-{secrets.token_hex(16)}")
    proxy = {"url": known.url("port", wrong), "tunnel": tunnel}
    gateway = gateway_of({"s": entry_of(target, proxy, scheme, names="A B", mode=FAILOVER)}, options=QUIET)
    with_canaries(gateway, wrong, outbound.login)
    data, text = await refused(gateway, "s", "proxy.auth.rejected", "auth")
    assert not data["retryable"] and f"http://•••@127.0.0.1:{known.ports['port']}" in text
    no_token_is_blamed(gateway, "s")
    assert not target.journal()


async def test_wrong_password_is_shown_once(gateway_of, outbound, target, entry_of):
    """Five calls at once and five after them cost squid one refusal."""
    wrong = Login(outbound.second.user, f"wrong-{secrets.token_hex(16)}")
    proxy = {"url": outbound.squid.url("basic", wrong)}
    gateway = with_canaries(gateway_of({"s": entry_of(target, proxy)}, options=QUIET), wrong)
    for _ in range(2):
        await asyncio.gather(*(refused(gateway, "s", "proxy.auth.rejected", "auth") for _ in range(5)))
    log = await until("squid wrote of it", lambda: outbound.squid.log("basic", target=f"127.0.0.1:{target.port}"))
    assert len(log) == 1, log


@pytest.mark.parametrize(
    "scheme, tunnel, first, then",
    [
        ("http", "never", ["POST"], ["POST"]),
        ("http", "auto", ["CONNECT", "POST"], ["POST"]),
        ("https", "auto", ["CONNECT"], ["CONNECT"]),
    ],
    ids=["W06", "W06-auto", "W07"],
)
async def test_proxy_denies_the_target(gateway_of, outbound, target, entry_of, scheme, tunnel, first, then):
    """squid's own 403 is no upstream's, by whichever way it is asked: it is asked once, and no token is to be blamed."""
    proxy = {"url": outbound.squid.url("denies"), "tunnel": tunnel}
    # A proxy that fails calls makes the gateway look at the server again, if it may.
    options = {**QUIET, "autoReconnect": False}
    gateway = gateway_of({"s": entry_of(target, proxy, scheme, names="A B", mode=FAILOVER)}, options=options)
    port = target.tls_port if scheme == "https" else target.port
    asked = lambda: [entry for entry in outbound.squid.log("denies") if f"127.0.0.1:{port}" in entry.target]
    await until("the start asked", lambda: len(asked()) >= len(first))
    for _ in range(2):
        data, text = await refused(gateway, "s", "proxy.tunnel.denied", "tunnel")
        assert not data["retryable"] and data["status"] == 403 and f"127.0.0.1:{port}" in text
    expected = [*first, *then, *then]
    await until("squid wrote of all", lambda: len(asked()) >= len(expected))
    assert [entry.method for entry in asked()] == expected
    no_token_is_blamed(gateway, "s")
    assert not target.journal()


async def test_only_digest(gateway_of, outbound, target, entry_of):
    """A proxy that wants another scheme than Basic is named with it, and not asked again and again."""
    proxies = {scheme: {"url": outbound.digest.url("digest", outbound.login)} for scheme in TARGETS}
    gateway = gateway_of({scheme: entry_of(target, proxies[scheme], scheme) for scheme in TARGETS}, options=QUIET)
    with_canaries(gateway, outbound.login)
    for scheme in TARGETS:
        data, text = await refused(gateway, scheme, "proxy.auth.unsupported", "auth")
        assert "Digest" in text and "Basic" in text and not data["retryable"]
    assert not target.journal()


async def test_upstream_is_down(gateway_of, outbound, target, entry_of):
    """That a proxy cannot reach the upstream is what the caller hears, whatever number the program has for it."""
    statuses = {"http-tinyproxy": 500, "https-squid": 503, "socks5-microsocks": None, "socks5h-microsocks": None}
    servers = {}
    for kind in statuses:
        servers[kind] = entry_of(target, proxy_of(outbound, kind), "https", names="A B", mode=FAILOVER)
        servers[kind]["url"] = f"https://127.0.0.1:{free_port()}/plain"
    gateway = with_canaries(gateway_of(servers, options=QUIET), outbound.login)

    async def told(kind):
        data, _ = await refused(gateway, kind, "proxy.tunnel.upstreamUnreachable", "tunnel")
        assert data["retryable"] and data.get("status") == statuses[kind], data
        no_token_is_blamed(gateway, kind)

    await asyncio.gather(*(told(kind) for kind in servers))


# Tunnels for what has no TLS.


@pytest.mark.parametrize("refusal", [{"status": 401, "fields": [["WWW-Authenticate", 'Bearer error="invalid_token"']]}, 401, 403])
async def test_tunnel_auto(gateway_of, outbound, target, entry_of, refusal):
    """squid as Debian ships it allows CONNECT to 443 only: it says so once, and is asked in absolute form from then on.

    There the upstream's own 401 and 403 are the upstream's, although a login for the proxy goes with each request.
    """
    proxy = {"url": outbound.squid.url("only443", outbound.login)}
    servers = {"s": entry_of(target, proxy, names="A B", mode=FAILOVER), "t": entry_of(target, proxy, path="/sessions")}
    gateway = with_canaries(gateway_of(servers, options=QUIET), outbound.login)
    gateway.wait_until_ready()
    target.clear()
    tunnels = lambda: outbound.squid.log("only443", method="CONNECT", target=f"127.0.0.1:{target.port}")
    for _ in range(4):
        await works(gateway, "s")
    await works(gateway, "s", stream=True)
    assert Counter(entry["token"] for entry in target.journal("tools/call")) == {"A": 5}
    target.script(A=refusal)
    await works(gateway, "s")
    assert target.sends("tools/call").split()[5:] == ["A", "B"]
    pool = gateway.credentials("s")
    assert pool["current"] == 1 and [slot["failures"] for slot in pool["slots"]] == [1, 0]
    caller = await Caller.open(gateway, "t")
    assert caller.session
    wire, answer = await caller.stream()
    async with wire:
        await until("it is open", lambda: target.state()["streams"])
        target.broadcast()
        assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
        assert "result" in await caller.ask("echo", {"text": "x"})
    # Servers that start at once may both ask.
    assert 1 <= len(tunnels()) <= len(servers) and {entry.status for entry in tunnels()} == {403}, tunnels()


async def test_tunnel_always_and_never(gateway_of, outbound, target, entry_of):
    """`always` fails where CONNECT is not allowed; `never` does not send it."""
    url = outbound.squid.url("only443", outbound.login)
    servers = {how: entry_of(target, {"url": url, "tunnel": how}, path=f"/streams?{how}") for how in ("always", "never")}
    gateway = with_canaries(gateway_of(servers, options={**QUIET, "autoReconnect": False}), outbound.login)
    tunnels = lambda: len(outbound.squid.log("only443", method="CONNECT", target=f"127.0.0.1:{target.port}"))
    await until("the start asked for one", tunnels)
    before = tunnels()
    await works(gateway, "never")
    await works(gateway, "never", stream=True)
    assert tunnels() == before
    assert not [entry for entry in target.journal() if "always" in entry["target"]]
    data, _ = await refused(gateway, "always", "proxy.tunnel.denied", "tunnel")
    assert data["status"] == 403
    await until("squid wrote of it", lambda: tunnels() == before + 1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("http")])
async def test_absolute_form(gateway_of, outbound, target, entry_of, kind):
    """Answers, streams and both transports in absolute form; the login goes with each request, and no further."""
    proxy, wrong = (proxy_of(outbound, kind, auth) | {"tunnel": "never"} for auth in ("right", "wrong"))
    servers = {
        "s": entry_of(target, proxy, names="A", era="stateless", path="/plain"),
        "t": entry_of(target, proxy, path="/sessions"),
        "u": entry_of(target, proxy, path="/sse", transportType="sse"),
        "wrong": entry_of(target, wrong, names="A B", mode=FAILOVER),
    }
    gateway = with_canaries(gateway_of(servers, options=QUIET), outbound.login)
    for _ in range(3):
        answer = await works(gateway, "s", "stateless")
        assert answer.content_type == "application/json"
    answer = await works(gateway, "s", "stateless", stream=True)
    assert answer.content_type == "text/event-stream"
    caller = await Caller.open(gateway, "t")
    wire, answer = await caller.stream()
    async with wire:
        await until("it is open", lambda: target.state()["streams"])
        target.broadcast()
        assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
        async with await SSECaller.open(gateway, "u") as sse:
            assert text_of(await sse.call("echo", {"text": "through"})) == "through"
        assert text_of(await caller.ask("echo", {"text": "x"})) == "x"
        only_through(gateway, proxy, target)
    assert await caller.delete() == 204
    await refused(gateway, "wrong", "proxy.auth.rejected", "auth")
    no_token_is_blamed(gateway, "wrong")
    told = [entry for entry in target.journal() if "proxy-authorization" in entry["fields"]]
    assert not told, "what follows on a connection of tinyproxy is the upstream's to read, word by word"
    if kind == "http-tinyproxy":
        requests = [line for line in outbound.tinyproxy(outbound.login).requests() if f":{target.port}" in line]
        assert requests and not [line for line in requests if line.startswith("CONNECT")], requests


# TLS with the proxy.


@pytest.mark.parametrize("way", ["tls_wrongname", "tls_otherca"])
async def test_proxy_with_a_bad_certificate(gateway_of, outbound, target, entry_of, way):
    """Another name, another authority: the proxy hears nothing, no user and no password."""
    proxy = {"url": outbound.squid.url(way, outbound.login)}
    servers = {scheme: entry_of(target, proxy, scheme) for scheme in TARGETS}
    gateway = with_canaries(gateway_of(servers, options=QUIET), outbound.login)
    before = len(outbound.squid.log(way))
    for scheme in TARGETS:
        data, text = await refused(gateway, scheme, "proxy.tls", "tls")
        assert not data["retryable"] and f"https://•••@127.0.0.1:{outbound.squid.ports[way]}" in text
    log = await until("squid says so", lambda: outbound.squid.log(way)[before:])
    assert {(entry.method, entry.user) for entry in log} == {("-", "-")}
    assert not target.journal()


async def test_trust_is_one_at_a_time(gateway_of, outbound, target, entry_of):
    """Whom the upstream's `tls` vouches for is no proxy, and the other way round."""
    trusts = {"caFile": str(outbound.certificates / "ca.pem")}
    url = outbound.squid.url("tls_basic", outbound.login)
    servers = {
        "both": entry_of(target, {"url": url, "tls": trusts}, "https", tls=trusts),
        "upstream": entry_of(target, {"url": url, "tls": {}}, "https", tls=trusts),
        "proxy": entry_of(target, {"url": url, "tls": trusts}, "https", tls={}),
        "insecure": entry_of(target, {"url": url, "tls": {"insecure": True}}, "https", tls=trusts),
        "half": entry_of(target, {"url": url, "tls": {"insecure": True}}, "https", tls={}),
    }
    gateway = with_canaries(gateway_of(servers, options=QUIET), outbound.login)
    await works(gateway, "both")
    await works(gateway, "insecure")
    await refused(gateway, "upstream", "proxy.tls", "tls")
    for name in ("proxy", "half"):
        answer, id = await call(gateway, name)
        data = gateway_error(answer, id, "handshake", name, {"unreachable"}, {"no"})
        assert "proxyError" not in data, data


@pytest.mark.parametrize("kind", ["http", "socks5h"])
@pytest.mark.parametrize("certificate", ["elsewhere", "proxy"])
async def test_certificate_of_an_address(gateway_of, outbound, kind, certificate):
    """An upstream with an address for a name shows a certificate for that address, not for the one of the proxy."""
    heard = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
        asked = json.loads(await reader.readexactly(length))
        heard.append(asked["method"])
        body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": {"content": [], "tools": []}}).encode()
        start = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(start.encode() + body)
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(outbound.certificates / f"{certificate}.pem")
    server = await asyncio.start_server(serve, "127.0.0.2", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    proxy = outbound.tinyproxy().url("port") if kind == "http" else outbound.microsocks().url(kind)
    entry = {
        "url": f"https://127.0.0.2:{port}/mcp",
        "transportType": "streamable-http",
        "protocol": "stateless",
        "tls": {"caFile": str(outbound.certificates / "ca.pem")},
        "options": {"proxy": proxy},
    }
    gateway = gateway_of({"s": entry}, options=QUIET)
    try:
        answer, id = await call(gateway, "s", "stateless")
        if certificate == "elsewhere":
            assert "result" in answer.reply(id), answer.reply(id)
        else:
            data = gateway_error(answer, id, "stateless", "s", {"unreachable"}, {"no"})
            assert "proxyError" not in data and not heard, (data, heard)
    finally:
        server.close()


# Pools of tokens.


async def crowd(gateway, name, count):
    """So many calls at once, each over a connection of its own; all have their own answers."""
    port, path = split(gateway.url(name))
    everybody = asyncio.Barrier(count)

    async def one(n):
        async with await Wire.open(port, gateway.seen) as wire:
            body = message("tools/call", {"name": "echo", "arguments": {"text": f"{n}"}}, id=n, era="stateless")
            await everybody.wait()
            fields = headers_of("stateless", body, gateway.token)
            answer = await wire.exchange("POST", path, fields, json.dumps(body).encode())
            assert text_of(answer.reply(n)) == f"{n}"

    await asyncio.gather(*(one(n) for n in range(count)))


def only_through(gateway, proxy, *upstreams):
    """Asserts that the gateway is connected with the proxy, and with none of these upstreams itself."""
    ends = set(connections(gateway.pid))
    assert not ends & {port for upstream in upstreams for port in (upstream.port, upstream.tls_port)}, ends
    assert int(proxy["url"].rpartition(":")[2]) in ends, ends


@pytest.mark.parametrize("kind", KINDS)
async def test_turns_are_even(gateway_of, outbound, target, entry_of, kind):
    """Ten tokens take turns under 200 calls at once through a proxy; when one is refused the next goes the same way."""
    proxy = proxy_of(outbound, kind)
    letters = "A B C D E F G H I J"
    servers = {
        "turns": entry_of(target, proxy, path="/plain", names=letters, mode=ROUND, era="stateless"),
        "next": entry_of(target, proxy, "https", "/plain", names="K L", mode=FAILOVER, era="stateless"),
    }
    limits = {"queueWait": "20s"}
    gateway = gateway_of(servers, options={**QUIET, "logEnabled": False}, log_level="info", limits=limits)
    with_canaries(gateway, program_of(outbound, kind)[4])
    gateway.wait_until_ready()
    await crowd(gateway, "turns", 200)
    assert Counter(target.sends("tools/call").split()) == {letter: 20 for letter in letters.split()}
    target.script(K={"status": 401, "fields": [["Connection", "close"]]})
    await works(gateway, "next", "stateless", text="long" * (256 << 10))
    assert target.sends("tools/call").split()[200:] == ["K", "L"]
    assert [slot["failures"] for slot in gateway.credentials("next")["slots"]] == [1, 0]
    only_through(gateway, proxy, target)


async def test_tunnel_refused_in_the_middle(gateway_of, target, entry_of):
    """A tunnel that is refused between others moves no token, be it for the first attempt of a call or for the next."""

    async def told(gateway, reason):
        answer, id = await call(gateway, "s", "stateless")
        return gateway_error(answer, id, "stateless", "s", {reason}, {"no"})

    async with Recorder() as recorder:
        proxy = {"url": f"http://127.0.0.1:{recorder.port}"}
        entry = entry_of(target, proxy, "https", "/plain", names="A B", mode=FAILOVER, era="stateless")
        gateway = gateway_of({"s": entry}, options=QUIET, arguments=("--threads", "1"))
        await asyncio.to_thread(gateway.wait_until_ready)
        # Every answer ends its connection, so that each attempt after it wants a tunnel.
        close = [["Connection", "close"]]
        target.script(A={"status": 429, "fields": close})
        await told(gateway, "rate_limited")
        recorder.script = [403]
        assert (await told(gateway, "outbound_proxy"))["status"] == 403
        no_token_is_blamed(gateway, "s")
        await told(gateway, "rate_limited")
        no_token_is_blamed(gateway, "s")
        assert target.sends("tools/call") == "A A"

        target.script(A={"status": 401, "fields": close})
        recorder.script = [200, 403]
        data = await told(gateway, "outbound_proxy")
        assert (data["proxyError"], data["stage"]) == ("proxy.tunnel.denied", "tunnel") and not recorder.script
        pool = gateway.credentials("s")
        assert [slot["failures"] for slot in pool["slots"]] == [1, 0] and pool["current"] == 1
        await works(gateway, "s", "stateless")
        assert target.sends("tools/call") == "A A A B"


@pytest.mark.parametrize("kind", KINDS)
async def test_streams_of_every_kind(gateway_of, outbound, target, raw, entry_of, kind):
    """Callers and upstreams of HTTP+SSE, GET streams of sessions, and `subscriptions/listen` go through a proxy."""
    proxy = proxy_of(outbound, kind)
    listen = {"url": f"http://127.0.0.1:{raw.port}/listen", "protocol": "stateless"}
    servers = {
        "sse": entry_of(target, proxy, "https", "/sse", transportType="sse"),
        "sessions": entry_of(target, proxy, path="/sessions"),
        "listen": {**listen, "options": entry_of(target, proxy)["options"]},
    }
    gateway = with_canaries(gateway_of(servers, options=QUIET), program_of(outbound, kind)[4])
    async with await SSECaller.open(gateway, "sse") as caller:
        assert text_of(await caller.call("echo", {"text": "through"})) == "through"
    async with await SSECaller.open(gateway, "sessions") as caller:
        assert text_of(await caller.call("echo", {"text": "sse to http"})) == "sse to http"

    caller = await Caller.open(gateway, "sessions")
    wire, answer = await caller.stream()
    async with wire:
        await until("it is open", lambda: target.state()["streams"])
        target.broadcast()
        assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
    assert await caller.delete() == 204

    port, path = split(gateway.url("listen"))
    async with await Wire.open(port, gateway.seen) as wire:
        body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id=1, era="stateless")
        await wire.request("POST", path, headers_of("stateless", body, gateway.token), json.dumps(body).encode())
        answer = await wire.head()
        await until("it is open", lambda: raw.control("/control/journal")["streams"])
        raw.control("/control/broadcast")
        async for told in messages_of(wire, answer):
            if told.get("method") == "notifications/tools/list_changed":
                break
        else:
            raise AssertionError("the stream ended without its event")
    ends = connections(gateway.pid)
    assert not {raw.port, target.port, target.tls_port} & set(ends), ends


# The environment.


@pytest.mark.parametrize("scheme, host", list(itertools.product(TARGETS, ["origin.test", "127.0.0.1"])), ids="-".join)
@pytest.mark.parametrize("variable", ["own", "lower", "all"])
async def test_proxy_of_the_environment(gateway_of, outbound, target, entry_of, variable, scheme, host):
    """The variable for the scheme, or the one for all, says where connections leave: to loopback too, since the proxy is
    there itself. The name is the proxy's to look up."""
    name = {"own": f"{scheme.upper()}_PROXY", "lower": f"{scheme}_proxy", "all": "ALL_PROXY"}[variable]
    url = outbound.squid.url("basic", outbound.second)
    entry = entry_of(target, None, scheme)
    entry["url"] = entry["url"].replace("127.0.0.1", host)
    gateway = with_canaries(gateway_of({"s": entry}, options=ABSENT, env={name: url}), outbound.second)
    await works(gateway, "s")
    only_through(gateway, {"url": url}, target)
    _, body = gateway.get("/_status")
    shown = json.loads(body)["upstreams"]["s"]["proxy"]
    assert shown["url"] == f"http://•••@127.0.0.1:{outbound.squid.ports['basic']}" and shown["setting"] == name


# name: the variables, what `options.proxy` says ("@": the proxy of the variables), whether the proxy is used
CHOICES = {
    "no-proxy": ({"HTTP_PROXY": "@", "NO_PROXY": "127.0.0.1"}, None, False),
    "no-proxy-lower": ({"http_proxy": "@", "no_proxy": "example.com, 127.0.0.0/8"}, None, False),
    "no-proxy-all": ({"ALL_PROXY": "@", "NO_PROXY": "*"}, None, False),
    "no-proxy-other": ({"HTTP_PROXY": "@", "NO_PROXY": "127.0.0.2,example.com"}, None, True),
    "other-scheme": ({"HTTPS_PROXY": "@"}, None, False),
    "cgi": ({"HTTP_PROXY": "@", "REQUEST_METHOD": "GET"}, None, False),
    "empty": ({"http_proxy": "", "HTTP_PROXY": "@"}, None, True),
    "S1": ({"HTTP_PROXY": "@"}, False, False),
    "S2": ({"HTTP_PROXY": "http://127.0.0.1:1", "NO_PROXY": "*"}, {"url": "@"}, True),
    "S2-no-proxy": ({}, {"url": "@", "noProxy": ["127.0.0.0/8"]}, False),
    "S3": ({"NO_PROXY": "127.0.0.1"}, {"url": "@", "useEnv": True}, False),
    "S4": ({"HTTP_PROXY": "@"}, {"useEnv": True}, True),
    "S6": ({"HTTP_PROXY": "@"}, {"useEnv": False}, False),
}


@pytest.mark.parametrize("choice", CHOICES)
async def test_choice(gateway_of, outbound, target, entry_of, choice):
    """Between the environment, NO_PROXY and what the configuration says there is one proxy, or none."""
    variables, says, goes_through = CHOICES[choice]
    url = outbound.squid.url("basic", outbound.second)
    env = {name: url if value == "@" else value for name, value in variables.items()}
    entry = entry_of(target, None)
    if says is not None:
        entry["options"]["proxy"] = {**says, "url": url} if says and "url" in says else says
    gateway = with_canaries(gateway_of({"s": entry}, options=ABSENT, env=env), outbound.second)
    await works(gateway, "s")
    ends = connections(gateway.pid)
    assert ends and set(ends) == {outbound.squid.ports["basic"] if goes_through else target.port}


async def test_socks_of_the_environment(gateway_of, outbound, target, entry_of):
    """A SOCKS proxy for everything, which is told names with socks5h and addresses with socks5."""
    microsocks = outbound.microsocks()
    for scheme, told in (("socks5h", "localhost"), ("socks5", "127.0.0.1")):
        entry = entry_of(target, None, "https")
        entry["url"] = entry["url"].replace("127.0.0.1", "localhost")
        gateway = gateway_of({"s": entry}, options=ABSENT, env={"ALL_PROXY": microsocks.url(scheme)})
        await works(gateway, "s")
        only_through(gateway, {"url": microsocks.url(scheme)}, target)
        assert f"{told}:{target.tls_port}" in microsocks.targets()


@pytest.mark.parametrize("program", ["squid", "microsocks"])
async def test_configuration_through_a_proxy(outbound, upstream, program):
    """A configuration that is fetched from a URL comes through the environment's proxy as well."""
    microsocks = outbound.microsocks(outbound.second)
    squid, way = outbound.squid, "basic"
    url = {"squid": squid.url(way, outbound.second), "microsocks": microsocks.url("socks5h", outbound.second)}[program]
    content = {
        "mcpProxy": {"baseURL": "http://127.0.0.1:9", "addr": "127.0.0.1:0", "name": "n", "version": "1"},
        "mcpServers": {},
    }
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        body = json.dumps(content).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    variables = environment(HTTP_PROXY=url)
    arguments = ["--config", f"http://127.0.0.1:{port}/config.json", "--log-format", "json"]
    child = Child(binary(), *arguments, env=variables)
    try:
        await asyncio.to_thread(child.wait_for, lambda: b"listening" in child.err, "it listens")
        [head] = asked
        assert b"proxy-" not in head.lower()
        went = lambda: [entry.target for entry in squid.log(way)] if program == "squid" else microsocks.targets()
        await until("it went through the proxy", lambda: [where for where in went() if f"127.0.0.1:{port}" in where])
        child.process.terminate()
        assert await asyncio.to_thread(child.wait, 30) == 0
        written = bytes(child.out + child.err)
        assert outbound.second.password.encode() not in written and outbound.second.user.encode() not in written
    finally:
        child.kill()
        server.close()


VARIABLES = [f"{name}_proxy" for name in ("http", "https", "all", "no")]


@pytest.mark.parametrize("told", ["nothing", "env", "inherit"])
async def test_child_does_not_see_the_proxy(child_of, outbound, told):
    """A program is told of the proxy by its own `env` or by `inheritEnv`, and by nothing else."""
    url = outbound.tinyproxy().url("port")
    ours = {name: url for lower in VARIABLES for name in (lower, lower.upper())}
    entry = {
        "nothing": {},
        "env": {"env": {"HTTPS_PROXY": "http://127.0.0.1:1"}},
        "inherit": {"inheritEnv": ["http_proxy", "NO_PROXY"]},
    }[told]
    gateway, _ = child_of("report-env", environment=ours, **entry)
    given = json.loads(text_of(await (await Caller.open(gateway, "child")).ask("report-env")))["env"]
    seen = {name: value for name, value in given.items() if name.lower() in VARIABLES}
    assert set(seen) == {"nothing": set(), "env": {"HTTPS_PROXY"}, "inherit": {"http_proxy", "NO_PROXY"}}[told]


# What is said to whom.


@pytest.mark.parametrize("scheme", TARGETS)
async def test_head_of_a_tunnel(gateway_of, outbound, target, entry_of, scheme):
    """The proxy is told where to, by whom and by what: nothing that is the caller's or the upstream's."""
    async with Recorder() as recorder:
        proxy = {"url": f"http://127.0.0.1:{recorder.port}", **outbound.login.fields}
        entry = entry_of(target, proxy, scheme, "/plain", names="A", era="stateless")
        gateway = with_canaries(gateway_of({"s": entry}, options=QUIET), outbound.login)
        await works(gateway, "s", "stateless")
        port = target.tls_port if scheme == "https" else target.port
        for head in recorder.heads:
            start, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines)
            assert start == f"CONNECT 127.0.0.1:{port} HTTP/1.1"
            known = base64.b64encode(f"{outbound.login.user}:{outbound.login.password}".encode()).decode()
            assert len(lines) == len(fields) and {name.lower(): value for name, value in fields.items()} == {
                "host": f"127.0.0.1:{port}",
                "proxy-authorization": f"Basic {known}",
                "user-agent": "end-to-end/1",
            }
        assert recorder.heads


@pytest.mark.xdist_group("mitmproxy")
@pytest.mark.parametrize("target_scheme", TARGETS)
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
async def test_inside_of_a_tunnel(gateway_of, outbound, target, entry_of, scheme, target_scheme):
    """mitmproxy sees inside: the upstream's token is there, and the proxy's login is not."""
    mitm = outbound.mitm
    trusts = {"tls": {"caFile": str(mitm.authority)}} if target_scheme == "https" else {}
    proxy = {"url": mitm.url(scheme, outbound.login)}
    path = f"/plain?nonce={secrets.token_hex(8)}"
    entry = entry_of(target, proxy, target_scheme, path, names="A", era="stateless", **trusts)
    gateway = with_canaries(gateway_of({"s": entry}, options=QUIET), outbound.login)
    await works(gateway, "s", "stateless")
    seen = await until("mitmproxy says so", lambda: [e for e in mitm.journal() if e["path"].startswith(path)])
    for request in seen:
        names = Counter(name.lower() for name, _ in request["fields"])
        assert names["authorization"] == 1 and not [name for name in names if name.startswith("proxy-")], names
        assert ["Authorization", f"Bearer {target.token('A')}"] in [[n.title(), v] for n, v in request["fields"]]


# Connections.


@pytest.mark.parametrize("tunnel", ["always", "never"])
async def test_users_share_no_connection(gateway_of, outbound, target, entry_of, tunnel):
    """Each connection to a proxy is of one user and one server, though all of them use the same proxy."""
    url = outbound.squid.url("basic")
    users = {"one": outbound.login, "two": outbound.second, "same": outbound.login}
    servers = {
        name: entry_of(target, {"url": url, "tunnel": tunnel, **login.fields}, path=f"/plain?{name}", era="stateless")
        for name, login in users.items()
    }
    gateway = with_canaries(gateway_of(servers, options=QUIET), outbound.login, outbound.second)
    gateway.wait_until_ready()
    for _ in range(3):
        for name in servers:
            await works(gateway, name, "stateless")
    ends = connections(gateway.pid)
    assert set(ends) == {outbound.squid.ports["basic"]} and len(ends) >= 3, ends
    gateway.stop()

    def log():
        return [entry for entry in outbound.squid.log("basic") if f"127.0.0.1:{target.port}" in entry.target]

    everybody = {login.user for login in users.values()}
    await until("squid wrote of all", lambda: {entry.user for entry in log()} >= everybody and len({e.peer for e in log()}) >= 3)
    by_peer = {}
    for entry in log():
        name = entry.target.partition("?")[2].partition("&")[0]
        by_peer.setdefault(entry.peer, set()).add((entry.user, name))
    assert len(by_peer) >= 3 and all(len(who) == 1 for who in by_peer.values()), by_peer


@pytest.mark.parametrize("kind", ["http-tinyproxy", "socks5h-microsocks"])
async def test_proxy_dies_and_comes_back(gateway_of, outbound, target, entry_of, kind):
    """While the proxy is away calls say so at once; when it is back calls work, and streams are open, without more ado."""
    known = login("mortal")
    scheme, program = kind.split("-")
    mortal = {"tinyproxy": outbound.tinyproxy, "microsocks": outbound.microsocks}[program](known)
    proxy = {"url": mortal.url("port" if scheme == "http" else scheme, known)}
    servers = {"s": entry_of(target, proxy, names="A B", mode=FAILOVER), "t": entry_of(target, proxy, path="/sessions")}
    options = {"pingInterval": 0, "reconnectInterval": "200ms"}
    gateway = with_canaries(gateway_of(servers, options=options), known)
    caller = await Caller.open(gateway, "t")
    wire, answer = await caller.stream()
    async with wire:
        await until("it is open", lambda: target.state()["streams"])
        await works(gateway, "s")
        mortal.kill()
        await until("the stream is gone", lambda: not target.state()["streams"])
        for _ in range(3):
            data, _ = await refused(gateway, "s", "proxy.connect.refused", "connect")
            assert data["retryable"]
        no_token_is_blamed(gateway, "s")
        mortal.again()

        async def is_back():
            answer, id = await call(gateway, "s")
            return "result" in answer.reply(id)

        await until("calls work again", is_back, 5)
        await until("the stream is open again", lambda: target.state()["streams"])
        target.broadcast()
        assert (await anext(messages_of(wire, answer)))["method"] == "notifications/tools/list_changed"
        assert text_of(await caller.ask("echo", {"text": "again"})) == "again"
