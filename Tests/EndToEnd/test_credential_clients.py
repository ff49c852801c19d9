# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Official clients against official servers through a pool whose first token is revoked: they notice nothing."""

import secrets

import pytest
from harness.gateway import Gateway
from harness.processes import FIXTURES, Upstream
from test_matrix import ROWS, possible

pytestmark = pytest.mark.gateway_only

SHORT = [row for row in ROWS if row not in ("result_1_mib", "argument_1_mib", "exact_numbers", "unicode")]
CASES = [
    (client, server, row)
    for client, server in (("2x-auto", "2x"), ("2x-legacy", "2x"), ("1x", "1x"), ("2x-legacy", "2x-sse"))
    for row in SHORT
    if possible(client, server, row)
]
TOKENS = [f"CANARY-pool-{secrets.token_hex(16)}" for _ in range(3)]


@pytest.fixture(scope="module")
def guarded(servers, tmp_path_factory):
    """A gateway before servers behind a guard that refuses the first token: one pool in each mode that can get by."""
    guards, entries = [], {}
    for flavor in ("2x", "1x", "2x-sse"):
        guards.append(Upstream("2x", FIXTURES / "tokenguard.py", str(servers[flavor].port), TOKENS[0]))
        entry = servers[flavor].entry
        entry["url"] = entry["url"].replace(str(servers[flavor].port), str(guards[-1].port))
        auth = {"tokens": TOKENS, "rotationMode": "on-first-failed"}
        entries[f"{flavor}-on-first-failed"] = {**entry, "options": {"auth": auth}}
        auth = {"tokens": TOKENS, "rotationMode": "round-robin", "maxRetries": 2}
        entries[f"{flavor}-round-robin"] = {**entry, "options": {"auth": auth}}
    gateway = Gateway(tmp_path_factory.mktemp("guarded"), entries, log_level="info", options={"pingInterval": 0})
    gateway.wait_until_ready()
    yield gateway
    gateway.stop()
    for guard in guards:
        guard.kill()


@pytest.mark.parametrize("mode", ["on-first-failed", "round-robin"])
@pytest.mark.parametrize("client,server,row", CASES)
def test_row(guarded, clients, client, server, row, mode):
    """The row works as without a pool between them."""
    clients.run(client, row, guarded.url(f"{server}-{mode}"), guarded.token)


@pytest.mark.parametrize("server", ["2x", "1x", "2x-sse"])
def test_the_revoked_one_was_met(guarded, clients, server):
    """The pool did its work: the first token was refused and another accepted."""
    client = "1x" if server == "1x" else "2x-legacy"
    for _ in range(3):
        clients.run(client, "tools", guarded.url(f"{server}-on-first-failed"), guarded.token)
    first, second, _ = guarded.pool(f"{server}-on-first-failed")["slots"]
    assert first["state"] == "rejected" and first["rejections"] == 1
    assert second["state"] == "accepted"
