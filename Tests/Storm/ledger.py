# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What was called, by whom, how it was answered and how often it ran; and what is wrong with that.

Every call has a nonce of its own. The upstreams and the children append its number to one file before they answer, so
that the file is never behind what a caller knows.
"""

import array
import collections
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NONCE = re.compile(rb"nonce-([0-9]{1,9})-end")
LONGEST_NONCE = 24
SECRET = b"CANARY-"
"""All secrets of the configuration begin with it."""
SETTLES = 8
"""Seconds after its answer in which a call may still run, before its two ledgers are compared."""
LOOSE = {"garbage-body", "endless", "empty", "cut-large", "reset-large"}
"""Faults of upstreams after which what comes to the caller may be no answer: the gateway passes bodies on as they are, and
ends what breaks behind the first 64 KiB."""
LARGE = 60_000
CUTTING = {"truncate", "chunk-cut", "reset-large", "cut-large", "endless", "exit-after", "partial"}
SHOWN = 40


def nonce(number: int) -> str:
    return f"nonce-{number}-end"


@dataclass
class Call:
    """One call, from the side of its caller."""

    number: int
    id: Any
    actor: Any
    server: str
    plan: dict[str, Any]
    way: str = "stays"
    """What its caller does: stays until it is answered, or how it leaves."""
    sent: float = 0
    answers: list[Any] = field(default_factory=list)
    event_ids: set[str] = field(default_factory=set)
    ended: float = 0
    outcome: str = ""
    executed: str | None = None
    """What an error said of it."""
    ran: list[str] = field(default_factory=list)
    """What the upstreams wrote into the ledger, with the time by the same clock as `sent` and `ended`."""

    @property
    def nonce(self) -> str:
        return nonce(self.number)

    @property
    def is_loose(self) -> bool:
        """Whether what comes of it may be no answer."""
        fault = self.plan.get("fault")
        return fault in LOOSE or fault in CUTTING and self.plan.get("size", 0) > LARGE

    def __str__(self) -> str:
        began = self.actor.ledger.began
        times = f" sent {self.sent - began:.2f}" if self.sent else ""
        times += f" ended {self.ended - began:.2f}" if self.ended else ""
        ran = f", ran {self.ran}" if self.ran else ""
        return f"{self.nonce} id={self.id!r} at {self.server} {self.plan} {self.way}: {self.outcome or 'open'}{times}{ran}"


class Ledger:
    """Both sides of all calls."""

    def __init__(self, seed: int, path: Path) -> None:
        self.seed = seed
        self.findings: list[str] = []
        self.kinds: collections.Counter[str] = collections.Counter()
        self.began = time.monotonic()
        self.counts: collections.Counter[str] = collections.Counter()
        self.reasons: collections.Counter[str] = collections.Counter()
        self.left: collections.Counter[str] = collections.Counter()
        self.accepted: collections.Counter[str] = collections.Counter()
        """By server: calls that have an answer which only the upstream or an accepting gateway can have given."""
        self.sent: collections.Counter[str] = collections.Counter()
        self.open: dict[int, Call] = {}
        self._owners = array.array("H")
        self._runs = bytearray()
        self._ended: collections.deque[Call] = collections.deque()
        self._recent: dict[int, Call] = {}
        path.touch()
        self._file = path.open("rb")
        self._rest = b""
        self.events: collections.Counter[str] = collections.Counter()

    # Callers.

    def make(self, id: Any, actor: Any, server: str, plan: dict[str, Any]) -> Call:
        call = Call(self.make_number(actor), id, actor, server, plan)
        self.open[call.number] = call
        self.counts["made"] += 1
        return call

    def make_number(self, actor: Any) -> int:
        """A nonce that belongs to this actor, for what is not executed."""
        self._owners.append(actor.number)
        self._runs.append(0)
        return len(self._owners) - 1

    def launched(self, call: Call) -> None:
        """Its last byte, or part of it, was written."""
        call.sent = time.monotonic()
        if "initialize" in call.plan:
            return
        self.sent[call.server] += 1

    def end(self, call: Call, outcome: str, executed: str | None = None) -> None:
        """No more is expected of it."""
        if call.ended:
            return
        call.ended = time.monotonic()
        call.outcome, call.executed = outcome, executed
        if call.way != "stays":
            self.left[call.way] += 1
        self.reasons[outcome] += 1
        self._ended.append(call)
        self._recent[call.number] = call
        self.open.pop(call.number, None)

    def scan(self, data: bytes, actor: Any, where: str, steps: Any = None) -> None:
        """Looks for what does not belong to the actor in what it received."""
        for match in NONCE.finditer(data):
            number = int(match[1])
            if number >= len(self._owners) or self._owners[number] != actor.number:
                owner = self._owners[number] if number < len(self._owners) else "nobody"
                at = match.start()
                excerpt = data[max(0, at - 300) : at + 200]
                text = f"{nonce(number)} of actor {owner} came to actor {actor.number} {where}: …{excerpt!r}…"
                self.find("stranger", actor, text)
        if SECRET in data:
            at = data.index(SECRET)
            self.find("secret", actor, f"a secret came to a caller {where}: …{data[max(0, at - 100) : at + 40]!r}…")

    def took(self, call: Call) -> None:
        """The gateway answered it as one of its upstream's, or with an error about that, so it counted it."""
        if "initialize" not in call.plan:
            self.accepted[call.server] += 1

    # Upstreams.

    def read(self) -> None:
        """Takes what was executed since the last time."""
        data = self._rest + self._file.read()
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word.isdigit():
                number = int(word)
                if number >= len(self._runs):
                    self.find("unknown", None, f"executed, but nobody called it: {line!r}")
                    continue
                self._runs[number] = min(255, self._runs[number] + 1)
                self.counts["executed"] += 1
                call = self.open.get(number) or self._recent.get(number)
                if call is not None:
                    call.ran.append(self.clock(line))
                if self._runs[number] == 2:
                    self.find("twice", call and call.actor, f"{nonce(number)} ran twice, the last time at {line!r}: {call}")
            elif word == b"finding":
                self.find("upstream", None, rest.decode("utf-8", "replace"))
            else:
                self.events[word.decode()] += 1

    def clock(self, line: bytes) -> str:
        """A line of the ledger with the seconds since the beginning."""
        *words, at = line.decode("utf-8", "replace").split(" ")
        return f"{' '.join(words)} at {float(at) - self.began:.2f}"

    def verify(self, at_end: bool = False) -> None:
        """Compares what was said of the calls that ended some time ago with what ran."""
        self.read()
        now = time.monotonic()
        while self._ended and (at_end or now - self._ended[0].ended > SETTLES):
            call = self._ended.popleft()
            self._recent.pop(call.number, None)
            runs = self._runs[call.number]
            if "initialize" in call.plan:
                continue
            if call.executed == "no" and runs:
                self.find("executed", call.actor, f"`executed: no`, but it ran {runs} times: {call} {call.answers}")
            elif call.executed == "yes" and not runs:
                self.find("executed", call.actor, f"`executed: yes`, but it never ran: {call} {call.answers}")
            elif call.outcome == "result" and not runs:
                self.find("executed", call.actor, f"a result of a call that never ran: {call} {call.answers}")

    # Findings.

    def find(self, kind: str, actor: Any, text: str) -> None:
        self.kinds[kind] += 1
        if self.kinds[kind] > SHOWN or len(self.findings) > 10 * SHOWN:
            return  # counted
        steps = f"\n    its last steps: {actor.last_steps()}" if actor is not None else ""
        line = f"[{kind}] seed {self.seed}, {time.monotonic() - self.began:.1f} s: {text[:3000]}{steps}"
        self.findings.append(line)
        if self.kinds[kind] <= 5:
            print("FINDING " + line, flush=True)
