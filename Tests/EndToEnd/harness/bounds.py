# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What must stay small and what must come back to nothing, whatever the callers do."""

import json
import time
from typing import Any

from .processes import until

MEGABYTE = 1 << 20


class Growth:
    """How much a gateway's memory has grown since; a test looks often, so that a failure ends at its bound."""

    def __init__(self, gateway: Any, bound: int) -> None:
        self._gateway = gateway
        self._before = gateway.child.rss()
        self._bound = bound

    @property
    def grown(self) -> float:
        """In MiB."""
        return (self._gateway.child.rss() - self._before) / MEGABYTE

    def check(self, what: str = "") -> None:
        """Fails when it is too much, and ends the gateway before it takes the machine."""
        grown = self.grown
        if grown >= self._bound:
            self._gateway.child.kill()
        assert grown < self._bound, f"{grown:.0f} MiB more, {self._bound} at most {what}"

    async def stays(self, seconds: float) -> None:
        """Watches it for a while in which bytes go on to come."""
        end = time.monotonic() + seconds
        await until("it is watched to the end", lambda: self.check() or time.monotonic() > end, seconds + 5)


def status_of(gateway: Any) -> dict[str, Any]:
    """What /_status says."""
    status, body = gateway.get("/_status")
    assert status == 200, (status, body)
    return json.loads(body)


async def comes_to_rest(gateway: Any, deadline: float = 5, **wanted: int) -> None:
    """Until nothing runs any more: no call and no stream, unless something else is `wanted` of the counts of /_status."""
    wanted = {"inFlight": 0, "streams": 0, **wanted}
    seen: dict[str, Any] = {}

    def is_at_rest() -> bool:
        seen.update(status_of(gateway))
        return all(seen[name] == value for name, value in wanted.items())

    try:
        await until("rest", is_at_rest, deadline)
    except AssertionError:
        left = {name: seen[name] for name in wanted}
        raise AssertionError(f"not within {deadline} s: {wanted}; there are {left}") from None
