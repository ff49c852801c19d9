# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Outbound proxies that people use: tinyproxy, squid, microsocks, dante and mitmproxy, each started when first wanted.

Their configurations are templates in Tests/Fixtures/proxies. They listen on loopback, on free ports, and what they wrote
down of themselves says what went through them.
"""

import asyncio
import dataclasses
import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path
from typing import Any, Callable

import pytest

from .processes import FIXTURES, PYTHON, ROOT, Child, free_port, poll

PROGRAMS = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
MITMDUMP = ROOT / ".venvm" / "bin" / "mitmdump"
ACCOUNT_OF_A_TEST = "mcp-proxy end-to-end test"


@dataclasses.dataclass(frozen=True)
class Login:
    """A user, and a password that is found wherever it should not be."""

    user: str
    password: str

    @property
    def fields(self) -> dict[str, Any]:
        """As `proxy` has it in fields of its own."""
        return {"auth": {"username": self.user, "password": self.password}}

    @property
    def userinfo(self) -> str:
        """As it stands in a URL."""
        return f"{urllib.parse.quote(self.user, safe='')}:{urllib.parse.quote(self.password, safe='')}@"


def login(user: str = "gw", password: str = "gw-secret-1") -> Login:
    """One that nobody else has; user and password begin as they are given."""
    return Login(f"{user}-{secrets.token_hex(8)}", f"{password}-{secrets.token_hex(16)}")


SPECIAL = {
    "colon": login("colon", "p:w:"),
    "at": login("at", "p@ss@"),
    "percent": login("percent", "p%40w%"),
    "slash": login("slash", "p/w//"),
    "hash": login("hash", "p#w"),
    "question": login("question", "p?w&x=+ y"),
    "all": login("gw2", "p@ss:w%rd/?#"),
    "utf8": login("gw3", "pässwörd☃"),
}
"""Those whose passwords mean something else in a URL, or in the bytes of a header."""


def need(program: str, package: str) -> str:
    """The path of a program; without it the test is skipped, or fails where CI is set."""
    path = shutil.which(program, path=PROGRAMS)
    if path is None:
        cannot(f"there is no {program}: scripts/setup installs {package}")
    return path


def cannot(why: str) -> None:
    """Skips the test for want of something, or fails it where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    pytest.skip(f"CANNOT RUN: {why}")


def hashes(kind: str, logins: list[Login]) -> list[str]:
    """The hashes of passwords, of one of openssl's kinds."""
    plain = "".join(f"{login.password}\n" for login in logins).encode()
    made = subprocess.run(["openssl", "passwd", kind, "-stdin"], input=plain, capture_output=True, check=True)
    return made.stdout.decode().splitlines()


def filled(template: str, **values: Any) -> str:
    """A configuration with its `@NAMES@` filled in."""
    text = (FIXTURES / "proxies" / f"{template}.in").read_text()
    return re.sub("@([A-Z_0-9]+)@", lambda found: str(values[found[1].lower()]), text)


def listens(port: int) -> bool:
    """Whether a port of loopback is listened on; the program there does not hear of it."""
    sought = f"0100007F:{port:04X} 00000000:0000 0A"
    return any(sought in line for line in Path("/proc/net/tcp").read_text().splitlines())


def connections(pid: int) -> list[int]:
    """The ports at the other ends of the connections that a process has opened and still has, one for each."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            pass  # closed meanwhile
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    own = [line for line in lines if line[9] in inodes]
    listening = {line[1].rpartition(":")[2] for line in own if line[3] == "0A"}
    here, there, established = 1, 2, "01"
    ports = [(line[here].rpartition(":")[2], line[there].rpartition(":")[2]) for line in own if line[3] == established]
    return sorted(int(there, 16) for here, there in ports if here not in listening)


class RealProxy:
    """A running program with a port for each of its `ways`; `start` gives the program for such ports."""

    ways: tuple[str, ...] = ("port",)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for attempt in range(3):
            self.ports = {way: free_port() for way in self.ways}
            self.child = self.start(directory)
            try:
                poll("it listens, or ended", lambda: self._is_up() or self.child.process.poll() is not None, 30)
                assert self._is_up(), f"ended with {self.child.process.returncode}\n{self.child.tail()}"
                return
            except AssertionError:
                self.kill()
                if attempt == 2:
                    raise  # a port was taken meanwhile, or there is more to it

    def start(self, directory: Path) -> Child:
        raise NotImplementedError

    def _is_up(self) -> bool:
        return all(listens(port) for port in self.ports.values())

    def kill(self) -> None:
        self.child.kill()

    def close(self) -> None:
        """Ends it, and takes back what was made for it."""
        self.kill()

    def again(self) -> None:
        """Starts it anew, on the same ports."""
        self.child = self.start(self.directory)
        poll("it listens again", self._is_up)

    def url(self, way: str, login: Login | None = None) -> str:
        scheme = "https" if way.startswith("tls_") else "http"
        return f"{scheme}://{login.userinfo if login else ''}127.0.0.1:{self.ports[way]}"

    def output(self) -> list[str]:
        """The lines that it wrote so far."""
        return bytes(self.child.out + self.child.err).decode("utf-8", "replace").splitlines()


class Kept(Child):
    """A program that becomes another user: keeper.py ends it and all of its group, and removes the files that it leaves."""

    def __init__(self, *argv: Any, leaves: str = "") -> None:
        super().__init__(PYTHON["2x"], FIXTURES / "keeper.py", leaves, *argv)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(10)
        super().kill()


class TinyProxy(RealProxy):
    """tinyproxy with a user and a password, or open."""

    def __init__(self, directory: Path, login: Login | None = None) -> None:
        self._login = login
        super().__init__(directory)

    def start(self, directory: Path) -> Child:
        program = need("tinyproxy", "tinyproxy")
        configuration = directory / f"tinyproxy-{self.ports['port']}.conf"
        says = f"BasicAuth {self._login.user} {self._login.password}" if self._login else ""
        configuration.write_text(filled("tinyproxy.conf", port=self.ports["port"], login=says))
        return Child(program, "-d", "-c", configuration)

    def requests(self) -> list[str]:
        """The request lines that it read."""
        return [found[1] for line in self.output() if (found := re.search(r"Request \(file descriptor \d+\): (.*)$", line))]


@dataclasses.dataclass(frozen=True)
class Entry:
    """What squid wrote of a request."""

    method: str
    target: str
    status: int
    user: str
    port: int
    peer: int


class Squid(RealProxy):
    """squid with these users: a port for each way of being an HTTP proxy."""

    ways = ("basic", "open", "only443", "denies", "tls_basic", "tls_open", "tls_wrongname", "tls_otherca")
    template = "squid.conf"

    def __init__(self, directory: Path, certificates: Path, logins: list[Login]) -> None:
        self.certificates = certificates
        self.logins = logins
        super().__init__(directory)

    def start(self, directory: Path) -> Child:
        program = need("squid", "squid-openssl")
        (directory / "passwords").write_text(self.passwords())
        (directory / "hosts").write_text("127.0.0.1 localhost origin.test\n")
        if os.geteuid() == 0:
            shutil.chown(directory, "proxy", "proxy")
        values = {"directory": directory, "certificates": self.certificates, "helpers": "/usr/lib/squid", **self.ports}
        configuration = directory / self.template
        configuration.write_text(filled(self.template, **values))
        # Two of them on one machine meet in /dev/shm unless their services have names of their own.
        service = f"mcpproxy{os.getpid()}x{secrets.token_hex(4)}"
        return Kept(program, "-n", service, "-N", "-f", configuration, leaves=f"/dev/shm/{service}-*")

    def passwords(self) -> str:
        pairs = zip(self.logins, hashes("-apr1", self.logins), strict=True)
        return "".join(f"{login.user}:{hashed}\n" for login, hashed in pairs)

    def log(self, way: str | None = None, **sought: Any) -> list[Entry]:
        """What it wrote of requests that are over, tunnels too; at this port, and with these values."""
        path = self.directory / "access.log"
        complete = path.read_text().rpartition("\n")[0] if path.exists() else ""
        entries = []
        for method, target, status, user, port, peer in (line.split(" ") for line in complete.splitlines()):
            entries.append(Entry(method, target, int(status), user, int(port), int(peer)))
        if way:
            sought["port"] = self.ports[way]
        return [entry for entry in entries if all(getattr(entry, name) == value for name, value in sought.items())]


class DigestSquid(Squid):
    """squid that wants Digest and nothing else."""

    ways = ("digest",)
    template = "squid-digest.conf"

    def passwords(self) -> str:
        return "".join(f"{login.user}:{login.password}\n" for login in self.logins)


class Socks(RealProxy):
    """What any SOCKS program has."""

    def url(self, way: str, login: Login | None = None) -> str:
        """The URL; `way` is socks5 or socks5h."""
        return f"{way}://{login.userinfo if login else ''}127.0.0.1:{self.ports['port']}"

    def targets(self) -> list[str]:
        """Where it connected to."""
        raise NotImplementedError


class Microsocks(Socks):
    """microsocks with a user and a password, or open."""

    def __init__(self, directory: Path, login: Login | None = None) -> None:
        self._login = login
        super().__init__(directory)

    def start(self, directory: Path) -> Child:
        known = ["-u", self._login.user, "-P", self._login.password] if self._login else []
        return Child(need("microsocks", "microsocks"), "-i", "127.0.0.1", "-p", self.ports["port"], *known)

    def targets(self) -> list[str]:
        return [found[1] for line in self.output() if (found := re.search(r"connected to (\S+)", line))]


class Dante(Socks):
    """dante, which knows one user of the system: an account that is made for it. Root only."""

    def __init__(self, directory: Path) -> None:
        need("danted", "dante-server")
        if os.geteuid() != 0:
            pytest.skip("CANNOT RUN: dante needs root, for the account that it asks the system about")
        self.login = Login(f"mcp-proxy-{os.getpid()}-{secrets.token_hex(3)}", f"gw-secret-1-{secrets.token_hex(16)}")
        self._forget_accounts()
        self._account("useradd", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin",
                      "--comment", f"{ACCOUNT_OF_A_TEST} {os.getpid()}", self.login.user)  # fmt: skip
        try:
            # Hashed in a way that costs nothing: every connection asks for it.
            self._account("usermod", "--password", hashes("-1", [self.login])[0], self.login.user)
            super().__init__(directory)
        except BaseException:
            self._account("userdel", self.login.user)
            raise

    def start(self, directory: Path) -> Child:
        configuration = directory / "danted.conf"
        configuration.write_text(filled("danted.conf", **self.ports))
        return Kept(need("danted", "dante-server"), "-f", configuration, "-p", directory / "danted.pid")

    def close(self) -> None:
        self.kill()
        self._account("userdel", self.login.user)

    def _account(self, *command: str) -> None:
        # Another may be at the file of accounts.
        poll(" ".join(command[:1]), lambda: not subprocess.run(command, capture_output=True).returncode)

    def _forget_accounts(self) -> None:
        """Removes what tests that were killed left behind."""
        for account in pwd.getpwall():
            made, _, pid = account.pw_gecos.rpartition(" ")
            if made == ACCOUNT_OF_A_TEST and not Path("/proc", pid).exists():
                subprocess.run(["userdel", account.pw_name], capture_output=True)


class Mitm(RealProxy):
    """mitmdump, as an HTTP and a SOCKS proxy with a login: opens every tunnel, and says what went through it."""

    ways = ("http", "socks5")

    def __init__(self, directory: Path, certificates: Path, login: Login) -> None:
        self.certificates = certificates
        self._login = login
        super().__init__(directory)

    def start(self, directory: Path) -> Child:
        if not MITMDUMP.exists():
            cannot(f"there is no {MITMDUMP}: scripts/setup makes it")
        modes = [f"--mode={mode}@127.0.0.1:{self.ports[way]}" for way, mode in (("http", "regular"), ("socks5", "socks5"))]
        sets = {
            "confdir": directory,
            "flow_detail": 0,
            "proxyauth": f"{self._login.user}:{self._login.password}",
            "ssl_verify_upstream_trusted_ca": self.certificates / "ca.pem",
        }
        options = [text for name, value in sets.items() for text in ("--set", f"{name}={value}")]
        return Child(MITMDUMP, *modes, *options, "-s", FIXTURES / "proxies" / "mitmjournal.py")

    @property
    def authority(self) -> Path:
        """The root of the certificates that it makes."""
        return self.directory / "mitmproxy-ca-cert.pem"

    def url(self, way: str, login: Login | None = None) -> str:
        """The URL; `way` is http, socks5 or socks5h."""
        return f"{way}://{login.userinfo if login else ''}127.0.0.1:{self.ports[way.removesuffix('h')]}"

    def journal(self) -> list[dict[str, Any]]:
        """The requests that it saw inside of tunnels."""
        complete = bytes(self.child.out).rpartition(b"\n")[0]
        return [json.loads(line) for line in complete.splitlines() if line.startswith(b"{")]


class Recorder:
    """A tunnel of the tests' own, which keeps the heads of requests byte by byte. It runs in the loop of the test."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.script: list[int] = []
        """The statuses with which it answers next; 200 is a tunnel, and so is what comes after them."""
        self.port = 0

    async def __aenter__(self) -> "Recorder":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            status = self.script.pop(0) if self.script else 200
            if status != 200:
                return writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
            host, _, port = head.split(b" ")[1].decode().rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Here you are\r\n\r\n")
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


class RealProxies:
    """The programs of this worker, started when first wanted."""

    def __init__(self) -> None:
        self.login = login()
        self.second = login("gw2")
        # Whose password nobody gets right: squid keeps one password for each user, and answers all while it looks at one.
        self.mistyped = login("gw4")
        self._directory = Path(tempfile.mkdtemp(prefix="mcp-proxy-outbound-"))
        self._directory.chmod(0o755)  # some programs are other users
        self.certificates = self._directory / "certificates"
        subprocess.run([FIXTURES / "gen-certs.sh", self.certificates], check=True)
        self._running: dict[Any, Any] = {}

    def _get(self, key: Any, start: Callable[[Path], Any]) -> Any:
        if key not in self._running:
            directory = Path(tempfile.mkdtemp(dir=self._directory))
            directory.chmod(0o755)
            self._running[key] = start(directory)
        return self._running[key]

    @property
    def logins(self) -> list[Login]:
        """All that squid knows."""
        return [self.login, self.second, self.mistyped, *SPECIAL.values()]

    @property
    def squid(self) -> Squid:
        return self._get("squid", lambda directory: Squid(directory, self.certificates, self.logins))

    @property
    def digest(self) -> DigestSquid:
        return self._get("digest", lambda directory: DigestSquid(directory, self.certificates, self.logins))

    def tinyproxy(self, login: Login | None = None) -> TinyProxy:
        return self._get(("tinyproxy", login), lambda directory: TinyProxy(directory, login))

    def microsocks(self, login: Login | None = None) -> Microsocks:
        return self._get(("microsocks", login), lambda directory: Microsocks(directory, login))

    @property
    def dante(self) -> Dante:
        return self._get("dante", Dante)

    @property
    def mitm(self) -> Mitm:
        return self._get("mitm", lambda directory: Mitm(directory, self.certificates, self.login))

    def close(self) -> None:
        try:
            for proxy in self._running.values():
                proxy.close()
        finally:
            shutil.rmtree(self._directory)
