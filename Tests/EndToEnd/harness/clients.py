# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Clients in processes of their own: the official SDKs, which run one row after the other, and those that others wrote."""

import json
import threading
from pathlib import Path
from typing import Any

from .processes import PEERS, PYTHON, Child

CLIENTS = {"2x-legacy": ("2x", "legacy"), "2x-auto": ("2x", "auto"), "2x-2026": ("2x", "2026-07-28"), "1x": ("1x", "legacy")}
"""Client names of the matrix that speak streamable HTTP: the SDK and the mode that it is put in."""
SSE_CLIENTS = {"2x-sse": ("2x", "legacy"), "2x-auto-sse": ("2x", "auto"), "1x-sse": ("1x", "legacy")}
"""Those that speak the HTTP+SSE of 2024-11-05."""
_MODES = {**CLIENTS, **SSE_CLIENTS}


class Driver:
    """A running program of Tests/Peers that answers each line of JSON with one."""

    def __init__(self, python: Path, program: str, *arguments: str) -> None:
        self.child = Child(python, PEERS / program, *arguments)
        self._read = 0

    def ask(self, command: dict[str, Any], deadline: float) -> dict[str, Any]:
        self.child.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.child.process.stdin.flush()

        def next_line() -> bytes:
            rest = bytes(self.child.out[self._read :])
            return rest.partition(b"\n")[0] if b"\n" in rest else b""

        line = self.child.wait_for(next_line, f"an answer to {command}", deadline)
        self._read += len(line) + 1
        return json.loads(line)


class Client(Driver):
    """An official SDK as a client."""

    def __init__(self, sdk: str) -> None:
        super().__init__(PYTHON[sdk], "client.py")

    def run(self, row: str, url: str, token: str, mode: str, deadline: float = 40, **arguments: Any) -> Any:
        """Runs a row and gives what it returns; fails with its traceback."""
        command = {"row": row, "url": url, "token": token, "mode": mode, "deadline": deadline, "arguments": arguments}
        answer = self.ask(command, deadline + 20)
        if "error" in answer:
            raise AssertionError(f"{row} at {url}:\n{answer['error']}")
        return answer["ok"]


class ForeignClient(Driver):
    """A client that others wrote, by its name in foreign_client.py, in an environment that has it."""

    def __init__(self, name: str, python: Path) -> None:
        super().__init__(python, "foreign_client.py", name)

    def use(self, url: str, token: str, text: str, deadline: float = 60) -> tuple[set[str], Any]:
        """Connects, lists the tools, lets `echo` say the text: the names and what it said. Fails with what it says."""
        answer = self.ask({"url": url, "token": token, "text": text}, deadline)
        if "error" in answer:
            raise AssertionError(f"at {url}: {answer['error']}")
        return set(answer["tools"]), answer["text"]


class Clients:
    """Drivers, started when first wanted. One row at a time runs in each; `apart` gives a new one."""

    def __init__(self) -> None:
        self._drivers: dict[str, Client] = {}
        self._all: list[Client] = []
        self._lock = threading.Lock()

    def run(self, client: str, row: str, url: str, token: str = "", **more: Any) -> Any:
        sdk, mode = _MODES[client]
        with self._lock:
            if sdk not in self._drivers:
                self._drivers[sdk] = self._start(sdk)
            return self._drivers[sdk].run(row, url, token, mode, **more)

    def run_apart(self, client: str, row: str, url: str, token: str = "", **more: Any) -> Any:
        """In a process of its own, so that rows can run side by side."""
        sdk, mode = _MODES[client]
        driver = self._start(sdk)
        try:
            return driver.run(row, url, token, mode, **more)
        finally:
            driver.child.kill()

    def _start(self, sdk: str) -> Client:
        driver = Client(sdk)
        self._all.append(driver)
        return driver

    def close(self) -> None:
        for driver in self._all:
            driver.child.kill()
