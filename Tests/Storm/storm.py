# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""One storm from its beginning to its end: the gateway, its upstreams, the callers, and what is looked at meanwhile."""

import argparse
import asyncio
import collections
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from harness.canaries import Canaries
from harness.gateway import HELD, binary
from harness.processes import _die_with_parent, children_of, environment

from .callers import KINDS, LONG, SLOW_READER, TIMEOUT, WITHIN, Actor, Patient, World
from .connection import Connection, Cut, Shared, request
from .ledger import Ledger

HERE = Path(__file__).parent
SESSION_IDLE = 4
REST = 25
"""Seconds until the gateway is at rest after its callers left: sessions have to become idle, and children to end."""
EXIT = 30
HEALTHY = 8
"""Seconds in which `/_healthz` answers, however bad it is; more where this machine has no time for us."""
MEGABYTE = 1 << 20
SERVERS = {
    "sessions": "http-wild",
    "shared": "http-wild",
    "plain": "http-wild",
    "pool": "http-wild",
    "channel": "sse-wild",
    "channels": "sse-wild",
    "calm": "child-calm",
    "wild": "child-wild",
    "own": "child-wild",
}
"""What speaks the handshake, and how badly it behaves. `calm`, `wild` and `channels` are shared by all callers."""
SHARED_STREAMS = {"GET /shared": 1, "GET /sse": 1}
SHARED_CHILDREN = {"calm", "wild"}


class Gateway:
    """The gateway under test; its log goes to a file."""

    def __init__(self, program: Path, directory: Path, upstream: int, ledger: Path, seconds: int, healthy: float) -> None:
        self.canaries = Canaries()
        self.tokens = [self.canaries.make(f"inbound{n}").rstrip("+/=") for n in range(6)]
        self.pool = [self.canaries.make(f"pool{n}").rstrip("+/=") for n in range(2)]
        url = f"http://127.0.0.1:{upstream}"
        own = {"Authorization": "Bearer " + self.canaries.make("upstream")}

        def http(path: str, **options: Any) -> dict[str, Any]:
            kind = "sse" if path == "/sse" else "streamable-http"
            return {"url": url + path, "transportType": kind, "protocol": "handshake", "headers": own, "options": options}

        def child(isolation: str, *more: str) -> dict[str, Any]:
            return {
                "command": sys.executable,
                "args": ["-S", "-E", "-B", str(HERE / "child.py"), str(ledger), *more],
                "env": {"STORM_SECRET": self.canaries.make("child")},
                "protocol": "handshake",
                "options": {"isolation": isolation},
            }

        pool = {key: value for key, value in http("/pool").items() if key != "headers"}
        servers = {
            "sessions": http("/sessions"),
            "shared": http("/shared", isolation="shared"),
            "plain": http("/plain"),
            "stateless": {**http("/stateless"), "protocol": "stateless"},
            "pool": {**pool, "options": {"auth": {"tokens": self.pool, "rotationMode": "on-first-failed"}}},
            "channel": http("/sse"),
            "channels": http("/sse", isolation="shared"),
            "calm": child("shared", "--calm"),
            "wild": child("shared"),
            "own": child("session"),
        }
        configuration = {
            "mcpProxy": {
                "baseURL": "http://127.0.0.1:9",
                "addr": "127.0.0.1:0",
                "name": "storm",
                "version": "1",
                "options": {
                    "authTokens": self.tokens,
                    "proxy": False,
                    "pingInterval": "2s",
                    "reconnectInterval": "1s",
                    "logEnabled": seconds <= 300,
                },
                "limits": {
                    "sessionIdle": f"{SESSION_IDLE}s",
                    "slowReader": f"{SLOW_READER}s",
                    "headTimeout": f"{healthy:g}s",
                    "bodyTimeout": f"{healthy:g}s",
                    "queueWait": "1s",
                    "inFlightPerUpstream": 48,
                    "queuePerUpstream": 64,
                    "childrenPerServer": 8,
                },
            },
            "mcpServers": {name: {**server, "timeout": f"{TIMEOUT}s"} for name, server in servers.items()},
        }
        path = directory / "config.json"
        path.write_text(json.dumps(configuration, indent=2))
        path.chmod(0o600)
        self.log = directory / "gateway.log"
        self._output = self.log.open("wb")
        argv = [program, "--config", path, "--log-format", "json"]
        self.process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env=environment(),
            preexec_fn=_die_with_parent,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def port(self) -> int:
        """Where it listens, as its log says."""
        end = time.monotonic() + 15
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.log.read_text("utf-8", "replace").splitlines():
                if '"message":"listening"' in line and (found := re.search(r'"127\.0\.0\.1:(\d+)"', line)):
                    return int(found[1])
            time.sleep(0.05)
        raise SystemExit(f"storm: the gateway does not listen, see {self.log}")

    def rss(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def times(self) -> tuple[float, float]:
        """Seconds that its threads ran, and that they waited for a processor."""
        ran = waited = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                fields = (task / "schedstat").read_text().split()
            except OSError:
                continue
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
        return ran / 1e9, waited / 1e9

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def programs(self, everything: bool = False) -> list[int]:
        """Its children that are servers of the storm, or all of them."""
        found = []
        for pid in children_of(self.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if everything or b"Storm/child.py" in command:
                found.append(pid)
        return found

    def stop(self) -> tuple[int | None, float]:
        """The exit code after SIGTERM, and the seconds that it took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code: int | None = self.process.wait(EXIT)
        except subprocess.TimeoutExpired:
            code = None
        return code, time.monotonic() - began

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._output.close()


class Storm:
    """What runs while the callers do, and the judgement at the end."""

    def __init__(self, arguments: argparse.Namespace, gateway: Gateway, ledger: Ledger, port: int, upstream: int) -> None:
        self.arguments = arguments
        self.upstream = upstream
        self.gateway = gateway
        self.ledger = ledger
        self.shared = Shared(port, ledger)
        self.world = World(port, ledger, self.shared, arguments.seed, gateway.tokens, SERVERS)
        self.resident: list[tuple[float, int]] = []
        self.slowest_health = 0.0
        self.peak_connections = 0
        self.lateness = self.latest = 0.0
        self.watcher = Watcher(self.world)
        self.at_start: dict[str, int] = {}
        self.summary: dict[str, Any] = {}

    async def run(self) -> None:
        await self.ready()
        self.at_start = {"descriptors": self.gateway.descriptors(), "rss": self.gateway.rss()}
        unit = self.arguments.actors / sum(share for _, share in KINDS)
        actors = [kind for kind, share in KINDS for _ in range(max(1, round(share * unit)))]
        end = self.world.ends = time.monotonic() + self.arguments.seconds
        if self.arguments.seconds >= LONG:
            actors += [Patient] * 4
        people = [kind(number, self.world) for number, kind in enumerate(actors, 1)]
        tasks = [asyncio.create_task(actor.run()) for actor in people]
        others = [asyncio.create_task(run()) for run in (self.reports, self.probes, self.kills, self.lags)]
        while time.monotonic() < end and self.gateway.process.poll() is None:
            failed = next((task for task in [*tasks, *others] if task.done()), None)
            if failed is not None:
                self.world.goes_on = False
                failed.result()
                raise RuntimeError("a caller ended too early")
            await asyncio.sleep(0.25)
            past = self.arguments.seconds - (end - time.monotonic())
            seed = self.arguments.seed + int(past * self.arguments.seeds / self.arguments.seconds)
            if seed != self.ledger.seed and time.monotonic() < end:
                self.ledger.seed = seed
                for actor in people:
                    actor.reseed(seed)
        self.world.goes_on = False
        for task in others:
            task.cancel()
        if self.gateway.process.poll() is not None:
            self.ledger.find("crash", None, f"the gateway ended with {self.gateway.process.returncode}: {self.gateway.log}")
        # What was called is still to be answered.
        if self.gateway.process.poll() is None:
            await asyncio.wait(tasks, timeout=WITHIN + 2)
        self.world.is_over = True
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, *others, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception):
                raise error
        self.shared.close()
        for connection in list(Connection.everyone):
            connection.leave("fin")
        await asyncio.sleep(0.2)
        if self.gateway.process.poll() is None:
            await self.judge()

    async def ready(self) -> None:
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                status, body = await self.ask("/_readyz")
                if b"initializing" not in body and b"connecting" not in body:
                    return
            except (OSError, Cut):
                pass
            await asyncio.sleep(0.05)

    async def ask(self, path: str, deadline: float = 10) -> tuple[int, bytes]:
        """One of the gateway's own pages."""
        connection = await Connection.open(self.world.port, self.ledger, self.watcher)
        try:
            async with asyncio.timeout(deadline):
                fields = {"Authorization": f"Bearer {self.gateway.tokens[0]}"}
                await connection.send(request("GET", path, self.world.port, fields))
                head = await connection.head()
                return head.status, await connection.whole(head)
        finally:
            connection.leave("fin")

    # Meanwhile.

    async def reports(self) -> None:
        """Reads the ledger every second, and says how it goes every ten."""
        made, last = 0, time.monotonic()
        ran, waited = self.gateway.times()
        for second in range(1, 1 << 30):
            await asyncio.sleep(1)
            self.ledger.verify()
            self.resident.append((time.monotonic() - self.ledger.began, self.gateway.rss()))
            self.peak_connections = max(self.peak_connections, len(Connection.everyone))
            if second % 10 == 0:
                now = time.monotonic()
                rate = (self.ledger.counts["made"] - made) / (now - last)
                before, made, last = last, self.ledger.counts["made"], now
                was, waited_before = ran, waited
                ran, waited = self.gateway.times()
                share, lack = (ran - was) / (now - before), (waited - waited_before) / (now - before)
                print(
                    f"{now - self.ledger.began:6.0f} s  {rate:5.0f} calls/s  {len(self.ledger.open):4d} open calls  "
                    f"{len(Connection.everyone):4d} connections  {self.gateway.rss() / MEGABYTE:6.1f} MiB  "
                    f"{share:4.0%} CPU, lacks {lack:4.0%}  {self.gateway.descriptors():4d} descriptors  "
                    f"{len(self.gateway.programs()):2d} children  "
                    f"{sum(self.ledger.kinds.values())} findings",
                    flush=True,
                )

    async def probes(self) -> None:
        """Whether the gateway still answers anybody at all."""
        while True:
            began, lateness = time.monotonic(), self.lateness
            try:
                status, _ = await self.ask("/_healthz", 4 * self.arguments.healthy)
                if status != 200:
                    self.ledger.find("health", None, f"/_healthz says {status}")
            except (OSError, Cut, TimeoutError) as error:
                self.ledger.find("health", None, f"/_healthz: {error!r}")
            took = time.monotonic() - began - (self.lateness - lateness)
            self.slowest_health = max(self.slowest_health, took)
            if took > self.arguments.healthy:
                self.ledger.find("health", None, f"/_healthz took {took:.1f} s")
            await asyncio.sleep(1)

    async def lags(self) -> None:
        """How late we are ourselves: a machine without time makes everything late."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.1)
            late = time.monotonic() - began - 0.1
            self.lateness += late
            self.latest = max(self.latest, late)

    async def kills(self) -> None:
        """Signals to children, as an operator or the kernel would send them; none to the calm one."""
        source = random.Random(f"{self.arguments.seed} kills")
        while True:
            await asyncio.sleep(source.uniform(2, 6))
            programs = [pid for pid in self.gateway.programs() if "--calm" not in Path(f"/proc/{pid}/cmdline").read_text()]
            if not programs:
                continue
            pid, kind = source.choice(programs), source.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
            try:
                os.kill(pid, kind)
                if kind == signal.SIGSTOP:
                    await asyncio.sleep(0.7)
                    os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
            self.ledger.counts[f"children that got {kind.name}"] += 1

    # Afterwards.

    async def judge(self) -> None:
        began = time.monotonic()
        left: dict[str, Any] = {}
        held: dict[str, Any] = {}
        while True:
            try:
                _, body = await self.ask("/_status")
                said = json.loads(body)
                held = said.get("held") or {name: said[name] for name in ("inFlight", "streams")}
                left = {name: held[name] for name in HELD if held.get(name)}
                if said["sessions"]:
                    left["sessions"] = said["sessions"]
                left |= await asyncio.to_thread(self.busy)
                extra = len(self.gateway.programs()) - len(SHARED_CHILDREN)
                if extra > 0:
                    left["children too many"] = extra
            except (OSError, Cut, TimeoutError) as error:
                left = {"/_status": repr(error)}
            if not left or time.monotonic() - began > REST:
                break
            await asyncio.sleep(0.2)
        took = time.monotonic() - began
        if left:
            self.ledger.find("rest", None, f"not at rest {took:.0f} s after everybody left: {left}; it holds {held}")
        status, body = await self.ask("/metrics")
        samples = parse_metrics(body.decode())
        await self.descriptors(samples)
        self.memory()
        self.ledger.verify(at_end=True)
        requests = self.compare(samples)
        self.summary |= {"seconds to rest": round(took, 1), "held": held, "requests by server": requests}

    def busy(self) -> dict[str, int]:
        """What the upstreams still answer, but for the streams that are shared."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.upstream}/control", timeout=10) as answer:
            said = json.load(answer)
        self.summary["upstream sessions"] = said["sessions"]
        return {f"upstream {what}": count for what, count in said["busy"].items() if count > SHARED_STREAMS.get(what, 0)}

    async def descriptors(self, samples: dict[str, float]) -> None:
        """As many as at the start, but for idle connections to upstreams and for children."""
        connections = "mcp_proxy_upstream_connections{"
        idle = sum(value for name, value in samples.items() if name.startswith(connections) and '"idle"' in name)
        allowed = self.at_start["descriptors"] + int(idle) + 4 * len(self.gateway.programs(everything=True)) + 8
        end = time.monotonic() + 5
        while (now := self.gateway.descriptors()) > allowed and time.monotonic() < end:
            await asyncio.sleep(0.2)
        before = self.at_start["descriptors"]
        self.summary["descriptors"] = {"at the start": before, "at the end": now, "idle upstream": int(idle)}
        if now > allowed:
            kinds: collections.Counter[str] = collections.Counter()
            for name in os.listdir(f"/proc/{self.gateway.pid}/fd"):
                try:
                    kinds[os.readlink(f"/proc/{self.gateway.pid}/fd/{name}").partition(":")[0]] += 1
                except OSError:
                    pass
            self.ledger.find("descriptors", None, f"{now}, allowed are {allowed}: {dict(kinds)}")

    def memory(self) -> None:
        """What is left of the storm's memory when it is over, and how it grew after the first third of it."""
        warm = [sample for sample in self.resident if sample[0] > min(600, self.arguments.seconds / 3)]
        at_warm = warm[0][1] if warm else self.at_start["rss"]
        now = self.gateway.rss()
        self.summary["memory in MiB"] = {
            "at the start": round(self.at_start["rss"] / MEGABYTE, 1),
            "after warming up": round(at_warm / MEGABYTE, 1),
            "most": round(max((rss for _, rss in self.resident), default=now) / MEGABYTE, 1),
            "at the end": round(now / MEGABYTE, 1),
            "slope per hour": round(slope(warm) * 3600 / MEGABYTE, 1),
        }
        if now > at_warm + self.arguments.rss * MEGABYTE:
            self.ledger.find("memory", None, f"more than {self.arguments.rss} MiB above warm: {self.summary['memory in MiB']}")

    def compare(self, samples: dict[str, float]) -> dict[str, Any]:
        """The calls that the gateway counted are at least those that were answered, at most those that were sent."""
        shown = {}
        for server in [*SERVERS, "stateless"]:
            counted = sum(
                value
                for name, value in samples.items()
                if name.startswith("mcp_proxy_requests_total{")
                and f'server="{server}"' in name
                and 'method="tools/call"' in name
            )
            least, most = self.ledger.accepted[server], self.ledger.sent[server]
            shown[server] = {"answered": least, "counted": int(counted), "sent": most}
            if not least <= counted <= most:
                self.ledger.find("metrics", None, f"requests_total of tools/call at {server}: {shown[server]}")
        return shown

    def secrets(self) -> None:
        """Searches the log, a piece at a time."""
        with self.gateway.log.open("rb") as log:
            before = b""
            while piece := log.read(8 * MEGABYTE):
                for leak in self.gateway.canaries.find("log", before + piece):
                    self.ledger.find("secret", None, leak)
                before = piece[-400:]


class Watcher(Actor):
    """Who asks the gateway for its own pages."""

    def __init__(self, world: World) -> None:
        super().__init__(0, world)


def parse_metrics(text: str) -> dict[str, float]:
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    return samples


def slope(samples: list[tuple[float, int]]) -> float:
    """Bytes per second, by least squares."""
    if len(samples) < 3:
        return 0
    x = sum(at for at, _ in samples) / len(samples)
    y = sum(rss for _, rss in samples) / len(samples)
    spread = sum((at - x) ** 2 for at, _ in samples)
    return sum((at - x) * (rss - y) for at, rss in samples) / spread


def show(storm: Storm) -> dict[str, Any]:
    ledger = storm.ledger
    outcome = {
        "seconds": storm.arguments.seconds,
        "seed": storm.arguments.seed,
        "seeds": storm.arguments.seeds,
        "calls": dict(sorted(ledger.counts.items())),
        "outcomes": dict(ledger.reasons.most_common()),
        "callers that left or did otherwise": dict(ledger.left.most_common()),
        "upstreams": dict(ledger.events),
        "most connections": storm.peak_connections,
        "slowest /_healthz in s": round(storm.slowest_health, 2),
        "latest that we were ourselves in s": round(storm.latest, 2),
        "our own CPU in s": round(sum(os.times()[:2]), 1),
        **storm.summary,
        "findings": dict(ledger.kinds),
    }
    for name, value in outcome.items():
        if isinstance(value, dict):
            print(f"{name}: " + ", ".join(f"{key} {number}" for key, number in value.items()))
        else:
            print(f"{name}: {value}")
    return outcome


def main(usage: str) -> int:
    parser = argparse.ArgumentParser("storm", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("--seeds", type=int, default=1, help="so many, one after the other, from SEED on")
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--actors", type=int, default=90, help="how many callers there are beside each other")
    parser.add_argument("--rss", type=int, default=64, help="MiB that may be left above what it had when warm")
    parser.add_argument(
        "--healthy", type=float, default=HEALTHY, help="seconds in which /_healthz answers, whatever else is going on"
    )
    parser.add_argument("--keep", type=Path, help="where the log and the ledger go")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    directory = arguments.keep or Path(tempfile.mkdtemp(prefix="storm-"))
    directory.mkdir(parents=True, exist_ok=True)
    ledger_path = directory / "ledger"
    ledger_path.write_bytes(b"")
    ledger = Ledger(arguments.seed, ledger_path)
    program = arguments.binary or binary()
    print(f"storm of {arguments.seconds} s, seed {arguments.seed}, {program}; the log is {directory}/gateway.log", flush=True)
    outcome = run(arguments, directory, ledger, ledger_path, program)
    if outcome == 0 and not arguments.keep:
        shutil.rmtree(directory)
    return outcome


def run(arguments: argparse.Namespace, directory: Path, ledger: Ledger, ledger_path: Path, program: Path) -> int:
    upstream = subprocess.Popen(
        [sys.executable, "-B", str(HERE / "upstream.py"), str(ledger_path), str(arguments.seed)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=(directory / "upstream.log").open("wb"),
        env=environment(),
        preexec_fn=_die_with_parent,
    )
    gateway = None
    try:
        assert upstream.stdout is not None
        port = json.loads(upstream.stdout.readline())["port"]
        gateway = Gateway(program, directory, port, ledger_path, arguments.seconds, arguments.healthy)
        storm = Storm(arguments, gateway, ledger, gateway.port(), port)
        asyncio.run(storm.run())
        if gateway.process.poll() is None:
            code, took = gateway.stop()
            storm.summary["exit"] = f"{code} after {took:.1f} s"
            if code != 0:
                ledger.find("exit", None, f"{code} {took:.1f} s after SIGTERM: {gateway.log}")
        storm.secrets()
        if upstream.poll() is not None:
            raise RuntimeError(f"the upstream ended: {directory}/upstream.log")
    finally:
        if gateway is not None:
            gateway.end()
        upstream.kill()
        upstream.wait()
    outcome = show(storm)
    if arguments.json:
        arguments.json.write_text(json.dumps({**outcome, "found": ledger.findings}, indent=1))
    found = sum(ledger.kinds.values())
    print(f"{found} findings, seed {arguments.seed}; the log is {gateway.log}")
    return 1 if found else 0
