# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A gateway sees by itself that its configuration, or a file that this names, has changed: once, and when it is whole."""

import asyncio
import json
import os
import secrets
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from harness.callers import Caller, text_of
from harness.gateway import Gateway
from harness.processes import FIXTURES, Upstream, poll, until
from harness.tokens import Tokens
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

SEEN = 6
"""Seconds in which a change is applied, with or without a hint of the system."""
PIECES = 10
QUIET = {"pingInterval": 0}


async def call(gateway, name="s"):
    """A call of 2026-07-28."""
    body = message("tools/call", {"name": "echo", "arguments": {"text": "hello"}}, era="stateless")
    answer = await post(gateway.url(name), body, era="stateless", token=gateway.token, seen=gateway.seen)
    assert text_of(answer.reply(1)) == "hello"


def seen(gateway, before, *expected, trigger="file"):
    """The one reload that a change brings."""
    last = gateway.reloaded(before, *expected, deadline=SEEN)
    assert last["trigger"] == trigger and gateway.reloads() == before + 1, last
    return last


# The configuration itself.


class Volume:
    """A directory as Kubernetes mounts a ConfigMap or a Secret: every file is a link into a directory that a link leads to."""

    def __init__(self, directory, name="config.json"):
        self.directory = directory
        self.name = name
        self.path = directory / name
        directory.mkdir()

    def write(self, text):
        """All at once, with a rename of the one link."""
        made = self.directory / f"..{secrets.token_hex(8)}"
        made.mkdir()
        file = made / self.name
        file.write_text(text)
        file.chmod(0o600)
        data, fresh = self.directory / "..data", self.directory / "..data_tmp"
        old = data.resolve() if data.exists() else None
        fresh.symlink_to(made.name)
        fresh.replace(data)
        if not self.path.is_symlink():
            self.path.symlink_to(f"..data/{self.name}")
        if old:
            shutil.rmtree(old)
        return self.path


def in_place(path, text):
    path.write_text(text)


def in_pieces(path, text):
    """Cut off, and written again bit by bit; what stands there meanwhile is no configuration."""
    size = len(text) // PIECES + 1
    with path.open("w") as file:
        for at in range(0, len(text), size):
            file.write(text[at : at + size])
            file.flush()
            time.sleep(0.03)


def beside_and_renamed(path, text):
    beside = path.with_suffix(".swp")
    beside.write_text(text)
    beside.chmod(0o600)
    beside.replace(path)


def moved_away_first(path, text):
    """As vim does it with a backup."""
    path.rename(path.with_suffix(".json~"))
    path.write_text(text)
    path.chmod(0o600)


def deleted_and_made(path, text):
    path.unlink()
    time.sleep(0.4)
    path.write_text(text)
    path.chmod(0o600)


def without_a_time(path, text):
    """Where the time of a file does not move, as on some network file systems."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


WAYS = [in_place, in_pieces, beside_and_renamed, moved_away_first, deleted_and_made, without_a_time]


@pytest.fixture(scope="module")
def upstream():
    """The upstream that treats each token as it is told."""
    started = Upstream("2x", FIXTURES / "tokenupstream.py", "0")
    yield started
    started.kill()


def entry(upstream, **more):
    return {"url": f"http://127.0.0.1:{upstream.port}/plain", "protocol": "stateless", **more}


@pytest.fixture(scope="module")
def watching(tmp_path_factory, upstream):
    """One gateway for every way to write its file."""
    directory = tmp_path_factory.mktemp("watched")
    gateway = Gateway(directory, {"s": entry(upstream, timeout="60s")}, options=QUIET)
    gateway.wait_until_ready()
    yield gateway
    gateway.stop()


def another(gateway, upstream):
    """The configuration with another time for the server, of the same length."""
    now = int(gateway.configuration["mcpServers"]["s"]["timeout"][:-1])
    gateway.change({"s": entry(upstream, timeout=f"{now + 1}s")})
    return gateway.text


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_written(watching, upstream, way):
    """However the file is written, it is one reload, with nothing read that is not whole."""
    before, generation = watching.reloads(), watching.generation()
    text = another(watching, upstream)
    await asyncio.to_thread(way, watching.source, text)
    last = await asyncio.to_thread(seen, watching, before)
    assert last["tuned"] == ["s"] and watching.generation() == generation + 1
    assert not watching.log("configuration refused")
    await call(watching)


async def test_touched(watching, upstream):
    """A file that is written with what it says is not read again, nor is one that is changed and changed back."""
    before = watching.reloads()
    text = watching.text
    in_place(watching.source, text)
    os.utime(watching.source)
    in_place(watching.source, text + "\n")
    in_place(watching.source, text)
    (watching.source.parent / "beside").write_text("another file")
    in_place(watching.source, another(watching, upstream))
    assert (await asyncio.to_thread(seen, watching, before))["tuned"] == ["s"], "the next change is the next reload"


async def test_left_half_written(watching, upstream):
    """What stays half written is refused and changes nothing; the rest of it makes it good."""
    before, text = watching.reloads(), another(watching, upstream)
    generation = watching.generation()
    in_place(watching.source, text[: len(text) // 2])
    last = await asyncio.to_thread(seen, watching, before, "rejected")
    assert last["problems"] and watching.generation() == generation
    await call(watching)
    with watching.source.open("a") as file:
        file.write(text[len(text) // 2 :])
    assert (await asyncio.to_thread(seen, watching, before + 1))["tuned"] == ["s"]


async def test_away(watching, upstream):
    """A file that is away is waited for, and said once; serving goes on."""
    before = watching.reloads()
    watching.source.unlink()
    warned = lambda: [line for line in watching.log(watching.source.name) if line["level"] == "warning"]
    await until("it is said that it is missing", warned, 12)
    await call(watching)
    in_place(watching.source, another(watching, upstream))
    watching.source.chmod(0o600)
    assert (await asyncio.to_thread(seen, watching, before))["tuned"] == ["s"]
    assert len(warned()) == 1


async def test_kubernetes(gateway_of, tmp_path, upstream):
    """A volume whose one link is led elsewhere is one reload, each time."""
    volume = Volume(tmp_path / "volume")
    gateway = gateway_of({"s": entry(upstream)}, options=QUIET, write=volume.write)
    gateway.wait_until_ready()
    for n in range(2):
        before = gateway.reloads()
        gateway.reconfigure({f"s{n}": entry(upstream)})
        assert (await asyncio.to_thread(seen, gateway, before))["added"] == [f"s{n}"]
        await call(gateway, f"s{n}")


async def test_off(gateway_of, upstream):
    """With `--watch off` nothing is read until somebody asks."""
    gateway = gateway_of({"s": entry(upstream)}, options=QUIET, arguments=("--watch", "off"))
    gateway.wait_until_ready()
    gateway.reconfigure({"t": entry(upstream)})
    end = time.monotonic() + 3  # longer than a look takes to come
    await until("nothing happened", lambda: gateway.reloads() or time.monotonic() > end)
    assert gateway.reloads() == 0
    assert gateway.reload()["added"] == ["t"]


# Files that it names.


@pytest.fixture
def secret(tmp_path):
    """A file for a secret."""
    path = tmp_path / "secrets" / "token"
    path.parent.mkdir()
    return path


def put(path, text):
    """A secret in a file, written with care."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.chmod(0o600)
    beside.replace(path)


@pytest.fixture
def held(gateway_of, tokens, secret):
    """A gateway whose one token is in a file, read when that changes."""
    put(secret, tokens.token("A") + "\n")
    url = f"http://127.0.0.1:{tokens.port}/sessions"
    servers = {"s": {"url": url, "options": {"auth": {"tokens": [f"${{file:{secret}}}"]}}}}
    gateway = gateway_of(servers, options=QUIET, env={"LATER": str(secret.parent / "later")})
    for name in "ABC":
        gateway.canaries.add("file", tokens.token(name))
    gateway.wait_until_ready()
    tokens.clear()
    return gateway


async def test_secret_rotated(held, tokens, secret):
    """A secret that is written anew is used by the next call, in the sessions that there are."""
    caller = await Caller.open(held, "s")
    assert "result" in await caller.ask("echo", {"text": "A"})
    put(secret, f"{tokens.token('B')}\n")
    assert (await asyncio.to_thread(seen, held, 0))["tuned"] == ["s"]
    assert "result" in await caller.ask("echo", {"text": "B"})
    put(secret, f"{tokens.token('C')}\n")
    assert held.reload()["tuned"] == ["s"]
    assert "result" in await caller.ask("echo", {"text": "C"})
    assert tokens.sends("tools/call") == "A B C"
    assert held.metric("config_secret_file_errors") == 0


async def test_secret_in_a_volume(gateway_of, tokens, tmp_path):
    """The same of a Secret that Kubernetes mounts."""
    volume = Volume(tmp_path / "volume", "token")
    volume.write(tokens.token("A"))
    url = f"http://127.0.0.1:{tokens.port}/plain"
    gateway = gateway_of({"s": {"url": url, "options": {"auth": {"tokens": [f"${{file:{volume.path}}}"]}}}}, options=QUIET)
    for name in "AB":
        gateway.canaries.add("file", tokens.token(name))
    gateway.wait_until_ready()
    volume.write(tokens.token("B"))
    await asyncio.to_thread(seen, gateway, 0)
    tokens.clear()
    await call(gateway)
    assert tokens.sends("tools/call") == "B"


def looped(path):
    path.unlink()
    path.symlink_to(path.name)


def directory(path):
    path.unlink()
    path.mkdir()


FAULTS = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: put(path, ""),
    "blank": lambda path: put(path, " \n"),
    "unreadable": looped,
    "directory": directory,
    "too-large": lambda path: put(path, "x" * 65 * 1024),
    "nul": lambda path: put(path, "a\0b"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_secret_that_cannot_be_read(held, tokens, secret, fault):
    """The last good value stays, with one warning and a figure, and hinders no other change; a good one ends it."""
    FAULTS[fault](secret)
    if fault != "missing":  # that one is left to be seen
        held.reload("unchanged")
    await until("it is known", lambda: held.metric("config_secret_file_errors") == 1, SEEN)
    held.logged("secret-file-kept", level="warning")
    caller = await Caller.open(held, "s")
    assert "result" in await caller.ask("echo", {"text": "kept"})
    held.reconfigure({"t": {"url": f"http://127.0.0.1:{tokens.port}/plain"}})
    assert held.reload("applied", "unchanged")
    assert "t" in held.status()["upstreams"]
    assert "result" in await caller.ask("echo", {"text": "kept"})
    assert tokens.sends("tools/call") == "A A"
    assert len(held.logged("secret-file-kept", level="warning")) == 1, "it is said once"
    if secret.is_dir() and not secret.is_symlink():
        secret.rmdir()
    put(secret, tokens.token("B"))
    assert held.reload()["tuned"] == ["s"]
    assert "result" in await caller.ask("echo", {"text": "new"})
    assert tokens.sends("tools/call") == "A A B"
    assert held.metric("config_secret_file_errors") == 0


async def test_new_reference_to_nothing(held, tokens, secret):
    """A secret that never was is an error as any other, and what runs goes on; once it is there, it is taken."""
    later = secret.parent / "later"
    url = f"http://127.0.0.1:{tokens.port}/plain"
    held.reconfigure({"t": {"url": url, "options": {"auth": {"tokens": [f"${{file:{later}}}"]}}}})
    last = held.reload("rejected")
    assert any("unusable-secret-file" in text for text in last["problems"]), last
    assert list(held.status()["upstreams"]) == ["s"]
    before = held.reloads()
    put(later, tokens.token("B"))
    assert held.reloaded(before, deadline=SEEN)["added"] == ["t"], "it is watched, too"
    await call(held, "t")
    assert tokens.sends("tools/call") == "B"


async def test_environment_file(gateway_of, tokens, tmp_path):
    """What `--env-file` names is read again when it changes; the environment of the process wins over it."""
    path = tmp_path / "settings.env"
    path.write_text(f"# tokens\nTOKEN={tokens.token('A')}\nWINS=7s\n")
    path.chmod(0o600)
    url = f"http://127.0.0.1:{tokens.port}/plain"
    servers = {"s": {"url": url, "headers": {"Authorization": "Bearer ${TOKEN}"}, "timeout": "${WINS}"}}
    gateway = gateway_of(servers, options=QUIET, arguments=("--env-file", str(path)), env={"WINS": "9s"})
    for name in "AB":
        gateway.canaries.add("file", tokens.token(name))
    gateway.wait_until_ready()
    tokens.clear()
    await call(gateway)
    path.write_text(f"# tokens\nexport TOKEN='{tokens.token('B')}'\nWINS=8s\n")
    last = await asyncio.to_thread(seen, gateway, 0)
    assert last["replaced"] == ["s"]
    await call(gateway)
    assert tokens.sends("tools/call") == "A B"
    path.write_text("no line of such a file\n")
    last = gateway.reload("rejected")
    assert any(f"{path.name}:1" in text for text in last["problems"]), last
    await call(gateway)
    assert tokens.sends("tools/call") == "A B B"


async def test_authority_changed(gateway_of, certificates, tmp_path):
    """A file of certificates that is written anew makes another server of it, which is trusted by the new ones."""
    upstream = Tokens(certificates / "origin.pem")
    try:
        authority = tmp_path / "authority.pem"
        shutil.copy(certificates / "otherca.pem", authority)
        servers = {"s": {"url": f"https://127.0.0.1:{upstream.tls_port}/plain", "tls": {"caFile": str(authority)}}}
        gateway = gateway_of(servers, options={**QUIET, "autoReconnect": False})
        gateway.wait_until_looked()
        body = message("tools/call", {"name": "echo", "arguments": {"text": "x"}}, era="stateless")
        answer = await post(gateway.url("s"), body, era="stateless", token=gateway.token)
        assert answer.reply(1)["error"]["data"]["reason"] == "unreachable"
        put(authority, (certificates / "ca.pem").read_text())
        assert (await asyncio.to_thread(seen, gateway, 0))["replaced"] == ["s"]
        await call(gateway)
    finally:
        upstream.kill()


# A URL.


class Site:
    """Serves a configuration, and remembers how it was asked for it."""

    def __init__(self):
        self.text = ""
        self.behaviour = "well"
        self.asked = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.asked.append((time.monotonic(), self.headers.get("If-None-Match")))
                if site.behaviour == "hangs":
                    return site.released.wait(30)
                if site.behaviour == "fails":
                    return self.answer(500, b"CANARY-body-of-a-failure")
                if site.behaviour == "garbage":
                    return self.answer(200, b"<html>not here</html>", ETag='"garbage"')
                if self.headers.get("If-None-Match") == site.tag:
                    return self.answer(304, None, ETag=site.tag)
                return self.answer(200, site.text.encode(), ETag=site.tag)

            def answer(self, status, body, **fields):
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                if body is not None:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def tag(self):
        return f'"{hash(self.text) & 0xFFFFFFFF}"'

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/config.json"

    def write(self, text):
        self.text = text
        return self.url

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site():
    """Where the configuration is."""
    started = Site()
    yield started
    started.close()


@pytest.fixture
def polling(gateway_of, upstream, site):
    """Starts a gateway whose configuration is at a URL."""

    def start(interval="1s"):
        arguments = ("--watch", interval, "--http-timeout", "1")
        gateway = gateway_of({"s": entry(upstream)}, options=QUIET, arguments=arguments, write=site.write)
        gateway.wait_until_ready()
        return gateway

    return start


async def test_url_that_changes(polling, site, upstream):
    """A URL is asked with its ETag every interval; what is the same is no reload, what changed is one."""
    gateway = polling()
    await until("it was asked again", lambda: len(site.asked) >= 3)
    tag = site.tag
    assert {asked[1] for asked in site.asked[1:]} == {tag} and gateway.reloads() == 0
    gateway.reconfigure({"t": entry(upstream)})
    assert (await asyncio.to_thread(seen, gateway, 0, trigger="poll"))["added"] == ["t"]
    await call(gateway, "t")
    asked = len(site.asked)
    await until("it is asked with the new tag", lambda: len(site.asked) > asked and site.asked[-1][1] == site.tag)
    assert gateway.reload("unchanged")["trigger"] == "signal"
    assert site.asked[-1][1] in (None, site.tag)


FAILURES = ["fails", "hangs", "garbage"]


@pytest.mark.parametrize("behaviour", FAILURES)
async def test_url_that_fails(polling, site, upstream, behaviour):
    """A failure is a warning and changes nothing; it is asked again after ever longer, and the next success counts."""
    gateway = polling()
    await until("it was asked again", lambda: len(site.asked) >= 2)
    site.behaviour = behaviour
    site.asked.clear()
    gateway.reconfigure({"t": entry(upstream)})
    await until("it failed three times", lambda: len(site.asked) >= 3, 15)
    assert gateway.generation() == 1 and list(gateway.status()["upstreams"]) == ["s"]
    assert [line for line in gateway.log() if line["level"] in ("warning", "error") and "config" in json.dumps(line)]
    times = [at for at, _ in site.asked]
    assert times[2] - times[1] > 1.4 * 0.9 and times[2] - times[1] > times[1] - times[0] - 0.5, times
    await call(gateway)
    site.behaviour = "well"
    site.released.set()
    gateway.signal_reload()
    await until("SIGHUP does not wait", lambda: "t" in gateway.status()["upstreams"], 3)
    await call(gateway, "t")
    assert b"CANARY-body" not in gateway.child.err


async def test_url_that_fails_recovers_by_itself(polling, site, upstream):
    """Nobody has to ask: what was served badly is asked for again."""
    gateway = polling()
    site.behaviour = "fails"
    asked = len(site.asked)
    await until("it failed", lambda: len(site.asked) > asked)
    gateway.reconfigure({"t": entry(upstream)})
    site.behaviour = "well"
    await until("it is applied", lambda: "t" in gateway.status()["upstreams"], SEEN)
    last = gateway.status()["configuration"]["lastReload"]
    assert (last["result"], last["added"], last["trigger"]) == ("applied", ["t"], "poll")


async def test_url_is_not_asked_unless_told(polling, site):
    """With `--watch auto` a URL is read at the start and on SIGHUP only."""
    gateway = polling("auto")
    asked = len(site.asked)
    gateway.reload("unchanged")
    end = time.monotonic() + 2.5  # longer than a file would wait for a look
    poll("nobody asked", lambda: len(site.asked) > asked + 1 or time.monotonic() > end)
    assert len(site.asked) == asked + 1
