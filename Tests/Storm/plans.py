# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What the upstream of a call shall do with it. A call carries its plan in its arguments, so that the caller's random
numbers decide all of it, and a call that is sent again meets what is left of the plan."""

import random
from typing import Any

NOT_RUN = ["reset-before", "close-before", "429", "503", "500", "401", "403", "404", "421", "slow-refusal"]
RUN = """reset-in-head close-in-head garbage-head garbage-body empty reset-large cut-large truncate chunk-cut endless
    hang""".split()
STREAM = ["sse-cut", "sse-reset", "sse-mid-event", "hang", "garbage-event", "comments"]
LINK = ["silent", "garbage", "foreign-id", "two-answers", "retyped-id", "late"]
CHILD = [*LINK, "stderr", "flood", "split"]
SSE_LINK = [*LINK, "stream-end", "stream-reset", "post-404", "post-429", "post-503", "post-401", "post-reset", "post-late"]


def make(source: random.Random, kind: str, wild: bool = True) -> dict[str, Any]:
    """A plan for an upstream of this kind: http, child or sse."""
    plan: dict[str, Any] = {}
    draw = source.random()
    if draw < 0.35:
        plan["delay"] = round(source.expovariate(8), 3) % 2
    if source.random() < 0.08:
        plan["size"] = source.choice([200, 5_000, 70_000, 300_000])
    if source.random() < 0.003:
        plan["size"] = 2_000_000
    if source.random() < 0.25:
        plan["progress"], plan["every"] = source.randint(1, 8), source.choice([0, 0.01, 0.1])
    if source.random() < 0.1:
        plan["log"] = source.randint(1, 3)
    if source.random() < 0.06:
        plan["ask"] = True
    if source.random() < 0.1:
        plan["late"] = True  # questions and logs come after the delay instead of before it
    if kind == "http" and source.random() < 0.5:
        plan["stream"] = True
        if source.random() < 0.4:
            plan["ids"] = True
            if source.random() < 0.5 and plan.get("progress"):
                plan["breaks"] = source.randint(1, plan["progress"])
    if wild and source.random() < 0.15:
        if kind == "http":
            plan["fault"] = source.choice([*NOT_RUN, *(STREAM if plan.get("stream") else RUN)])
            plan["times"] = 9 if source.random() < 0.4 else 1
        elif kind == "child":
            plan["fault"] = source.choice(CHILD)
            if source.random() < 0.05:
                plan["fault"] = source.choice(["exit-before", "exit-after", "partial"])
        else:
            plan["fault"] = source.choice(SSE_LINK)
            plan["times"] = 9 if source.random() < 0.4 else 1
        if plan["fault"] in ("reset-large", "cut-large"):
            plan["size"] = 300_000
    return plan
