# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Options and fixtures of the end-to-end tests. `--routes` says which ways are tested: direct, nginx, proxy."""

import asyncio
import inspect
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import routes as route_kinds
from harness.children import FaultChild
from harness.clients import Clients
from harness.gateway import Gateway, binary
from harness.processes import FIXTURES, PEERS, Everything, StdioEverything, Upstream, poll
from harness.realproxies import RealProxies
from harness.tokens import Tokens
from harness.wire import Wire

DEADLINE = 60
_PASSED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--routes", default="proxy", help="comma-separated: direct, nginx, proxy")


def pytest_configure(config: pytest.Config) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if "proxy" in config.getoption("--routes"):
        try:
            binary()
        except FileNotFoundError as error:
            pytest.exit(f"{error}; `--routes direct` tests the peers without it", returncode=3)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `route_kind` runs once a way; one marked `gateway_only` on the way through the gateway."""
    if "route_kind" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("gateway_only")
        kinds = ["proxy"] if only else metafunc.config.getoption("--routes").split(",")
        metafunc.parametrize("route_kind", kinds, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what needs a gateway where only other ways are asked for; puts the long tests first."""

    there_is_one = "proxy" in config.getoption("--routes").split(",")

    def cannot_run(item: pytest.Item) -> bool:
        started = {"gateway", "gateway_of", "child_of", "command"} & set(item.fixturenames)
        marked = item.get_closest_marker("gateway_only") is not None
        other_way = hasattr(item, "callspec") and item.callspec.params.get("route_kind", "proxy") != "proxy"
        return marked and other_way or not there_is_one and (marked or bool(started))

    config.hook.pytest_deselected(items=[item for item in items if cannot_run(item)])
    items[:] = [item for item in items if not cannot_run(item)]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests, with a deadline."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    marker = pyfuncitem.get_closest_marker("deadline")
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def within_deadline() -> None:
        try:
            async with asyncio.timeout(marker.args[0] if marker else DEADLINE):
                await pyfuncitem.obj(**arguments)
        finally:
            await Wire.abort_all()

    asyncio.run(within_deadline())
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remembers which tests passed, for what is asserted after them."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """After a test every gateway that runs is at rest, before its fixtures end the upstreams and the gateway itself.

    Not after one that failed, whose failure says enough, nor after one marked `leaves_work`.
    """
    failures = []
    if item.stash.get(_PASSED, False) and item.get_closest_marker("leaves_work") is None:
        for gateway in Gateway.running():
            try:
                gateway.assert_at_rest()
            except AssertionError as error:
                failures.append(str(error))
    ended = yield
    assert not failures, "\n".join(failures)
    return ended


@pytest.fixture(scope="session")
def clients() -> Iterator[Clients]:
    """The official SDKs as clients."""
    started = Clients()
    yield started
    started.close()


class Servers(dict):
    """The everything servers by flavor, started when first wanted."""

    def __missing__(self, flavor: str) -> Everything | StdioEverything:
        self[flavor] = StdioEverything(flavor) if flavor.endswith("-stdio") else Everything(flavor)
        return self[flavor]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The everything servers of this worker."""
    started = Servers()
    yield started
    for server in started.values():
        server.kill()


class Routes:
    """The ways to one flavor of server, opened when first wanted."""

    def __init__(self, servers: Servers, make_directory: Any) -> None:
        self._servers = servers
        self._make_directory = make_directory
        self._open: dict[tuple[str, str], Any] = {}

    def get(self, kind: str, flavor: str) -> Any:
        key = (kind, flavor)
        if key not in self._open:
            self._open[key] = route_kinds.make(kind, {flavor: self._servers[flavor]}, self._make_directory(kind))
        return self._open[key]

    def close(self) -> None:
        failures = []
        for (kind, flavor), route in self._open.items():
            try:
                route.close()
            except AssertionError as error:
                failures.append(f"{kind} to {flavor}: {error}")
        assert not failures, "\n".join(failures)


@pytest.fixture(scope="session")
def routes(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Routes]:
    """Every way that was asked for. Closing a gateway asserts exit code 0, no descriptors left and no secret written."""
    opened = Routes(servers, tmp_path_factory.mktemp)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away authority, and leaves that are good or bad in one way each."""
    directory = tmp_path_factory.mktemp("certificates")
    subprocess.run([FIXTURES / "gen-certs.sh", directory], check=True)
    return directory


@pytest.fixture
def gateway_of(tmp_path: Path) -> Iterator[Any]:
    """Starts gateways of the test's own: `gateway_of({name: entry}, **options)`. They are stopped and searched after it.

    A test that stops one itself is believed; the others must end with 0 on SIGTERM.
    """
    started: list[Gateway] = []

    def start(servers: dict[str, dict[str, Any]], **options: Any) -> Gateway:
        started.append(Gateway(tmp_path, servers, **options))
        return started[-1]

    yield start
    failures = []
    for gateway in started:
        if gateway.child.process.poll() is None:
            try:
                gateway.stop()
            except AssertionError as error:
                failures.append(str(error))
    assert not failures, "\n".join(failures)


@pytest.fixture
def unwatched(gateway_of: Any) -> Any:
    """Starts gateways that read their configuration again when they are told to, and not by themselves."""

    def start(servers: dict[str, dict[str, Any]], options: dict[str, Any] | None = None, **more: Any) -> Gateway:
        quiet = {"pingInterval": 0, **(options or {})}
        gateway = gateway_of(servers, options=quiet, arguments=("--watch", "off"), **more)
        gateway.wait_until_ready()
        return gateway

    return start


@pytest.fixture
def child(tmp_path: Path) -> Iterator[FaultChild]:
    """A program that works, for the entry of a server; afterwards nothing of its process group is left."""
    made = FaultChild(tmp_path, "ok")
    yield made
    made.sweep()


@pytest.fixture
def program_of(tmp_path: Path) -> Iterator[Any]:
    """Programs, those that misbehave too, for entries of servers: `program_of(mode, **entry)`; afterwards nothing of them is
    left."""
    made: list[FaultChild] = []

    def make(mode: str = "ok", **more: Any) -> FaultChild:
        made.append(FaultChild(tmp_path, mode, **more))
        return made[-1]

    yield make
    for child in made:
        child.sweep()


@pytest.fixture
def child_of(tmp_path: Path, gateway_of: Any) -> Iterator[Any]:
    """Starts a gateway with one misbehaving program as `child`: `child_of(mode, *arguments, **entry)`.

    Afterwards nothing of the program's process group is left.
    """
    started: list[tuple[Gateway, FaultChild]] = []

    def start(mode, *arguments, wait=True, limits=None, environment=None, **more):
        child = FaultChild(tmp_path, mode, *arguments, **more)
        options = {"pingInterval": 0}
        gateway = gateway_of({"child": child.entry}, limits=limits, log_level="debug", options=options, env=environment)
        started.append((gateway, child))
        if wait:
            gateway.wait_until_ready()
        return gateway, child

    yield start
    try:
        for gateway, child in started:
            took = gateway.stop()
            assert took < (8 if child.mode.startswith("ignores") else 4), f"{took:.1f} s to stop"
            poll("nothing is left of the program's group", lambda: not child.left(), 1)  # the killed need a moment to end
    finally:
        for _, child in started:
            child.sweep()


@pytest.fixture(scope="session")
def faults() -> Iterator[Upstream]:
    """The upstream that misbehaves on demand (Tests/Fixtures/faultupstream.py)."""
    upstream = Upstream("2x", FIXTURES / "faultupstream.py", "0")
    yield upstream
    upstream.kill()


@pytest.fixture(scope="session")
def outbound() -> Iterator[RealProxies]:
    """The outbound proxies that people use: tinyproxy, squid and others."""
    started = RealProxies()
    yield started
    started.close()


@pytest.fixture
def raw() -> Iterator[Upstream]:
    """The hand-made upstream (Tests/Peers/raw_upstream.py), one for the test alone."""
    upstream = Upstream("2x", PEERS / "raw_upstream.py", "0")
    yield upstream
    upstream.kill()


@pytest.fixture
def tokens() -> Iterator[Tokens]:
    """The upstream that treats each token as it is told (Tests/Fixtures/tokenupstream.py), one for the test alone.

    Whatever a test does, no token ever comes with the id of a session that another opened.
    """
    upstream = Tokens()
    yield upstream
    try:
        strays = upstream.state()["strays"]
    finally:
        upstream.kill()
    assert not strays, f"tokens with the sessions of others: {strays}"


@pytest.fixture
def pool_of(tokens: Tokens, gateway_of: Any) -> Iterator[Any]:
    """Starts a gateway with one pool as `pool`: `pool_of("A B", mode, **auth)`; gives it when the probe is over.

    Afterwards no credential is held by a request that is over.
    """
    started: list[Gateway] = []

    def start(names, mode=None, path="/plain", log_level="trace", limits=None, options=None, **auth):
        options = {"pingInterval": 0, "logEnabled": True, **(options or {})}
        entry = tokens.entry(path, names, mode, **auth)
        gateway = gateway_of({"pool": entry}, options=options, log_level=log_level, limits=limits)
        gateway.wait_until_ready()
        tokens.clear()
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        if gateway.child.process.poll() is None:
            held = lambda: sum(slot["inFlight"] for slot in gateway.credentials()["slots"])
            poll("no credential is held", lambda: not held())
