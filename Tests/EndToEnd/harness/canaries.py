# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Secrets that are easy to find again: in the configuration of every test, and nowhere in what the gateway emits."""

import base64
import json
import secrets
import urllib.parse

SLICE = 12


class Canaries:
    """The secrets of one gateway and the search for them."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}

    def make(self, kind: str) -> str:
        """The secret of this kind; the same each time. Its prefix tells the finder of a leak where it came from."""
        return self._made.setdefault(kind, f"CANARY-{kind}-{secrets.token_hex(16)}+/=")

    def add(self, kind: str, secret: str) -> None:
        """A secret that a test made, if it is long enough to be found: 12 characters and more after its last dash."""
        if len(secret.rpartition("-")[2]) >= SLICE and secret not in self._made.values():
            self._made[f"{kind} {len(self._made)}"] = secret

    def find(self, where: str, data: bytes) -> list[str]:
        """One line for each secret that stands in `data`, plain, encoded, or in any piece of 12 characters."""
        found = []
        for kind, secret in self._made.items():
            for form, needles in _forms(secret).items():
                hit = next((needle for needle in needles if needle in data), None)
                if hit is not None:
                    at = data.index(hit)
                    context = data[max(0, at - 60) : at + len(hit) + 20]
                    found.append(f"{where}: the {kind} secret, {form}: …{context!r}…")
                    break
        return found


def _forms(secret: str) -> dict[str, list[bytes]]:
    raw = secret.encode()
    unique = raw[raw.rindex(b"-") + 1 :]
    # Base64 of a text that contains the secret somewhere: each of the three ways it can lie in groups of three bytes.
    shifted = [base64.b64encode(b"\0" * pad + raw)[(4 * pad + 2) // 3 + 1 : -4] for pad in range(3)]
    return {
        "plain": [raw],
        "base64": shifted,
        "base64url": [s.replace(b"+", b"-").replace(b"/", b"_") for s in shifted],
        "percent-encoded": [urllib.parse.quote(secret, safe="").encode()],
        "JSON-escaped": [json.dumps(secret)[1:-1].replace("/", "\\/").encode()],
        "hex": [raw.hex().encode(), raw.hex().upper().encode()],
        "reversed": [raw[::-1]],
        "in part": [unique[n : n + SLICE] for n in range(len(unique) - SLICE + 1)],
    }
