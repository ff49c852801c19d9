# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Child processes of the tests: started with pipes, read to the end, and gone when the tests are."""

import asyncio
import ctypes
import inspect
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Iterator, TypeVar

from .nursery import Forked, Nursery

ROOT = Path(__file__).resolve().parents[3]
PEERS = ROOT / "Tests" / "Peers"
FIXTURES = ROOT / "Tests" / "Fixtures"
ENVIRONMENTS = {"2x": ".venv", "1x": ".venv1", "old": ".venv0", "clients": ".venvc"}
PYTHON = {name: ROOT / directory / "bin" / "python" for name, directory in ENVIRONMENTS.items()}

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


async def until(what: str, probe: Callable[[], Any], deadline: float = 10) -> Any:
    """Like `poll`, for coroutines: their connections live on meanwhile. `probe` may be one itself."""
    end = time.monotonic() + deadline
    while True:
        value = await probe() if inspect.iscoroutinefunction(probe) else await asyncio.to_thread(probe)
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
        started = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env or environment(),
            cwd=cwd,
            preexec_fn=_die_with_parent,
        )
        self._watch(started)

    def _watch(self, process: subprocess.Popen[bytes] | Forked) -> None:
        self.process = process
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

    def forget_peak(self) -> int:
        """Lets `VmHWM` begin anew; gives what it is now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.rss("VmHWM")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/task"))


class Upstream(Child):
    """One of the servers of Tests/Peers or Tests/Fixtures, which print `{"port": N}` first."""

    _nursery: Nursery | None = None

    def __init__(self, sdk: str, program: Path, *arguments: str) -> None:
        if program.parent == FIXTURES or program.name == "raw_upstream.py":
            # They need the standard library only, and there are a thousand of them.
            Upstream._nursery = Upstream._nursery or Nursery(PYTHON[sdk], environment())
            self._watch(self._nursery.start([str(program), *arguments]))
        else:
            super().__init__(PYTHON[sdk], program, *arguments)
        self.port: int = self.first_json()["port"]

    def control(self, path: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)


class Everything(Upstream):
    """The everything server over HTTP: `flavor` is 2x, 2x-json, 2x-sse, 1x, 1x-stateless or 1x-sse, or with -mounted."""

    def __init__(self, flavor: str, port: int = 0) -> None:
        sdk, *options = flavor.split("-")
        arguments = [f"--{option}" for option in options]
        super().__init__(sdk, PEERS / f"everything_server_{sdk}.py", *arguments, "--port", str(port))
        self.flavor = flavor
        self.is_sse = "sse" in options

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if self.is_sse else 'mcp'}"

    @property
    def entry(self) -> dict[str, Any]:
        """What `mcpServers` says of it."""
        return {"url": self.url, "transportType": "sse" if self.is_sse else "streamable-http"}

    def journal(self, nonce: str = "", clear: bool = False) -> dict[str, Any]:
        return self.control(f"/control/journal?nonce={nonce}" + ("&clear=1" if clear else ""))

    def forget_sessions(self) -> int:
        return self.control("/control/forget")["forgotten"]


class StdioEverything:
    """The everything server as a program that its client starts; `flavor` is 2x-stdio or 1x-stdio."""

    def __init__(self, flavor: str) -> None:
        self.flavor = flavor
        sdk = flavor.partition("-")[0]
        self._directory = tempfile.TemporaryDirectory()
        self._journal = Path(self._directory.name, "journal")
        program = PEERS / f"everything_server_{sdk}.py"
        self.entry: dict[str, Any] = {
            "command": str(PYTHON[sdk]),
            "args": ["-u", "-B", str(program), "--stdio", "--journal", str(self._journal)],
        }

    @property
    def url(self) -> str:
        """For client.py, which starts it itself."""
        return "stdio:" + json.dumps(self.entry)

    def journal(self, nonce: str = "") -> dict[str, Any]:
        """What the tools of all its processes did."""
        tools = read_lines(self._journal)
        return {"tools": [entry for entry in tools if not nonce or entry["nonce"] == nonce]}

    def kill(self) -> None:
        self._directory.cleanup()


def read_lines(path: Path) -> list[Any]:
    """The complete lines of a file of JSON lines; none if there is no file yet."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]


def members_of(*groups: int) -> list[int]:
    """The processes of these process groups that are no zombies."""
    wanted = {str(group) for group in groups}
    return [pid for pid, fields in _processes() if fields[2] in wanted and fields[0] != "Z"]


def children_of(parent: int) -> list[int]:
    """The direct children of a process, zombies too: nobody should leave any."""
    return [pid for pid, fields in _processes() if fields[1] == str(parent)]


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Every process with the fields of its /proc entry from the state on: state, parent, group…"""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path("/proc", name, "stat").read_text()
            except OSError:
                continue  # it ended meanwhile
            yield int(name), stat.rpartition(") ")[2].split()


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot say which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
