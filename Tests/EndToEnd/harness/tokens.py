# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The upstream that treats each token as it is told (Tests/Fixtures/tokenupstream.py), and what arrived there."""

import json
import secrets
import urllib.request
from pathlib import Path
from typing import Any

from .processes import FIXTURES, Upstream


class Tokens(Upstream):
    """A running one; `names` of tokens in tests are letters, the tokens themselves are secrets.

    With a `certificate` it is served over TLS as well, on `tls_port`.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__("2x", FIXTURES / "tokenupstream.py", "0", *(["--tls", str(certificate)] if certificate else []))
        self.tls_port: int | None = self.first_json().get("tls")
        self._tokens: dict[str, str] = {}

    def token(self, name: str) -> str:
        """The token with this name; those of names with a dash, such as `B-more`, end with what follows it."""
        letter, dash, rest = name.partition("-")
        made = f"CANARY-token{letter}-{secrets.token_hex(16)}" + dash + rest
        return self._tokens.setdefault(name, made)

    def tokens(self, names: str) -> list[str]:
        """Tokens by their names, separated by spaces."""
        return [self.token(name) for name in names.split()]

    def name(self, token: str) -> str:
        return next((name for name, made in self._tokens.items() if made == token), token)

    def entry(self, path: str, names: str, mode: str | None = None, **auth: Any) -> dict[str, Any]:
        """A server of the configuration: `path` of the upstream, with a pool of these tokens.

        `isolation` and `timeout` are those of the server, all else is about the pool.
        """
        options = {key: auth.pop(key) for key in ("isolation",) if key in auth}
        more = {key: auth.pop(key) for key in ("timeout",) if key in auth}
        pool = {"tokens": self.tokens(names), **({"rotationMode": mode} if mode else {}), **auth}
        kind = "sse" if path == "/sse" else "streamable-http"
        url = f"http://127.0.0.1:{self.port}{path}"
        return {"url": url, "transportType": kind, "options": {**options, "auth": pool}, **more}

    def script(self, **told: Any) -> None:
        """What the upstream does with tokens, by their names; see the fixture. A dash is written `__`."""
        by_token = {self.token(name.replace("__", "-")): behaviour for name, behaviour in told.items()}
        self._ask("script", json.dumps(by_token).encode())

    def clear(self) -> None:
        self._ask("clear")

    def broadcast(self, said: dict[str, Any] | None = None) -> None:
        """Sends a message on every GET stream; list_changed unless told."""
        self._ask("broadcast", json.dumps(said).encode() if said else None)

    def drop_streams(self) -> None:
        """Ends every GET stream."""
        self._ask("drop")

    def forget_sessions(self) -> None:
        self._ask("forget")

    def restart(self) -> None:
        """Forgets every session and ends every GET stream."""
        self._ask("restart")

    def open_gate(self) -> None:
        """Lets those go on who wait at the gate."""
        self._ask("go")

    def count(self, rpc: str) -> int:
        """How many of a method arrived; for crowds, whose journal is long."""
        return self._ask("count").get(rpc, 0)

    def hang_up(self) -> None:
        """Ends every stream of the old transport."""
        self._ask("hangup")

    def journal(self, *rpc: str) -> list[dict[str, Any]]:
        """What arrived, with the names of the tokens; only these JSON-RPC methods (or GET, DELETE) if any are named."""
        entries = self._ask("journal")["entries"]
        for entry in entries:
            entry["token"] = self.name(entry["token"])
        return [entry for entry in entries if not rpc or (entry.get("rpc") or entry["method"]) in rpc]

    def sends(self, *rpc: str) -> str:
        """The names of the tokens with which these arrived, in order, separated by spaces."""
        return " ".join(entry["token"] for entry in self.journal(*rpc))

    def state(self) -> dict[str, Any]:
        """The open streams' sessions, the token of each session, and the session ids that came with another's token."""
        answer = self._ask("journal")
        sessions = {key: self.name(token) for key, token in answer["sessions"].items()}
        return {"streams": answer["streams"], "sessions": sessions, "strays": answer["strays"]}

    def home(self) -> str:
        """The names of the tokens in whose sessions streams are open, separated by spaces."""
        state = self.state()
        return " ".join(state["sessions"].get(session, "?") for session in state["streams"])

    def no_token_strays(self) -> None:
        """Asserts that no token was ever sent into the session, or the stream of the old transport, of another."""
        owners = self.state()["sessions"] | {e["issued"]: e["token"] for e in self.journal() if "issued" in e}
        for entry in self.journal():
            place = entry["session"] or entry["target"].partition("session=")[2].partition("&")[0]
            assert owners.get(place, entry["token"]) == entry["token"], (entry, owners)

    def _ask(self, action: str, body: bytes | None = None) -> Any:
        url = f"http://127.0.0.1:{self.port}/control/{action}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, data=body), timeout=10) as answer:
            return json.loads(answer.read())
