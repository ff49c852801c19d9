# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Child processes of the tests: started with pipes, read to the end, and gone when the tests are."""

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, TypeVar

ROOT = Path(__file__).resolve().parents[3]
PEERS = ROOT / "Tests" / "Peers"
FIXTURES = ROOT / "Tests" / "Fixtures"
PYTHON = {"2x": ROOT / ".venv" / "bin" / "python", "1x": ROOT / ".venv1" / "bin" / "python"}

T = TypeVar("T")
_PR_SET_PDEATHSIG = 1


def poll(what: str, probe: Callable[[], T], deadline: float = 10) -> T:
    """Calls `probe` until it gives something true; fails with `what` when the deadline has passed."""
    end = time.monotonic() + deadline
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(0.02)


async def until(what: str, probe: Callable[[], T], deadline: float = 10) -> T:
    """Like `poll`, for coroutines: their connections live on meanwhile."""
    end = time.monotonic() + deadline
    while True:
        value = await asyncio.to_thread(probe)
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline} s: {what}")
        await asyncio.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    """Ours without proxies, so that loopback is loopback everywhere, and without what the program sets for itself."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("SWIFT_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A running program; all that it writes is kept in `out` and `err`."""

    def __init__(self, *argv: Any, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env or environment(),
            cwd=cwd,
            preexec_fn=_die_with_parent,
        )
        self.out = bytearray()
        self.err = bytearray()
        self._grown = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, store), daemon=True)
            for pipe, store in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self, pipe: Any, store: bytearray) -> None:
        while chunk := os.read(pipe.fileno(), 65536):
            with self._grown:
                store += chunk
                self._grown.notify_all()

    def wait_for(self, find: Callable[[], T], what: str, deadline: float = 15) -> T:
        """Waits until `find` gives something true about the output; fails at once if the program ends first."""
        end = time.monotonic() + deadline
        with self._grown:
            while True:
                found = find()
                if found:
                    return found
                if self.process.poll() is not None and not any(r.is_alive() for r in self._readers):
                    raise AssertionError(f"ended with {self.process.returncode} before {what}\n{self.tail()}")
                if time.monotonic() > end:
                    raise AssertionError(f"not within {deadline} s: {what}\n{self.tail()}")
                self._grown.wait(0.1)

    def tail(self) -> str:
        return (bytes(self.out[-2000:]) + b"\n" + bytes(self.err[-4000:])).decode("utf-8", "replace")

    def first_json(self) -> Any:
        """The first line on stdout, decoded."""
        line = self.wait_for(lambda: self.out.partition(b"\n")[0] if b"\n" in self.out else b"", "a first line")
        return json.loads(line)

    def wait(self, deadline: float) -> int:
        """The exit code, once all output was read."""
        code = self.process.wait(deadline)
        for reader in self._readers:
            reader.join(5)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    # What /proc says.

    def rss(self, field: str = "VmRSS") -> int:
        """Bytes; `VmHWM` is the peak."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        return 0

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))


class Upstream(Child):
    """One of the servers of Tests/Peers or Tests/Fixtures, which print `{"port": N}` first."""

    def __init__(self, sdk: str, program: Path, *arguments: str) -> None:
        super().__init__(PYTHON[sdk], program, *arguments)
        self.port: int = self.first_json()["port"]

    def control(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)


class Everything(Upstream):
    """The everything server: `flavor` is 2x, 2x-json, 1x or 1x-stateless."""

    def __init__(self, flavor: str) -> None:
        sdk, _, option = flavor.partition("-")
        arguments = [f"--{option}"] if option else []
        super().__init__(sdk, PEERS / f"everything_server_{sdk}.py", *arguments)
        self.flavor = flavor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def journal(self, nonce: str = "", clear: bool = False) -> dict[str, Any]:
        return self.control(f"/control/journal?nonce={nonce}" + ("&clear=1" if clear else ""))

    def forget_sessions(self) -> int:
        return self.control("/control/forget")["forgotten"]


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot say which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
