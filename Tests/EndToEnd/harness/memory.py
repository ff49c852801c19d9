# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Memory that must not grow with what passes."""

import asyncio
import time
from typing import Any, Callable

MEGABYTE = 1 << 20
GROWTH = 16 * MEGABYTE


async def stays_small(
    gateway: Any, before: int, done: Callable[[], Any], what: str, deadline: float = 55, growth: int = GROWTH
) -> None:
    """Until `done`, the gateway holds at most `growth` more than `before`; fails as soon as it does not."""
    end = time.monotonic() + deadline
    while True:
        is_done = await asyncio.to_thread(done)
        grown = gateway.child.rss() - before
        assert grown < growth, f"{grown >> 20} MiB more"
        if is_done:
            return
        assert time.monotonic() < end, f"not within {deadline} s: {what}; {grown >> 20} MiB more"
        await asyncio.sleep(0.05)
