# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Upstreams over TLS: a good certificate serves, a bad one is not sent a byte of HTTP."""

import time

import pytest
from harness.errors import gateway_error
from harness.processes import FIXTURES, Upstream, free_port
from harness.wire import message, post

BAD = ["expired", "wrongname", "otherca-leaf"]


@pytest.fixture(scope="module")
def origins(certificates):
    """An HTTPS upstream for each certificate."""
    started = {
        name: Upstream("2x", FIXTURES / "origin.py", "0", "--tls", str(certificates / f"{name}.pem"))
        for name in ["origin", *BAD]
    }
    yield started
    for origin in started.values():
        origin.kill()


def entry(port, certificates, scheme="https", **tls):
    return {
        "url": f"{scheme}://127.0.0.1:{port}/echo",
        "protocol": "handshake",
        "tls": {"caFile": str(certificates / "ca.pem"), **tls},
    }


async def call(gateway, name):
    return await post(gateway.url(name), message("tools/call", {"name": "x"}), token=gateway.token)


async def test_good_certificate(gateway_of, origins, certificates):
    """A chain to the configured root is trusted; the upstream's answer comes back."""
    gateway = gateway_of({"s": entry(origins["origin"].port, certificates)})
    answer = await call(gateway, "s")
    assert answer.status == 200 and answer.json()["path"].startswith("/echo")


@pytest.mark.parametrize("name", BAD)
async def test_bad_certificate(gateway_of, origins, certificates, name):
    """Expired, another name, another authority: `unreachable`, not run, and said so at once."""
    gateway = gateway_of({"s": entry(origins[name].port, certificates)})
    data = gateway_error(await call(gateway, "s"), 1, "handshake", "s", {"unreachable"}, {"no"})
    assert data["reason"] == "unreachable"


async def test_insecure(gateway_of, origins, certificates):
    """`tls.insecure` takes anything, with a warning at the start."""
    gateway = gateway_of({"s": entry(origins["expired"].port, certificates, insecure=True)})
    assert (await call(gateway, "s")).status == 200
    assert gateway.logged("insecure", level="warning")


@pytest.mark.parametrize("what", ["refused", "no such name", "no TLS there"])
async def test_unreachable(gateway_of, faults, certificates, what):
    """Nothing was sent: `executed: no`, soon."""
    url = {
        "refused": f"http://127.0.0.1:{free_port()}/mcp",
        "no such name": "http://nowhere.invalid/mcp",
        "no TLS there": f"https://127.0.0.1:{faults.port}/mcp/ok",
    }[what]
    gateway = gateway_of({"s": {"url": url, "protocol": "stateless"}})
    body = message("tools/call", {"name": "x"}, era="stateless")
    began = time.monotonic()
    answer = await post(gateway.url("s"), body, era="stateless", token=gateway.token, seen=gateway.seen)
    took = time.monotonic() - began
    gateway_error(answer, 1, "stateless", "s", {"unreachable"}, {"no"})
    assert took < (2 if what == "refused" else 11), took
