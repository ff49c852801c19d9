# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a call when the outbound proxy misbehaves: every mode of faultproxy.py, to upstreams with and without TLS.

The proxy counts how often it was dialled and the upstream keeps a journal: a proxy that says no is asked once, one whose
trouble may pass twice, and whatever it does no token of the pool is blamed for it.
"""

import dataclasses
import errno
import itertools
import json
import re
import secrets
import socket
import time
from collections import Counter, defaultdict

import pytest
from harness.callers import text_of
from harness.errors import gateway_error
from harness.gateway import Gateway
from harness.processes import free_port
from harness.proxies import PASSWORD, USER, FaultProxy
from harness.tokens import Tokens
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

CONNECT_TIMEOUT = 2
ERAS = {"plain": "handshake", "tls": "stateless"}
"""The kinds of upstream, and the era of each."""
STAGES = {
    "resolve": "resolve",
    "connect": "connect",
    "tls": "tls",
    "auth": "auth",
    "tunnel": "tunnel",
    "socks": "tunnel",
    "protocol": "protocol",
}
SENT_AGAIN = {
    "proxy.resolve",
    "proxy.connect.refused",
    "proxy.connect.unreachable",
    "proxy.tunnel.upstreamUnreachable",
    "proxy.socks.general",
}
MAY_BE_REPEATED = SENT_AGAIN | {"proxy.connect.timeout"}
MEMORY = 5 * 1024 * 1024
FRUGAL = {"http-garbage", "http-huge-header", "http-endless-header", "http-http09"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call comes to: `code` is `ok`, the proxyError, or the reason of an error that is not the proxy's."""

    code: str
    stage: str | None = None
    status: int | None = None
    dials: int = 1
    retry_after: int | None = None
    says: str = ""

    @property
    def executed(self) -> str:
        return "unknown" if self.code == "upstream_closed" else "no"


def says(code, status=None, **more):
    """The outcome with this proxyError; its stage and its dials follow from it unless said."""
    told = {"stage": STAGES[code.split(".")[1]], "dials": 2 if code in SENT_AGAIN else 1, **more}
    return Outcome(code, status=status, **told)


OK = Outcome("ok")
TIMEOUT = says("proxy.connect.timeout")
PROTOCOL = says("proxy.protocol")
HUNG_UP = says("proxy.protocol", stage="tunnel")  # without a byte, or in a tunnel that stood
REQUIRED = says("proxy.auth.required")
REJECTED = says("proxy.auth.rejected")
UNSUPPORTED = says("proxy.auth.unsupported")
TARGET_TLS = Outcome("unreachable")
LOST = Outcome("upstream_closed")
NO_MATTER = None  # cannot happen, or cannot be told

# mode: what a call with user and password comes to, for an upstream in plain text and for one with TLS if they differ.
# A list holds what is equally right.
TABLE = {
    "http-ok": OK,
    "http-200-content-length": OK,
    "http-200-chunked": OK,
    "http-200-no-reason": OK,
    "http-100-then-200": OK,
    "http-lf-only": OK,
    "http-slow-tunnel": (OK, TIMEOUT),
    "http-407-basic": OK,
    "http-407-bare": says("proxy.auth.rejected", 407),
    "http-407-always": says("proxy.auth.rejected", 407),
    "http-401-basic": says("proxy.auth.rejected", 401),
    "http-407-digest": says("proxy.auth.unsupported", 407, says="Digest"),
    "http-407-negotiate": says("proxy.auth.unsupported", 407, says="Negotiate, NTLM"),
    # An upstream in plain text is then asked for in absolute form, which this proxy refuses as well.
    "http-403": (says("proxy.tunnel.denied", 403, dials=2), says("proxy.tunnel.denied", 403)),
    "http-429-retry-after": says("proxy.tunnel.denied", 429, retry_after=2000),
    "http-502": says("proxy.tunnel.upstreamUnreachable", 502),
    "http-503": says("proxy.tunnel.upstreamUnreachable", 503, retry_after=1000),
    "http-504": says("proxy.tunnel.upstreamUnreachable", 504),
    "http-302": says("proxy.protocol", 302),
    "http-garbage": PROTOCOL,
    "http-http09": PROTOCOL,
    "http-huge-header": PROTOCOL,
    "http-endless-header": PROTOCOL,
    "http-close-at-accept": HUNG_UP,
    "http-rst-at-accept": HUNG_UP,
    "http-close-mid-connect": PROTOCOL,
    "http-rst-mid-connect": PROTOCOL,
    "http-hang": TIMEOUT,
    "http-slow": TIMEOUT,
    "http-early-bytes": (HUNG_UP, TARGET_TLS),
    "http-close-after-200": ([HUNG_UP, LOST], HUNG_UP),
    "http-rst-in-tunnel": (LOST, HUNG_UP),
    "http-half-close-in-tunnel": (LOST, HUNG_UP),
    "http-corrupt-tunnel": (NO_MATTER, TARGET_TLS),
    "http-other-upstream": (NO_MATTER, TARGET_TLS),
    "socks-ok": OK,
    "socks-bound-domain": OK,
    "socks-bound-ipv6": OK,
    "socks-needs-auth": OK,
    "socks-no-acceptable": UNSUPPORTED,
    "socks-picks-unoffered": UNSUPPORTED,
    "socks-auth-fail": REJECTED,
    "socks-auth-fail-open": REJECTED,
    "socks-auth-bad-version": says("proxy.protocol", stage="auth"),
    "socks-wrong-version": PROTOCOL,
    "socks-http-answer": says("proxy.protocol", says="HTTP"),
    "socks-bad-atyp": PROTOCOL,
    "socks-close-greeting": HUNG_UP,
    "socks-close-auth": PROTOCOL,
    "socks-close-request": PROTOCOL,
    "socks-hang-greeting": TIMEOUT,
    "socks-hang-request": TIMEOUT,
    "socks-truncated-reply": TIMEOUT,
    "socks-slow": TIMEOUT,
    "socks-early-bytes": (HUNG_UP, TARGET_TLS),
    "socks-rst-in-tunnel": (LOST, HUNG_UP),
    "socks-rep-1": says("proxy.socks.general"),
    "socks-rep-2": says("proxy.tunnel.denied"),
    "socks-rep-3": says("proxy.tunnel.upstreamUnreachable"),
    "socks-rep-4": says("proxy.tunnel.upstreamUnreachable"),
    "socks-rep-5": says("proxy.tunnel.upstreamUnreachable"),
    "socks-rep-6": says("proxy.tunnel.upstreamUnreachable"),
    "socks-rep-7": says("proxy.socks.command"),
    "socks-rep-8": says("proxy.socks.addressType"),
    "socks-rep-255": says("proxy.socks.unassigned"),
}
# The same without user and password.
STRANGERS = {
    "http-407-basic": says("proxy.auth.required", 407),
    "http-407-bare": says("proxy.auth.required", 407),
    "http-407-always": says("proxy.auth.required", 407),
    "http-401-basic": says("proxy.auth.required", 401),
    "http-407-digest": says("proxy.auth.unsupported", 407, says="Digest"),
    "http-407-negotiate": says("proxy.auth.unsupported", 407, says="Negotiate, NTLM"),
    "socks-no-acceptable": REQUIRED,
    "socks-needs-auth": REQUIRED,
    "socks-auth-fail": REQUIRED,
    "socks-auth-fail-open": REQUIRED,
    "socks-auth-bad-version": REQUIRED,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table, for one kind of upstream."""

    mode: str
    upstream: str
    is_known: bool
    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        """The server's, which is the test's as well."""
        return f"{self.mode}-{self.upstream}" + ("" if self.is_known else "-stranger")


def cases_of(table, is_known):
    cases = []
    for mode, row in table.items():
        for upstream, cell in zip(ERAS, row if isinstance(row, tuple) else (row, row)):
            outcomes = tuple(cell) if isinstance(cell, list) else (cell,)
            cases += [Case(mode, upstream, is_known, outcomes)] if cell is not NO_MATTER else []
    return cases


CASES = cases_of(TABLE, True) + cases_of(STRANGERS, False)
# What takes seconds goes first, so that no worker is left with it at the end.
CASES.sort(key=lambda case: TIMEOUT not in case.outcomes and "slow" not in case.mode)

FAILURES = re.compile(r"mcp_proxy_outbound_proxy_failures_total\{(.*)\}")
LABEL = re.compile(r'(\w+)="([^"]*)"')

ids = itertools.count(1)


@pytest.fixture(scope="module")
def upstream(certificates):
    """The upstream of every row, in plain text and with TLS."""
    started = Tokens(certificates / "origin.pem")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def stranger(certificates):
    """Another, whose certificate is of an authority that nobody trusts."""
    started = Tokens(certificates / "otherca-leaf.pem")
    yield started
    entries = started.journal()
    started.kill()
    assert not entries, "what the gateway said to whom it should not trust"


@pytest.fixture(scope="module")
def proxies(stranger):
    """A misbehaving proxy for each kind of upstream, so that one does not hear of the other's rejected password.

    Both refuse connections until the gateway has seen its upstreams once.
    """
    started = {kind: FaultProxy(closed=True, other=stranger.tls_port) for kind in ERAS}
    yield started
    for proxy in started.values():
        proxy.kill()


@pytest.fixture(scope="module")
def accounted():
    """The dials that the tests know of."""
    return Counter()


def target_of(upstream, kind):
    return f"127.0.0.1:{upstream.port if kind == 'plain' else upstream.tls_port}"


@pytest.fixture(scope="module")
def entry_of(upstream, certificates):
    """Makes an entry of the configuration: an upstream of this kind behind this proxy, with a pool of two tokens."""

    def make(kind, proxy):
        entry = upstream.entry("/plain", "A B", "on-first-failed")
        entry["options"]["proxy"] = proxy
        entry["protocol"] = ERAS[kind]
        if kind == "tls":
            entry["url"] = f"https://{target_of(upstream, kind)}/plain"
            entry["tls"] = {"caFile": str(certificates / "ca.pem")}
        return entry

    return make


@pytest.fixture(scope="module")
def gateway_with(tmp_path_factory):
    """Starts a gateway that dials of its own accord at the start only: `gateway_with(servers, seconds)`."""
    started = []

    def start(servers, seconds=CONNECT_TIMEOUT):
        options = {"pingInterval": 0, "autoReconnect": False}
        limits = {"connectTimeout": f"{seconds}s"}
        directory = tmp_path_factory.mktemp("gateway")
        gateway = Gateway(directory, servers, log_level="debug", options=options, limits=limits)
        started.append(gateway)
        gateway.canaries.add("proxy user", USER)
        gateway.canaries.add("proxy password", PASSWORD)
        gateway.wait_until_looked()
        return gateway

    yield start
    failures = []
    for gateway in started:
        for end in (lambda: gateway.settle(20), gateway.stop):
            try:
                end()
            except AssertionError as error:
                failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def gateways(gateway_with, proxies, entry_of, accounted):
    """The gateway of the table, and one that waits long enough for a slow proxy.

    Afterwards the proxies have been dialled for calls and for nothing else.
    """
    servers = {case.name: entry_of(case.upstream, proxies[case.upstream].url(case.mode, case.is_known)) for case in CASES}
    slow = {f"socks-slow-{kind}": entry_of(kind, proxies[kind].url("socks-slow")) for kind in ERAS}
    started = {"table": gateway_with(servers), "patient": gateway_with(slow, 8)}
    started["before"] = Report(started["table"])
    for proxy in proxies.values():
        proxy.open()
    yield started
    dialled = {f"{mode}-{kind}": proxy.dials(mode) for kind, proxy in proxies.items() for mode in proxy.ports}
    assert {name: count for name, count in dialled.items() if count} == accounted


class Report:
    """What the status and the metrics say of outbound proxies."""

    def __init__(self, gateway):
        status, body = gateway.get("/_status")
        assert status == 200
        self.upstreams = json.loads(body)["upstreams"]
        self.failures = defaultdict(Counter)
        """How often each proxyError was counted, by server."""
        for sample, value in gateway.metrics().items():
            if found := FAILURES.fullmatch(sample):
                labels = dict(LABEL.findall(found[1]))
                self.failures[labels["server"]][labels["reason"]] = int(value)

    def proxy(self, name):
        return self.upstreams[name]["proxy"]


class Call:
    """One call of a tool through the proxy of this server, and what can be seen of it afterwards."""

    def __init__(self, gateway, name, era):
        self.gateway = gateway
        self.name = name
        self.era = era
        self.id = next(ids)
        self.nonce = secrets.token_hex(8)

    async def make(self):
        body = message("tools/call", {"name": "echo", "arguments": {"text": self.nonce}}, id=self.id, era=self.era)
        began = time.monotonic()
        url, token = self.gateway.url(self.name), self.gateway.token
        self.answer = await post(url, body, era=self.era, token=token, seen=self.gateway.seen)
        self.took = time.monotonic() - began
        self.reply = self.answer.reply(self.id)
        self.report = Report(self.gateway)
        return self

    def error(self, reasons, executed):
        """The data of the gateway's error."""
        return gateway_error(self.answer, self.id, self.era, self.name, reasons, executed)

    def no_token_is_blamed(self):
        pool = self.report.upstreams[self.name]["credentials"]
        assert [slot["failures"] for slot in pool["slots"]] == [0, 0] and pool["current"] == 0, pool

    def proxy_is_blamed(self, before, code, url, target):
        """The error is the proxy's: it, the status and the metrics say so with this code."""
        data = self.error({"outbound_proxy"}, {"no"})
        assert data["proxyError"] == code, data
        assert data["retryable"] == (code in MAY_BE_REPEATED), data
        text = self.reply["error"]["message"]
        assert url in text and target in text, text
        proxy = self.report.proxy(self.name)
        assert proxy["lastError"] == code, proxy
        assert proxy["failures"] > before.proxy(self.name)["failures"], proxy
        counted = self.report.failures[self.name] - before.failures[self.name]
        assert set(counted) == {code} and counted[code] in (1, 2), counted
        return data

    def proxy_is_not_blamed(self, before):
        assert self.report.failures[self.name] == before.failures[self.name]
        assert self.report.proxy(self.name)["failures"] <= before.proxy(self.name)["failures"]


def test_table_is_complete():
    """Every mode that the proxy knows has its row."""
    proxy = FaultProxy()
    try:
        assert set(proxy.ports) == set(TABLE) and len(TABLE) == 65
        assert set(STRANGERS) <= set(TABLE)
    finally:
        proxy.kill()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_mode(gateways, proxies, upstream, accounted, case):
    """The caller is told what the proxy did, and truthfully whether the call can have run."""
    gateway, before, proxy, mode = gateways["table"], gateways["before"], proxies[case.upstream], case.mode
    call = Call(gateway, case.name, ERAS[case.upstream])
    dialled = proxy.dials(mode)
    memory = gateway.child.forget_peak()
    await call.make()
    dialled = proxy.dials(mode) - dialled
    accounted[f"{mode}-{case.upstream}"] += dialled
    if mode in FRUGAL:
        assert gateway.child.rss("VmHWM") - memory < MEMORY, "it keeps what the proxy pours out"
    arrived = [entry for entry in upstream.journal("tools/call") if call.nonce in entry["body"]]
    url, target = proxy.redacted(mode, case.is_known), target_of(upstream, case.upstream)
    shown = call.report.proxy(case.name)
    assert (shown["url"], shown["setting"]) == (url, f"mcpServers.{case.name}.options.proxy")
    call.no_token_is_blamed()

    [outcome, *others] = case.outcomes
    for other in others:
        if other.code == call.reply.get("error", {}).get("data", {}).get("reason"):
            outcome = other
    if outcome.code == "ok":
        assert text_of(call.reply) == call.nonce
        [entry] = arrived
        assert entry["token"] == "A" and not [name for name in entry["fields"] if name.startswith("proxy-")]
        call.proxy_is_not_blamed(before)
        if mode.startswith("http-"):
            start, *fields = proxy.head(mode)
            assert start == f"CONNECT {target} HTTP/1.1" and f"host: {target}" in [f.lower() for f in fields]
            named = {field.partition(":")[0].lower() for field in fields}
            assert named - {"user-agent"} == {"host", "proxy-authorization"}, "the proxy learns no more than it must"
    elif outcome.stage:
        data = call.proxy_is_blamed(before, outcome.code, url, target)
        assert not arrived
        assert data["stage"] == outcome.stage, data
        assert data.get("status") == outcome.status, data
        assert data.get("retryAfterMs") == outcome.retry_after, data
        assert outcome.says in call.reply["error"]["message"]
    else:
        data = call.error({outcome.code}, {outcome.executed})
        assert len(arrived) <= (0 if outcome.executed == "no" else 1)
        assert "proxyError" not in data and "stage" not in data, data
        call.proxy_is_not_blamed(before)

    assert dialled == outcome.dials
    if outcome == TIMEOUT:
        assert CONNECT_TIMEOUT - 0.1 < call.took < CONNECT_TIMEOUT + 1.5, call.took
    elif mode == "http-503":
        assert call.took > 1, "it waits as long as the proxy asked for"


@pytest.mark.parametrize("kind", ERAS)
async def test_slow_but_in_time(gateways, proxies, accounted, kind):
    """A handshake of 3.6 s, byte by byte, is none too slow within a `connectTimeout` of 8 s."""
    dialled = proxies[kind].dials("socks-slow")
    call = await Call(gateways["patient"], f"socks-slow-{kind}", ERAS[kind]).make()
    accounted[f"socks-slow-{kind}"] += proxies[kind].dials("socks-slow") - dialled
    assert text_of(call.reply) == call.nonce and call.took > 3
    assert proxies[kind].dials("socks-slow") - dialled == 1


def unreachable_host():
    """An address to which no connection is ever begun: that of everybody. Others may be a route that leads nowhere, slowly."""
    with socket.socket() as probe:
        probe.settimeout(1)
        assert probe.connect_ex(("255.255.255.255", 9)) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return "255.255.255.255"


ELSEWHERE = {
    "refused": "proxy.connect.refused",
    "no-route": "proxy.connect.unreachable",
    "no-such-name": "proxy.resolve",
    "untrusted": "proxy.tls",
}


@pytest.mark.parametrize("kind", ERAS)
@pytest.mark.parametrize("what", ELSEWHERE)
async def test_proxy_is_not_reached(gateway_with, entry_of, upstream, stranger, what, kind):
    """A proxy that is not there, or is not who it should be, is named with what is wrong; it is told nothing."""
    address = {
        "refused": lambda: f"http://{{}}127.0.0.1:{free_port()}",
        "no-route": lambda: f"http://{{}}{unreachable_host()}:9",
        "no-such-name": lambda: "http://{}proxy.invalid:3128",
        "untrusted": lambda: f"https://{{}}127.0.0.1:{stranger.tls_port}",
    }[what]()
    gateway = gateway_with({"s": entry_of(kind, address.format(f"{USER}:{PASSWORD}@"))})
    before = Report(gateway)
    call = await Call(gateway, "s", ERAS[kind]).make()
    call.no_token_is_blamed()
    data = call.proxy_is_blamed(before, ELSEWHERE[what], address.format("•••@"), target_of(upstream, kind))
    assert data["stage"] == STAGES[ELSEWHERE[what].split(".")[1]], data
