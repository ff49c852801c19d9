# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Reloads under load: callers of both eras who must not notice, changes at random, and what must come back afterwards."""

import argparse
import asyncio
import collections
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.callers import CLIENT, SSECaller, call_of, text_of
from harness.gateway import Gateway, binary
from harness.processes import _die_with_parent, children_of, environment
from harness.wire import Answer, Wire, headers_of, message, split

from .ledger import Call, Ledger
from .storm import slope

HERE = Path(__file__).parent
KINDS = ["stateless", "sessions", "pool", "program", "channel", "own", "shared", "plain"]
"""What servers there are, one after the other. `program` and `shared` are shared by all callers."""
PROGRAMS = {"program", "own"}
MOST_PROGRAMS = 8
TOKENS = "ABCD"
CALLERS = 3
"""At each server that is called."""
CALLED = 16
RESTING = 25
SIGNALS = 20
BUSY = 0.02
"""Seconds of the gateway's time for a reload that changes nothing, of a hundred servers."""
SLOPE = 1024
NOISE = 1 << 20
"""What the memory may grow by in all, whatever the slope: an allocator does not give back to the byte."""
OLD_CALLS = 100
"""On one stream of the old transport, which is read from its beginning for each."""
ARRIVES = 0.25
"""Seconds between a call and its arrival, on a machine that is busy."""
SEARCHED = 1 << 20
"""Of what the gateway's own pages said, so much is searched for secrets at the end."""
SERIES = 40
"""Series of metrics that may be new: outcomes that did not occur before."""
LIMITS = {
    "sessions": (5000, 9000),
    "streams": (2000, 5000),
    "inFlight": (5000, 9000),
    "inFlightPerUpstream": (500, 1000),
    "queuePerUpstream": (500, 1000),
    "jsonDepth": (40, 70),
    "bodyBytes": (1 << 20, 4 << 20),
}
"""Limits that change while callers are at work, and between what: none of them is in anybody's way."""


class Server:
    """One entry of the configuration, and how it may change."""

    def __init__(self, name: str, kind: str, upstream: int, ledger: Path) -> None:
        self.name = name
        self.kind = kind
        self.is_volatile = False
        """Whether it goes and comes back."""
        self.gone: list[tuple[float, float]] = []
        """When it was not there, or may not have been."""
        self.version = 0
        self.timeout = 30
        self.hidden = 0
        self.tokens = list(TOKENS[:3])
        self._url = f"http://127.0.0.1:{upstream}/{'sse' if kind == 'channel' else kind}"
        self._child = ["-S", "-E", "-B", str(HERE / "child.py"), str(ledger)]
        self._secrets = {letter: f"CANARY-reload{letter}-{name}-{random.randbytes(16).hex()}" for letter in TOKENS}

    @property
    def era(self) -> str:
        return "stateless" if self.kind == "stateless" else "handshake"

    @property
    def entry(self) -> dict[str, Any]:
        hidden = {"toolFilter": {"mode": "block", "list": [f"hidden-{self.hidden}"]}} if self.hidden else {}
        common = {"protocol": self.era, "timeout": f"{self.timeout}s"}
        if self.kind in PROGRAMS:
            options = {"isolation": "session" if self.kind == "own" else "shared", **hidden}
            more = [f"--version-{self.version}"] if self.version else []
            return {"command": sys.executable, "args": [*self._child, *more], "options": options, **common}
        options = dict(hidden)
        if self.kind == "shared":
            options["isolation"] = "shared"
        if self.kind == "pool":
            tokens = [self._secrets[letter] for letter in self.tokens]
            options["auth"] = {"tokens": tokens, "rotationMode": "round-robin", "affinity": "session"}
        transport = "sse" if self.kind == "channel" else "streamable-http"
        fields = {"X-Version": str(self.version)}
        return {"url": self._url, "transportType": transport, "headers": fields, "options": options, **common}

    def tune(self, source: random.Random) -> None:
        if self.kind == "pool" and source.random() < 0.7:
            self.tokens = source.sample(TOKENS, source.randint(2, 4))
        elif source.random() < 0.5:
            self.timeout = source.randint(20, 60)
        else:
            self.hidden = source.randint(1, 9)

    def replace(self) -> None:
        self.version += 1

    def was_gone(self, sent: float) -> bool:
        """Whether it was away when this was sent, or by the time that it arrived."""
        return any(start - ARRIVES < sent < end + ARRIVES for start, end in self.gone)

    def has_been_gone(self, since: float) -> bool:
        """Whether it was away since then, so that it knows no session of before."""
        return any(end > since for _, end in self.gone)


class Person:
    """One caller, who calls one server and whom a reload does not concern."""

    def __init__(self, number: int, server: Server, gateway: Gateway, ledger: Ledger) -> None:
        self.number = number
        self.server = server
        self.gateway = gateway
        self.ledger = ledger
        self.random = random.Random(f"{ledger.seed} {number}")
        self.session = ""
        self.opened = 0.0
        self.wire: Wire | None = None
        self.at_work = True
        self.steps: collections.deque[str] = collections.deque(maxlen=6)

    def last_steps(self) -> str:
        return ", ".join(self.steps)

    async def run(self) -> None:
        while self.at_work:
            began = time.monotonic()
            try:
                await self.one()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.wire = None
                self.fail(began, "connection", repr(error))
            await asyncio.sleep(self.random.random() * 0.05)
        if self.session:
            await self.delete()
        if self.wire:
            self.wire.abort()

    async def one(self) -> None:
        if self.server.era == "handshake" and not self.session:
            return await self.open()
        if self.session and self.random.random() < 0.03:
            return await self.delete()
        call = self.ledger.make(self.random.randint(1, 1 << 30), self, self.server.name, {})
        delay = round(self.random.expovariate(20), 3)
        arguments = {"nonce": call.nonce, "plan": {"delay": delay}}
        body = message("tools/call", {"name": "run", "arguments": arguments}, id=call.id, era=self.server.era)
        self.ledger.launched(call)
        self.steps.append(call.nonce)
        answer = await self.post(body)
        replies = [said for said in answer.messages() if said.get("id") == call.id] if answer.status == 200 else []
        if len(replies) == 1 and "result" in replies[0] and call.nonce in text_of(replies[0]):
            return self.ledger.end(call, "result", "yes")
        self.finish(call, answer)

    def finish(self, call: Call, answer: Answer) -> None:
        """A call that was not answered as it should be."""
        said = answer.body[:400].decode("utf-8", "replace")
        executed = next((word for word in ("no", "yes", "unknown") if f'"executed":"{word}"' in said), None)
        self.ledger.end(call, f"status {answer.status}", executed)
        self.fail(call.sent, f"status {answer.status}", said)

    def fail(self, since: float, what: str, said: str) -> None:
        is_forgotten = what == "status 404" and self.session and self.server.has_been_gone(self.opened)
        self.session = "" if what == "status 404" else self.session
        if is_forgotten or self.server.was_gone(since):
            self.ledger.counts["calls of servers that were gone"] += 1
        else:
            self.ledger.find("failed", self, f"{self.server.name} ({self.server.kind}): {what}: {said}")

    async def open(self) -> None:
        began = time.monotonic()
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}
        answer = await self.post(message("initialize", params, id=0))
        if answer.status != 200 or "result" not in answer.reply(0):
            return self.fail(began, f"status {answer.status}", answer.body[:400].decode("utf-8", "replace"))
        self.session, self.opened = answer.header("mcp-session-id") or "none", began
        self.ledger.counts["sessions"] += 1
        answer = await self.post(message("notifications/initialized", id=None))
        if answer.status != 202:
            self.fail(began, f"status {answer.status}", "to notifications/initialized")

    async def delete(self) -> None:
        if self.session != "none":
            port, path = split(self.gateway.url(self.server.name))
            fields = headers_of("handshake", {"method": ""}, self.gateway.token, self.session)
            async with await Wire.open(port) as wire:
                await wire.exchange("DELETE", path, fields)
        self.session = ""

    async def post(self, body: dict[str, Any]) -> Answer:
        port, path = split(self.gateway.url(self.server.name))
        session = "" if self.session == "none" else self.session
        raw = json.dumps(body).encode()
        fields = headers_of(self.server.era, body, self.gateway.token, session)
        self.wire = self.wire or await Wire.open(port)
        answer = await self.wire.exchange("POST", path, fields, raw)
        self.wire.seen.clear()
        if answer.cut or (answer.header("connection") or "").lower() == "close":
            self.wire.abort()
            self.wire = None
        return answer


class OldPerson(Person):
    """One who has the transport of 2024-11-05, and one stream for everything."""

    async def run(self) -> None:
        while self.at_work:
            async with await SSECaller.open(self.gateway, self.server.name) as caller:
                for _ in range(OLD_CALLS):
                    if self.at_work:
                        await self.call(caller)
                    await asyncio.sleep(self.random.random() * 0.1)

    async def call(self, caller: SSECaller) -> None:
        call = self.ledger.make(self.random.randint(1, 1 << 30), self, self.server.name, {})
        self.ledger.launched(call)
        try:
            reply = await caller.request(call_of("run", {"nonce": call.nonce, "plan": {"delay": 0.02}}, call.id))
            assert call.nonce in text_of(reply), reply
            self.ledger.end(call, "result", "yes")
        except (AssertionError, OSError) as error:
            self.ledger.end(call, "failed")
            self.fail(call.sent, "old transport", str(error)[:400])


class Reloads:
    """What changes while the callers call, and the judgement at the end."""

    def __init__(self, arguments: argparse.Namespace, gateway: Gateway, servers: list[Server], ledger: Ledger) -> None:
        self.arguments = arguments
        self.gateway = gateway
        self.servers = servers
        self.ledger = ledger
        self.random = random.Random(f"{arguments.seed} changes")
        self.summary: dict[str, Any] = {}
        self.results: collections.Counter[str] = collections.Counter()
        self.took: list[float] = []
        self.away: list[Server] = []
        self.strangers = [gateway.canaries.make(f"inbound{n}") for n in range(3)]
        """Tokens that come and go, and that nobody has."""
        self.extras = 0

    async def run(self) -> None:
        people = [Person(n, server, self.gateway, self.ledger) for n, server in enumerate(self.servers[:CALLED] * CALLERS, 1)]
        people += [OldPerson(len(people) + 1 + n, server, self.gateway, self.ledger) for n, server in enumerate(self.servers[3:8:3])]
        tasks = [asyncio.create_task(person.run()) for person in people]
        await self.goes_on(tasks, 2)
        warm = await asyncio.to_thread(self.measured)
        began = time.monotonic()
        pause = self.arguments.seconds / self.arguments.reloads
        for n in range(self.arguments.reloads):
            await asyncio.to_thread(self.change)
            await self.goes_on(tasks, max(0.0, began + (n + 1) * pause - time.monotonic()))
            self.ledger.verify()
        seconds = time.monotonic() - began
        self.summary["calls per second"] = round(self.ledger.counts["made"] / (seconds + 2))
        self.summary["reloads"] = {**self.results, "longest in ms": round(max(self.took) * 1000)}
        await asyncio.to_thread(self.back)
        await self.goes_on(tasks, 1)
        for person in people:
            person.at_work = False
        await asyncio.wait_for(asyncio.gather(*tasks), 40)
        await asyncio.to_thread(self.judge, warm)

    async def goes_on(self, tasks: list[asyncio.Task[None]], seconds: float) -> None:
        """Lets them call for so long."""
        end = time.monotonic() + seconds
        while True:
            for task in tasks:
                if task.done():
                    task.result()
            if self.gateway.child.process.poll() is not None:
                raise RuntimeError(f"the gateway ended\n{self.gateway.child.tail()}")
            if time.monotonic() >= end:
                return
            await asyncio.sleep(min(0.1, max(0.0, end - time.monotonic())))

    # Changes.

    def change(self) -> None:
        """A few changes at random, or none, and SIGHUP."""
        draw, began, entries = self.random.random(), time.monotonic(), {}
        options, limits = None, None
        for server in self.random.sample(self.servers, min(len(self.servers), self.random.randint(1, 3))) if draw > 0.1 else []:
            if server in self.away:
                continue
            if self.random.random() < 0.5:
                server.tune(self.random)
            else:
                server.replace()
            entries[server.name] = server.entry
        if draw > 0.8:
            self.extras += 1
            entries[f"extra-{self.extras}"] = Server(f"extra-{self.extras}", "plain", self.arguments.port, Path()).entry
            entries[f"extra-{self.extras - 1}"] = None
        if draw > 0.6:
            extra = self.random.sample(self.strangers, self.random.randint(0, 2))
            options = {"authTokens": self.random.sample([self.gateway.token, *extra], 1 + len(extra))}
        if 0.3 < draw < 0.4:
            limits = {name: self.random.randint(*LIMITS[name]) for name in self.random.sample(sorted(LIMITS), 3)}
        returned = [server for server in self.away if self.random.random() < 0.5]
        entries |= {server.name: server.entry for server in returned}
        leaving = [server for server in self.servers if server.is_volatile and server not in self.away and self.random.random() < 0.2]
        for server in leaving:
            entries[server.name] = None
            server.gone.append((began, float("inf")))
        self.gateway.reconfigure(entries, options=options, limits=limits)
        self.reload()
        self.away = [server for server in self.away if server not in returned] + leaving
        for server in returned:
            server.gone[-1] = (server.gone[-1][0], time.monotonic())

    def reload(self) -> None:
        began = time.monotonic()
        last = self.gateway.reload("applied", "unchanged", deadline=20)
        self.took.append(time.monotonic() - began)
        self.results[last["result"]] += 1
        del self.gateway.seen[:-SEARCHED]

    def back(self) -> None:
        """Every server is there, and nothing else."""
        entries = {server.name: server.entry for server in self.servers}
        entries |= {name: None for name in self.gateway.configuration["mcpServers"] if name not in entries}
        self.gateway.reconfigure(entries, options={"authTokens": [self.gateway.token]}, limits={name: None for name in LIMITS})
        self.reload()
        for server in self.away:
            server.gone[-1] = (server.gone[-1][0], time.monotonic())
        self.away = []

    # Afterwards.

    def measured(self) -> dict[str, int]:
        child = self.gateway.child
        return {
            "descriptors": child.descriptors(),
            "threads": child.threads(),
            "children": len(children_of(child.pid)),
            "KiB": child.rss() >> 10,
            "series": len(self.gateway.metrics()),
        }

    def judge(self, warm: dict[str, int]) -> None:
        self.ledger.verify(at_end=True)
        self.comes_to_rest()
        self.summary["when warm"] = warm
        self.summary["at the end"] = after = self.measured()
        idle = int(self.gateway.metric("upstream_connections", state="idle"))
        for what, more in {"descriptors": 8 + idle + 4 * MOST_PROGRAMS, "threads": 2, "children": 0, "series": SERIES}.items():
            if after[what] > warm[what] + more:
                self.ledger.find(what, None, f"{after[what]}, and {warm[what]} when warm: {self.gateway.open_files()}")
        names = {server.name for server in self.servers}
        strange = [name for name in self.gateway.metrics() if 'server="' in name and name.split('server="')[1].split('"')[0] not in names]
        if strange:
            self.ledger.find("series", None, f"{len(strange)} series of servers that are gone: {strange[:5]}")
        self.unchanged()
        self.quiet()

    def comes_to_rest(self) -> None:
        shared = sum(server.kind == "program" for server in self.servers)
        left: dict[str, Any] = {}
        end = time.monotonic() + RESTING
        while True:
            said = self.gateway.status()
            left = {name: said["held"][name] for name in ("inFlight", "streams", "exchanges", "queued") if said["held"].get(name)}
            left |= {"sessions": said["sessions"]} if said["sessions"] else {}
            programs = sum(b"Storm/child.py" in command for command in self.commands())
            left |= {"programs": programs} if programs > shared else {}
            if not left:
                return
            if time.monotonic() > end:
                return self.ledger.find("rest", None, f"{RESTING} s after everybody left: {left}")
            time.sleep(0.2)

    def commands(self) -> list[bytes]:
        """The command lines of the gateway's children."""
        found = []
        for pid in children_of(self.gateway.pid):
            try:
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                pass  # it ended meanwhile
        return found

    def unchanged(self) -> None:
        """What a signal costs when nothing has changed."""
        spent = []
        for _ in range(SIGNALS):
            before, said = self.busy(), self.said()
            self.gateway.signal_reload()
            end = time.monotonic() + 10
            while self.said() == said and time.monotonic() < end:
                time.sleep(0.005)
            spent.append(self.busy() - before)
        spent.sort()
        self.summary["ms of an unchanged reload"] = {
            "median": round(1000 * spent[len(spent) // 2], 2),
            "most": round(1000 * spent[-1], 2),
        }
        if spent[len(spent) // 2] > BUSY:
            self.ledger.find("busy", None, f"{1000 * spent[len(spent) // 2]:.1f} ms for a reload that changes nothing")

    def said(self) -> int:
        return bytes(self.gateway.child.err).count(b'"configuration reloaded"')

    def busy(self) -> float:
        """Seconds that the gateway's threads ran."""
        tasks = Path(f"/proc/{self.gateway.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def quiet(self) -> None:
        """The same number of reloads without calls, and whether memory grows by them."""
        for _ in range(20):  # what it takes once
            self.change()
        samples = []
        for n in range(self.arguments.reloads):
            self.change()
            if n % 5 == 4:
                samples.append((float(n), self.gateway.child.rss()))
        self.back()
        self.comes_to_rest()
        grown = samples[-1][1] - samples[0][1] if samples else 0
        per_reload = slope(samples)
        self.summary["memory"] = {"bytes per quiet reload": round(per_reload), "KiB in all": grown >> 10}
        if per_reload > SLOPE and grown > NOISE:
            self.ledger.find("memory", None, f"{per_reload:.0f} bytes a reload, {grown >> 10} KiB in all")


def kinds(count: int) -> list[str]:
    """So many kinds of servers, of which only a few are programs."""
    chosen, programs = [], 0
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        if kind in PROGRAMS:
            programs += 1
            kind = kind if programs <= MOST_PROGRAMS else "plain"
        chosen.append(kind)
    return chosen


def main(usage: str) -> int:
    parser = argparse.ArgumentParser("reload-load", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="how long there are calls (20)")
    parser.add_argument("--reloads", type=int, default=60, help="how many there are in that time, and as many without calls (60)")
    parser.add_argument("--servers", type=int, default=8, help="how many there are; at most 16 of them are called (8)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="where the log and the ledger go")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.binary:
        os.environ["MCP_PROXY_BINARY"] = str(arguments.binary.resolve())
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="reload-load-"))
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "ledger"
    path.write_bytes(b"")
    ledger = Ledger(arguments.seed, path)
    print(f"{arguments.seconds:g} s, {arguments.reloads} reloads, {arguments.servers} servers, {binary()}", flush=True)
    outcome = show(ledger, run(arguments, directory, ledger, path))
    if arguments.json:
        arguments.json.write_text(json.dumps({**outcome, "found": ledger.findings}, indent=1))
    found = sum(ledger.kinds.values())
    print(f"{found} findings, seed {arguments.seed}; the log is {directory}/gateway.log")
    if not found and not arguments.keep:
        shutil.rmtree(directory)
    return 1 if found else 0


def run(arguments: argparse.Namespace, directory: Path, ledger: Ledger, path: Path) -> dict[str, Any]:
    """What was seen, from the start of the gateway to its end."""
    upstream = subprocess.Popen(
        [sys.executable, "-B", str(HERE / "upstream.py"), str(path), str(arguments.seed), "--calm"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=(directory / "upstream.log").open("wb"),
        env=environment(),
        preexec_fn=_die_with_parent,
    )
    gateway = None
    summary: dict[str, Any] = {}
    try:
        assert upstream.stdout is not None
        arguments.port = json.loads(upstream.stdout.readline())["port"]
        servers = [Server(f"{kind}-{n}", kind, arguments.port, path) for n, kind in enumerate(kinds(arguments.servers))]
        for server in servers[1:CALLED:3]:
            server.is_volatile = True
        options = {"pingInterval": "2s", "reconnectInterval": "1s", "logEnabled": False}
        entries = {server.name: server.entry for server in servers}
        gateway = Gateway(directory, entries, options=options, log_level="info", arguments=("--watch", "off"))
        gateway.wait_until_looked(30)
        reloads = Reloads(arguments, gateway, servers, ledger)
        summary = reloads.summary
        asyncio.run(reloads.run())
        summary["seconds to stop"] = round(gateway.stop(), 1)
    except AssertionError as error:
        ledger.find("assertion", None, str(error))
    finally:
        if gateway is not None:
            gateway.child.kill()
            (directory / "gateway.log").write_bytes(bytes(gateway.child.err))
        upstream.kill()
        upstream.wait()
    return summary


def show(ledger: Ledger, summary: dict[str, Any]) -> dict[str, Any]:
    outcome = {
        "calls": dict(sorted(ledger.counts.items())),
        "outcomes": dict(ledger.reasons.most_common()),
        **summary,
        "findings": dict(ledger.kinds),
    }
    for name, value in outcome.items():
        print(f"{name}: " + (", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)))
    return outcome
