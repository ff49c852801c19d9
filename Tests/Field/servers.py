# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Stdio servers of others: what they offer through the gateway is what they offer to who starts them, in one process.

Each server has a gateway of its own. First come two handshake callers, then one of 2026-07-28. Where the server speaks that
revision, that caller sees what it says there; where not it is told which revisions there are, and is served in one of them.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any, Awaitable, Callable

from harness.callers import CLIENT, Caller
from harness.gateway import Gateway
from harness.processes import environment, poll
from harness.wire import HANDSHAKE, STATELESS, message, post

from . import webservers
from .programs import PROGRAMS, Program, configured, runs, starts

LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
PATIENCE = 30
"""Seconds that a server has to start and to answer; a machine with others on it is slow."""
SILENCE = 20
"""Seconds after which a server that was asked in the other era is taken to have nothing to say."""
NO_SUCH_METHOD, WRONG_ERA = -32601, -32022
Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Directly:
    """A server as its own client starts it."""

    def __init__(self, process: asyncio.subprocess.Process, era: str) -> None:
        self.process = process
        self.era = era
        self._ids = itertools.count(1)

    @classmethod
    async def start(cls, entry: dict[str, Any], era: str) -> "Directly":
        process = await asyncio.create_subprocess_exec(
            entry["command"],
            *entry["args"],
            cwd=entry["cwd"],
            env=environment(**entry["env"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=1 << 24,
            start_new_session=True,
        )
        return cls(process, era)

    async def tell(self, body: dict[str, Any]) -> None:
        self.process.stdin.write(json.dumps(body).encode() + b"\n")
        await self.process.stdin.drain()

    async def ask(self, method: str, params: dict[str, Any], patience: float = PATIENCE) -> dict[str, Any]:
        """The reply, past whatever else it prints."""
        id = next(self._ids)
        await self.tell(message(method, params, id=id, era=self.era))
        async with asyncio.timeout(patience):
            while line := await self.process.stdout.readline():
                try:
                    reply = json.loads(line)
                except ValueError:
                    continue
                if isinstance(reply, dict) and reply.get("id") == id and "method" not in reply:
                    return reply
        raise EOFError(f"it ended when it was asked for {method}")

    async def end(self) -> None:
        """With what it started itself."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()


async def listed(ask: Ask) -> dict[str, Any]:
    """All pages of all lists; where it has none, the code of its error."""
    found: dict[str, Any] = {}
    for method, member in LISTS.items():
        items: list[Any] = []
        cursor: dict[str, Any] = {}
        while True:
            reply = await ask(method, cursor)
            if "result" not in reply:
                found[member] = reply["error"]["code"]
                break
            items += reply["result"][member]
            found[member] = items
            if not reply["result"].get("nextCursor"):
                break
            cursor = {"cursor": reply["result"]["nextCursor"]}
    return found


async def direct_handshake(entry: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `initialize` gives, and the lists."""
    server = await Directly.start(entry, "handshake")
    try:
        params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": CLIENT}
        initialized = (await server.ask("initialize", params))["result"]
        await server.tell(message("notifications/initialized", id=None))
        return initialized, await listed(server.ask)
    finally:
        await server.end()


async def direct_stateless(entry: dict[str, Any]) -> dict[str, Any] | None:
    """The lists in 2026-07-28; nothing where the server does not speak it."""
    server = await Directly.start(entry, "stateless")
    try:
        discovered = await server.ask("server/discover", {}, SILENCE)
        return await listed(server.ask) if STATELESS in discovered.get("result", {}).get("supportedVersions", []) else None
    except (TimeoutError, EOFError, ConnectionError):
        return None
    finally:
        await server.end()


async def gateway_handshake(gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any]]:
    async def one() -> tuple[dict[str, Any], dict[str, Any]]:
        caller = await Caller.open(gateway, "up")
        ids = itertools.count(1)

        async def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
            id = next(ids)
            return (await caller.post(message(method, params, id=id), PATIENCE)).reply(id)

        return caller.initialized, await listed(ask)

    first, second = await asyncio.gather(one(), one())
    assert first == second, "two callers saw different lists"
    return first


async def gateway_stateless(gateway: Gateway) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The reply to `server/discover`, and the lists if the server speaks 2026-07-28."""

    async def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
        body = message(method, params, era="stateless")
        return (await post(gateway.url("up"), body, era="stateless", token=gateway.token, deadline=PATIENCE)).reply(1)

    discovered = await ask("server/discover", {})
    return discovered, await listed(ask) if "result" in discovered else None


def difference(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """By list: how many there are, how many there should be, and the first pair that differs."""
    return [
        f"{member}: {count(found.get(member))} instead of {count(items)}, first {first_other(items, found.get(member))}"
        for member, items in wanted.items()
        if items != found.get(member)
    ]


def count(items: Any) -> str:
    if items == NO_SUCH_METHOD:
        return "none"
    return str(len(items)) if isinstance(items, list) else f"error {items}"


def first_other(wanted: Any, found: Any) -> Any:
    if not isinstance(wanted, list) or not isinstance(found, list):
        return found
    return next(((a, b) for a, b in itertools.zip_longest(wanted, found) if a != b), None)


def look_at(name: str, program: Program, directory: Path) -> tuple[dict[str, str], list[str]]:
    """The row of the table, and what went wrong."""
    row, wrong = {}, []
    entry = program.entry(directory)
    initialized, wanted = asyncio.run(direct_handshake(entry))
    stateless = asyncio.run(direct_stateless(entry))
    row.update({member: count(wanted[member]) for member in wanted}, revision=initialized["protocolVersion"])
    row["2026"] = "no" if stateless is None else "yes"
    before = len(starts(directory))
    gateway = Gateway(directory, {"up": configured(entry)}, log_level="info")
    try:
        gateway.wait_until_looked(60)
        seen, found = asyncio.run(gateway_handshake(gateway))
        wrong += [f"handshake callers: {text}" for text in difference(wanted, found)]
        wrong += [f"initialize: {text}" for text in difference({"all": initialized}, {"all": seen})]
        started = starts(directory)[before:]
        row["processes"] = str(len(started))
        if len(started) != 1:
            wrong.append(f"{len(started)} processes were started for handshake callers: {started}")
        discovered, newer = asyncio.run(gateway_stateless(gateway))
        if stateless is not None and newer is not None:
            wrong += [f"callers of {STATELESS}: {text}" for text in difference(stateless, newer)]
        elif stateless is not None:
            wrong.append(f"callers of {STATELESS} are refused: {discovered}")
        elif newer is not None:
            wrong.append(f"callers of {STATELESS} are served, which the server does not speak")
        else:
            error = discovered["error"]
            if error["code"] != WRONG_ERA or initialized["protocolVersion"] not in error["data"]["supported"]:
                wrong.append(f"callers of {STATELESS} are told {error}")
        most = 1 if stateless is None else 2  # one an era
        poll("one process an era", lambda: sum(map(runs, starts(directory)[before:])) <= most, 15)
        row["then"] = str(sum(map(runs, starts(directory)[before:])))
        again = asyncio.run(gateway_handshake(gateway))
        wrong += [f"handshake callers later: {text}" for text in difference(wanted, again[1])]
        gateway.stop()
        poll("nothing is left of it", lambda: not any(map(runs, starts(directory))), 5)
    except Exception as error:
        wrong.append(f"{type(error).__name__}: {error}")
    finally:
        gateway.child.kill()
    return row, [f"{name}: {text}" for text in wrong]


def run(directory: Path, options: argparse.Namespace) -> list[str]:
    """Prints the tables; gives what failed."""
    names = [name for name in PROGRAMS if not options.only or name in options.only]
    return stdio(names, directory, options) + webservers.run(directory, options)


def stdio(names: list[str], directory: Path, options: argparse.Namespace) -> list[str]:
    if not names:
        return []
    columns = ["revision", *LISTS.values(), "2026", "processes", "then"]
    width = {column: max(11, len(column) + 1) for column in columns}
    print("processes: started for two handshake callers; then: running when one of 2026-07-28 came as well\n")
    print(f"{'server':24}" + "".join(f"{column:>{width[column]}}" for column in columns), flush=True)
    failures: list[str] = []

    def one(numbered: tuple[int, str]) -> tuple[dict[str, str], list[str]]:
        number, name = numbered
        try:
            return look_at(name, PROGRAMS[name], directory / str(number))
        except Exception as error:
            return {}, [f"{name}, without the gateway: {type(error).__name__}: {error}"]

    with concurrent.futures.ThreadPoolExecutor(options.side_by_side) as pool:
        for name, (row, wrong) in zip(names, pool.map(one, enumerate(names))):
            cells = "".join(f"{row.get(column, '-'):>{width[column]}}" for column in columns)
            print(f"{name:24}{cells}{'  FAIL' if wrong else ''}", flush=True)
            failures += wrong
    return failures
