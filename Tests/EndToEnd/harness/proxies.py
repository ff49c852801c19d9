# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Outbound proxies of the tests' own: one that misbehaves (Tests/Fixtures/faultproxy.py), and one that is honest and
counts (Tests/Fixtures/relayproxy.py)."""

import secrets
import urllib.parse
from typing import Any

from .processes import FIXTURES, Upstream

USER = f"gw-{secrets.token_hex(8)}"
PASSWORD = f"gw-secret-1-{secrets.token_hex(16)}"
"""What the proxies want of the gateway; long enough to be found wherever it should not be."""


class FaultProxy(Upstream):
    """A running one: a port for each mode, which refuses connections until `open` if it is `closed` at first."""

    def __init__(self, *, closed: bool = False, other: int | None = None) -> None:
        arguments = ["--user", USER, "--password", PASSWORD, *(["--closed"] if closed else [])]
        if other is not None:
            arguments += ["--other", str(other)]
        super().__init__("2x", FIXTURES / "faultproxy.py", *arguments)
        self.ports: dict[str, int] = self.first_json()["ports"]

    def scheme(self, mode: str) -> str:
        return "socks5h" if mode.startswith("socks-") else "http"

    def redacted(self, mode: str, knows: bool = True) -> str:
        """The URL of a mode as it may be shown."""
        return f"{self.scheme(mode)}://{'•••@' if knows else ''}127.0.0.1:{self.ports[mode]}"

    def url(self, mode: str, knows: bool = True) -> str:
        """The URL of a mode, with user and password if we `know` them."""
        login = f"{USER}:{urllib.parse.quote(PASSWORD)}@" if knows else ""
        return f"{self.scheme(mode)}://{login}127.0.0.1:{self.ports[mode]}"

    def open(self) -> None:
        """Accepts connections from now on, and counts from 0."""
        self.control("/open")
        self.control("/reset")

    def dials(self, mode: str | None = None) -> int:
        """How many connections a mode, or all of them together, accepted since they were opened."""
        counts = self.control("/")
        return sum(counts.values()) if mode is None else counts.get(mode, 0)

    def head(self, mode: str) -> list[str]:
        """The lines of the last request at this mode: the start line, then the fields."""
        return self.control("/heads")[mode].removesuffix("\r\n\r\n").split("\r\n")


class Relay(Upstream):
    """A running honest one; handshakes take `hold` milliseconds, and want user and password if it `asks`."""

    def __init__(self, port: int = 0, *, hold: int = 0, asks: bool = False) -> None:
        login = ["--login", f"{USER}:{PASSWORD}"] if asks else []
        super().__init__("2x", FIXTURES / "relayproxy.py", str(port), "--hold", str(hold), *login)

    def entry(self, **more: Any) -> dict[str, Any]:
        """What `options.proxy` says of it."""
        return {"url": f"http://127.0.0.1:{self.port}", "auth": {"username": USER, "password": PASSWORD}, **more}

    def counts(self) -> dict[str, Any]:
        return self.control("/")
