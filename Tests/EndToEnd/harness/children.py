# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The misbehaving program (Tests/Fixtures/faultchild.py) as an entry of the configuration, and what its journal says."""

import contextlib
import json
import os
import secrets
import signal
from pathlib import Path
from typing import Any

from .processes import FIXTURES, PYTHON, members_of, read_lines


class FaultChild:
    """Every process of one entry. `mode` as on faultchild's command line, which ignores further `arguments`; `more` goes
    into the entry."""

    def __init__(self, directory: Path, mode: str, *arguments: str, **more: Any) -> None:
        self.mode = mode
        self.journal_path = directory / f"journal-{secrets.token_hex(4)}"
        # Without `site` it starts in a fraction of the time.
        program = ["-S", "-E", "-B", str(FIXTURES / "faultchild.py"), mode, str(self.journal_path), *arguments]
        self.entry: dict[str, Any] = {"command": str(PYTHON["2x"]), "args": program, **more}

    @property
    def url(self) -> str:
        """For client.py, which starts it itself."""
        return "stdio:" + json.dumps(self.entry)

    def journal(self, event: str = "") -> list[dict[str, Any]]:
        entries = read_lines(self.journal_path)
        return [entry for entry in entries if not event or entry["event"] == event]

    def starts(self) -> int:
        return len(self.journal("start"))

    def messages(self, method: str) -> list[dict[str, Any]]:
        """The messages of this method that reached any of its processes, in order."""
        lines = [json.loads(entry["line"]) for entry in self.journal("line") if entry["bytes"] <= 4096]
        return [line for line in lines if line.get("method") == method]

    def executed(self, nonce: str) -> int:
        """How many calls of a tool with this text in them reached it."""
        return sum(nonce in json.dumps(message) for message in self.messages("tools/call"))

    def pid(self) -> int:
        """The process that was started last."""
        return self.journal("start")[-1]["pid"]

    def with_arguments(self, *arguments: str, **more: Any) -> dict[str, Any]:
        """Its entry with more arguments, which make another program of it and nothing else."""
        return {**self.entry, "args": [*self.entry["args"], *arguments], **more}

    def groups(self) -> set[int]:
        return {entry["group"] for entry in self.journal("start")}

    def left(self) -> list[int]:
        """The processes of its groups that still run."""
        return members_of(*self.groups())

    def sweep(self) -> None:
        """Ends what is left after all, so that a failure does not disturb the tests that follow."""
        own = os.getpgid(0)
        strays = [entry["pid"] for entry in self.journal("grandchild") if _is_ours(entry["pid"])]
        for pid in [*self.left(), *strays]:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                if os.getpgid(pid) != own:
                    os.kill(pid, signal.SIGKILL)


def _is_ours(pid: int) -> bool:
    """Whether this is still the grandchild that it was, and not another process with its number."""
    try:
        return b"faultchild.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
