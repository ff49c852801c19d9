# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The binary under test, started with a configuration, and what must hold of every run of it."""

import contextlib
import http.client
import json
import os
import re
import signal
import time
import weakref
from pathlib import Path
from typing import Any, Callable, ClassVar

from .canaries import Canaries
from .processes import ROOT, Child, children_of, environment, poll

HELD = ("inFlight", "streams", "queued", "suspended", "upstreamConnectionsInUse", "exchanges", "bufferedBytes")
"""What `held` of /_status counts, and what is 0 when nothing is under way. What the gateway itself wants of upstreams
(`ownConnections`) and the replay buffers of open sessions (`sessionBytes`) are counted apart from it."""
REST = 5
"""Seconds that a gateway has to come to rest after everybody went away."""

_ADDRESS = re.compile(r"(?:127\.0\.0\.1|0\.0\.0\.0|localhost|\[::1?\]):(\d+)")
GRACE = 31


def binary() -> Path:
    """The program under test: `MCP_PROXY_BINARY`, else the newest of the release and the debug build."""
    given = os.environ.get("MCP_PROXY_BINARY")
    builds = [Path(given)] if given else [ROOT / ".build" / kind / "mcp-proxy" for kind in ("release", "debug")]
    found = [build for build in builds if build.exists()]
    if not found:
        raise FileNotFoundError(f"no mcp-proxy to test: build it, or set MCP_PROXY_BINARY (looked at {builds})")
    return max(found, key=lambda build: build.stat().st_mtime)


def in_place_of(path: Path) -> Callable[[str], Path]:
    """Writes a text as most editors do, and everybody who is careful: beside the file, and then in its place."""

    def write(text: str) -> Path:
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.chmod(0o600)
        beside.replace(path)
        return path

    return write


def _changed(whole: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """With these changes; a key that is given `None` is not there."""
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


class Gateway:
    """A running mcp-proxy on a port of its own choice.

    `servers` maps names to `mcpServers` entries. Unless they say otherwise those with a `url` get `transportType` (none
    if it is `None`), a secret header, an `Authorization` header with a secret (unless they have a pool, or say
    `None`) and a secret query value, and those with a `command` secrets in `env`; callers need the inbound token, another secret.
    The configuration is a file that each change puts another in the place of; `write` puts it elsewhere, and gives where that is.
    """

    _started: ClassVar["weakref.WeakSet[Gateway]"] = weakref.WeakSet()

    def __init__(
        self,
        directory: Path,
        servers: dict[str, dict[str, Any]],
        *,
        options: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        arguments: tuple[str, ...] = (),
        log_level: str = "trace",
        open_to_all: bool = False,
        env: dict[str, str] | None = None,
        write: Callable[[str], Any] | None = None,
        **top: Any,
    ) -> None:
        self.canaries = Canaries()
        self.token = "" if open_to_all else self.canaries.make("inbound")
        proxy_options = {"logEnabled": True, "proxy": False, **(options or {})}
        if not open_to_all:
            proxy_options.setdefault("authTokens", [self.token])
        self.configuration = {
            "mcpProxy": {
                "baseURL": "http://127.0.0.1:9",
                "addr": "127.0.0.1:0",
                "name": "end-to-end",
                "version": "1",
                "type": "streamable-http",
                "options": proxy_options,
                **({"limits": limits} if limits else {}),
                **top,
            },
            "mcpServers": {name: self._with_secrets(entry) for name, entry in servers.items()},
        }
        self._write = write or in_place_of(directory / f"config-{id(self)}.json")
        self.source: Any = self._write(self.text)
        """What `--config` names."""
        self.child = Child(
            binary(),
            "--config",
            self.source,
            "--log-format",
            "json",
            "--log-level",
            log_level,
            *arguments,
            env=environment(E2E_CANARY=self.canaries.make("environment"), **(env or {})),
        )
        self.seen = bytearray()
        """What the tests read from it over raw connections, for the search for secrets."""
        try:
            self.port: int = self.child.wait_for(self._logged_port, "it logged its address")
        except BaseException:
            self.child.kill()
            raise
        self._descriptors = self.child.descriptors()
        Gateway._started.add(self)

    @classmethod
    def running(cls) -> list["Gateway"]:
        """Those that were started and have not ended, whoever holds them."""
        return [gateway for gateway in cls._started if gateway.child.process.poll() is None]

    # The configuration, while it runs.

    @property
    def text(self) -> str:
        """The configuration, as it is written."""
        return json.dumps(self.configuration, indent=2)

    def change(
        self,
        servers: dict[str, dict[str, Any] | None] | None = None,
        *,
        options: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        **top: Any,
    ) -> None:
        """Changes what it says, and writes nothing: these servers are as given now, or gone where that is `None`, and so are
        these keys of `mcpProxy`, of its `options` and of its `limits`."""
        proxy = self.configuration["mcpProxy"]
        entries = {name: None if entry is None else self._with_secrets(entry) for name, entry in (servers or {}).items()}
        for token in (options or {}).get("authTokens", []):
            self.canaries.add("inbound", token)
        self.configuration["mcpServers"] = _changed(self.configuration["mcpServers"], entries)
        proxy = _changed(proxy, top)
        proxy["options"] = _changed(proxy["options"], options or {})
        if limits is not None:
            proxy["limits"] = _changed(proxy.get("limits", {}), limits)
        self.configuration["mcpProxy"] = proxy

    def reconfigure(self, servers: dict[str, dict[str, Any] | None] | None = None, **changes: Any) -> None:
        """As `change`, and writes it. Nobody is told."""
        self.change(servers, **changes)
        self.write()

    def write(self, text: str | None = None) -> None:
        """Writes the configuration, or something else in its place."""
        self._write(self.text if text is None else text)

    def signal_reload(self) -> None:
        """SIGHUP, without a look at what becomes of it."""
        self.child.process.send_signal(signal.SIGHUP)

    def reload(self, *expected: str, deadline: float = 10) -> dict[str, Any]:
        """SIGHUP, and what was said of it when it was done: `applied`, unless something else is expected."""
        before = self.reloads()
        self.signal_reload()
        return self.reloaded(before, *expected, deadline=deadline)

    def reloads(self) -> int:
        """How often the configuration was read again."""
        return self.status()["configuration"]["reloads"]

    def reloaded(self, before: int, *expected: str, deadline: float = 10) -> dict[str, Any]:
        """What was said of a reload that comes after so many, when it is done."""
        said: dict[str, Any] = {}

        def is_done() -> bool:
            said.update(self.status()["configuration"])
            return said["reloads"] > before

        poll(f"a reload after {before}", is_done, deadline)
        last = said["lastReload"]
        assert last["result"] in (expected or ("applied",)), f"{last}\n{self.child.tail()}"
        return last

    def status(self) -> dict[str, Any]:
        """What /_status says."""
        status, body = self.get("/_status")
        assert status == 200, (status, body)
        return json.loads(body)

    def generation(self) -> int:
        """Which of its configurations runs, from 1."""
        return self.status()["configuration"]["generation"]

    def sockets(self) -> set[str]:
        """Its sockets and pipes, by what the system calls each, but for connections of callers that are over."""
        return {name for name in self.open_files() if name.startswith(("socket:", "pipe:"))}

    def open_files(self) -> list[str]:
        """What its descriptors are."""
        names = []
        for descriptor in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{self.pid}/fd/{descriptor}"))
            except OSError:
                pass  # closed meanwhile
        return sorted(names)

    def _with_secrets(self, entry: dict[str, Any]) -> dict[str, Any]:
        if "command" in entry:
            secret = {"E2E_SECRET": self.canaries.make("child"), "E2E_EXPANDED": "${E2E_CANARY}"}
            return {**entry, "env": {**secret, **entry.get("env", {})}}
        entry = {"transportType": "streamable-http", **entry}
        if entry["transportType"] is None:
            del entry["transportType"]
        mark = "&" if "?" in entry["url"] else "?"
        entry["url"] += f"{mark}key={self.canaries.make('query').rstrip('+/=')}"
        options = entry.get("options", {})
        tokens = options.get("auth", {}).get("tokens", [])
        for token in [*tokens, *options.get("authTokens", [])]:
            if not token.startswith("${"):  # where the secret is, and not the secret
                self.canaries.add("pool", token)
        headers = {
            **({} if tokens else {"Authorization": "Bearer " + self.canaries.make("upstream")}),
            "X-Canary": self.canaries.make("header"),
            "X-Environment": "${E2E_CANARY}",
            **entry.get("headers", {}),
        }
        entry["headers"] = {name: value for name, value in headers.items() if value is not None}
        return entry

    def _logged_port(self) -> int | None:
        for line in self.child.err.split(b"\n"):
            if b"listening" in line.lower():
                found = _ADDRESS.search(line.decode("utf-8", "replace"))
                if found and int(found[1]):
                    return int(found[1])
        return None

    @property
    def pid(self) -> int:
        return self.child.pid

    def url(self, name: str, transport: str = "mcp") -> str:
        """Where callers reach this server; `transport` is mcp or sse."""
        return f"http://127.0.0.1:{self.port}/{name}/{transport}"

    def get(self, path: str, authorized: bool = True, **headers: str) -> tuple[int, bytes]:
        """A plain GET of one of the gateway's own pages."""
        if authorized and self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", path, headers={"Connection": "close", **headers})
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        self.seen += body
        return status, body

    def credentials(self, name: str = "pool") -> dict[str, Any]:
        """What /_status says of the credential pool of this server."""
        status, body = self.get("/_status")
        assert status == 200, (status, body)
        return json.loads(body)["upstreams"][name]["credentials"]

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics, by their name with labels as written."""
        status, body = self.get("/metrics")
        assert status == 200, (status, body)
        samples = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this metric that carry these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for sample, value in self.metrics().items()
            if re.split(r"[{ ]", sample)[0] == f"mcp_proxy_{name}" and all(label in sample for label in wanted)
        )

    def pool(self, name: str) -> dict[str, Any]:
        """The credentials of a server, as /_status shows them."""
        status, body = self.get("/_status")
        assert status == 200, (status, body)
        return json.loads(body)["upstreams"][name]["credentials"]

    def wait_until_ready(self, deadline: float = 15) -> None:
        """Until /_readyz no longer says `initializing`."""
        poll("readiness", lambda: b"initializing" not in self.get("/_readyz")[1], deadline)

    def wait_until_looked(self, deadline: float = 15) -> None:
        """Until it has tried every upstream once, whether or not it reached them."""

        def looked() -> bool:
            return "connecting" not in json.loads(self.get("/_readyz")[1])["upstreams"].values()

        poll("a look at every upstream", looked, deadline)

    def log(self, message: str | None = None) -> list[dict[str, Any]]:
        """The log lines so far; each must be one JSON object."""
        complete, _, _ = bytes(self.child.err).rpartition(b"\n")
        lines = [json.loads(line) for line in complete.splitlines() if line.strip()]
        return [line for line in lines if message is None or message in json.dumps(line)]

    def logged(self, message: str, count: int = 1, deadline: float = 5, **fields: Any) -> list[dict[str, Any]]:
        """The lines with the message and these fields, when there are `count`: a line may be written after the answer is sent."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.log(message) if all(line.get(name) == value for name, value in fields.items())]

        poll(f"{count} lines in the log with {message} {fields}", lambda: len(found()) >= count, deadline)
        return found()

    def settle(self, deadline: float = 10) -> None:
        """Until the descriptors are back to about what they were after the start.

        Idle upstream connections may stay, and so may children with their pipes.
        """
        allowed = self._descriptors + 8 + 4 * len(children_of(self.pid))
        try:
            poll("as few descriptors as at the start", lambda: self.child.descriptors() <= allowed, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.child.descriptors()} > {allowed}: {self.open_files()}") from None

    def held(self) -> dict[str, int]:
        """What the gateway says that it holds for callers and upstreams: `held` of /_status.

        A build without that member says only how many requests and streams there are.
        """
        tokens = self.configuration["mcpProxy"]["options"].get("authTokens") or [""]
        headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens[0] else {}
        status, body = self.get("/_status", authorized=False, **headers)
        if status == 403:
            return {}  # a test may have made it a secret
        assert status == 200, (status, body)
        said = json.loads(body)
        return said.get("held") or {name: said[name] for name in ("inFlight", "streams")}

    def assert_at_rest(self, deadline: float = REST, buffered: int = 0) -> None:
        """Fails unless nothing is under way within the deadline; at most `buffered` bytes may be held then.

        To be called when everybody who called has gone.
        """
        end = time.monotonic() + deadline
        while True:
            try:
                held: dict[str, Any] = self.held()
                left = {name: held[name] for name in HELD if held.get(name, 0) > (buffered if name == "bufferedBytes" else 0)}
            except OSError as error:
                held, left = {}, {"/_status": str(error)}
            if not left or self.child.process.poll() is not None:
                return
            if time.monotonic() > end:
                said = f"not at rest {deadline} s after everybody left: {left}; it holds {held}"
                raise AssertionError(f"{said}\n{self.child.tail()}")
            time.sleep(0.02)

    def stop(self, expected: int = 0, deadline: float = GRACE, was_told: bool = False) -> float:
        """SIGTERM (unless it `was_told`), and the seconds until it ended.

        Asserts the exit code and searches everything that it wrote for the secrets.
        """
        for page in ("/_healthz", "/_readyz", "/metrics", "/_status"):
            try:
                self.get(page)
            except OSError:
                pass  # a test may have ended it
        argv = Path(f"/proc/{self.pid}/cmdline")
        command_line = argv.read_bytes() if argv.exists() else b""
        began = time.monotonic()
        if self.child.process.poll() is None and not was_told:
            self.child.process.send_signal(signal.SIGTERM)
        try:
            code = self.child.wait(deadline)
        except Exception:
            raise AssertionError(f"still there {deadline} s after SIGTERM\n{self.child.tail()}") from None
        finally:
            self.child.kill()
        took = time.monotonic() - began
        assert code == expected, f"exit code {code}, wanted {expected}\n{self.child.tail()}"
        self.search(command_line)
        return took

    def search(self, command_line: bytes = b"") -> None:
        """Fails if a secret stands in anything that the gateway wrote."""
        leaks = (
            self.canaries.find("stdout", bytes(self.child.out))
            + self.canaries.find("stderr", bytes(self.child.err))
            + self.canaries.find("an answer", bytes(self.seen))
            + self.canaries.find("argv", command_line)
        )
        assert not leaks, "\n".join(leaks)
