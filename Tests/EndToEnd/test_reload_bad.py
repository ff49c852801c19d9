# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Configurations that are wrong: each changes nothing, is said with its place, and hinders no good one that follows."""

import json
import os
import re
import shutil

import pytest
from harness.callers import text_of
from harness.gateway import Gateway
from harness.processes import FIXTURES, Upstream
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

HERE = "\N{WHITE RIGHT POINTING INDEX}"
"""Where the finding is, in the rows below."""
TIMEOUT = re.compile(r'"timeout": "[0-9]+s"')
PROXY, SERVER = '"name": "end-to-end"', '"timeout": "60s"'
URL = '"transportType": "streamable-http"'
OPTIONS = '"options": {\n      "logEnabled": true'


def beside(anchor, *members):
    """Members after this one, of the same object."""
    return anchor, ", ".join((anchor, *members))


def option(text):
    """A member of `mcpProxy.options`."""
    return OPTIONS, OPTIONS + ", " + text


def server(text):
    """Another server."""
    return '"mcpServers": {', f'"mcpServers": {{ {text},'


DEEP = "[" * 70 + "]" * 70

KINDS = {
    # what stands there, what it becomes, the code of the finding
    "comma": ('"version": "1",\n    ', f'"version": "1"\n    {HERE}', "syntax"),
    "quote": (PROXY, f"{HERE}'name': 'x'", "syntax"),
    "escape": (PROXY, rf'"name": "a{HERE}\q"', "syntax"),
    "word": (PROXY, f'"name": {HERE}nil', "syntax"),
    "number": (PROXY, f'"name": {HERE}01', "syntax"),
    "end": ('"mcpServers": {', '"mcpServers": {', "syntax"),
    "control": (PROXY, '"name": "a' + HERE + '\x01"', "syntax"),
    "twice": beside(PROXY, f'{HERE}"name": "other"') + ("duplicate-key",),
    "deep": beside(PROXY, f'"x": {DEEP}') + ("too-deep",),
    "type": (PROXY, f'"name": {HERE}1', "wrong-type"),
    "missing": ('"version": "1",', "", "missing-key"),
    "list": ('"mcpServers": {', f'"mcpServers": {HERE}[], "mcp": {{', "wrong-type"),
    "address": ('"addr": "127.0.0.1:0"', f'"addr": {HERE}"127.0.0.1"', "invalid-address"),
    "base-url": ('"baseURL": "http://127.0.0.1:9"', f'"baseURL": {HERE}"127.0.0.1"', "invalid-url"),
    "value": ('"type": "streamable-http",', f'"type": {HERE}"http",', "invalid-value"),
    "range": beside(PROXY, f'"limits": {{"inFlight": {HERE}0}}') + ("out-of-range",),
    "size": beside(PROXY, f'"limits": {{"bodyBytes": {HERE}"4 MB"}}') + ("invalid-size",),
    "duration": (SERVER, f'"timeout": {HERE}"soon"', "invalid-duration"),
    "drain-time": beside(PROXY, f'"drainTimeout": {HERE}"soon"') + ("invalid-duration",),
    "url": server(f'"x": {{"url": {HERE}"ftp://127.0.0.1/"}}') + ("invalid-url",),
    "both": server(f'"x": {{"url": "http://127.0.0.1/", "command": {HERE}"cat"}}') + ("conflicting-keys",),
    "neither": server(f'"x": {HERE}{{}}') + ("missing-key",),
    "name": server(f'{HERE}"_x": {{"url": "http://127.0.0.1/"}}') + ("invalid-name",),
    "route": ('"mcpServers": {\n    "s"', f'"mcpServers": {{ "s/mcp": {{"url": "http://127.0.0.1/"}}, {HERE}"s"', "route-conflict"),
    "ca-file": server(f'"x": {{"url": "https://127.0.0.1/", "tls": {{"caFile": {HERE}"/no/such/file"}}}}') + ("unusable-file",),
    "secret-file": server(f'"x": {{"command": "cat", "args": [{HERE}"${{file:/no/such/file}}"]}}') + ("unusable-secret-file",),
    "header": server(f'"x": {{"url": "http://127.0.0.1/", "headers": {{{HERE}"Host": "x"}}}}') + ("forbidden-header",),
    "header-value": server(f'"x": {{"url": "http://127.0.0.1/", "headers": {{"A": {HERE}"a\\nb"}}}}') + ("invalid-header",),
    "no-token": server(
        f'"x": {{"url": "http://127.0.0.1/", "options": {{"auth": {{"tokens": {HERE}["", ""]}}}}}}'
    ) + ("no-usable-token",),
    "rotation": server(
        f'"x": {{"url": "http://127.0.0.1/", "options": {{"auth": {{"tokens": ["abc"], "rotationMode": {HERE}"x"}}}}}}'
    ) + ("invalid-value",),
    "empty-setting": option(f'"authTokens": ["CANARY", {HERE}"${{UNSET_OF_THE_TESTS}}"]') + ("empty-security-setting",),
    "proxy": option(f'"proxy": {HERE}"gopher://127.0.0.1"') + ("invalid-proxy",),
    "restriction": beside(PROXY, f'{HERE}"apiKey": "CANARY"') + ("restriction-ignored",),
    "not-text": beside(PROXY, f'"x": {HERE}${{UNSET_OF_THE_TESTS}}') + ("variable-not-json",),
}
WHOLE = {
    # the whole file, where the finding is, its code
    "empty": (b"", (1, 1), "syntax"),
    "blank": (b" \n\n", (3, 1), "syntax"),
    "text": (b"hello", (1, 1), "syntax"),
    "array": (b"[]", (1, 1), "wrong-type"),
    "nothing-in-it": (b"{}", (1, 1), "missing-key"),
    "other-encoding": ('{"a": "\N{EURO SIGN}"}'.encode("utf-16"), None, "bad-encoding"),
    "no-utf-8": (b'{"a": "\xff"}', None, "bad-encoding"),
    "zeros": (bytes(4096), None, "syntax"),
}


@pytest.fixture(scope="module")
def upstream():
    """The upstream that treats each token as it is told."""
    started = Upstream("2x", FIXTURES / "tokenupstream.py", "0")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, upstream):
    """One gateway for all kinds."""
    options = {"pingInterval": 0}
    started = Gateway(tmp_path_factory.mktemp("bad"), good(upstream, 60), options=options, arguments=("--watch", "off"))
    started.wait_until_ready()
    yield started
    started.stop()


def good(upstream, seconds):
    """The server, with this time for its calls."""
    return {"s": {"url": f"http://127.0.0.1:{upstream.port}/plain", "timeout": f"{seconds}s"}}


async def serves(gateway):
    """Asserts that callers are served."""
    body = message("tools/call", {"name": "echo", "arguments": {"text": "hello"}}, era="stateless")
    answer = await post(gateway.url("s"), body, era="stateless", token=gateway.token, seen=gateway.seen)
    assert text_of(answer.reply(1)) == "hello"


def write(gateway, content):
    """Puts these bytes in the place of the configuration."""
    beside = gateway.source.with_suffix(".bytes")
    beside.write_bytes(content)
    beside.chmod(0o600)
    beside.replace(gateway.source)


def place(text):
    """Line and column of the mark, in characters from 1, and the text without it."""
    before, mark, _ = text.partition(HERE)
    if not mark:
        return None, text
    return (before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1), text.replace(HERE, "")


async def refused(gateway, upstream, content, position, code):
    """Asserts that this configuration is refused and changes nothing, and that a good one is taken afterwards."""
    generation, refusals = gateway.generation(), gateway.metric("config_reloads_total", result="rejected")
    said = len(gateway.log("configuration refused"))
    errors = sum(line["level"] == "error" for line in gateway.log())
    write(gateway, content)
    last = gateway.reload("rejected")
    assert not any(last[kind] for kind in ("added", "removed", "replaced", "tuned")), last
    problems = [text for text in last["problems"] if ": error: " in text and f"[{code}]" in text]
    assert problems, last
    where = re.search(r":(\d+):(\d+): error: ", problems[0])
    assert where, problems
    if position:
        assert (int(where[1]), int(where[2])) == position, problems
    assert (gateway.generation(), gateway.metric("config_reloads_total", result="rejected")) == (generation, refusals + 1)
    gateway.logged("configuration refused", count=said + 1, level="notice")
    lines = [line for line in gateway.log() if line["level"] == "error"][errors:]
    assert len(lines) == len([text for text in last["problems"] if ": error: " in text])
    found = [line for line in lines if (line["message"], line["code"]) == ("configuration", code)]
    assert found and (found[0]["line"], found[0]["column"]) == (where[1], where[2]), lines
    assert {"file", "path", "detail"} <= found[0].keys(), found[0]
    await serves(gateway)
    now = int(gateway.configuration["mcpServers"]["s"]["timeout"][:-1])
    gateway.reconfigure(good(upstream, now + 1))
    assert gateway.reload()["tuned"] == ["s"], "the good one is applied"
    assert gateway.generation() == generation + 1
    await serves(gateway)


@pytest.mark.parametrize("kind", KINDS)
async def test_refused(gateway, upstream, kind):
    """It is refused with line and column in the log and in the status, calls go on, and a good one is applied next."""
    old, new, code = KINDS[kind]
    text = TIMEOUT.sub(SERVER, gateway.text)
    assert text.count(old) >= 1, f"{old} is not in {text}"
    position, text = place(text.replace(old, new, 1))
    if kind == "end":
        text = text.rstrip()[:-1].rstrip()
    await refused(gateway, upstream, text.encode(), position, code)


@pytest.mark.parametrize("kind", WHOLE)
async def test_no_configuration_at_all(gateway, upstream, kind):
    """The same of files that are nothing like one."""
    content, position, code = WHOLE[kind]
    await refused(gateway, upstream, content, position, code)


@pytest.mark.parametrize("kind", ["missing", "directory", "too-large"])
async def test_no_file(gateway, kind):
    """Nothing to read, or too much, is said with the path."""
    gateway.source.unlink()
    if kind == "directory":
        gateway.source.mkdir()
    elif kind == "too-large":
        write(gateway, b" " * (4 << 20) + b"{}")
    last = gateway.reload("rejected")
    assert any(gateway.source.name in text for text in last["problems"]), last
    await serves(gateway)
    if kind == "directory":
        gateway.source.rmdir()
    gateway.write()
    gateway.reload("unchanged")
    await serves(gateway)


@pytest.mark.parametrize("what", ["configuration", "env-file", "ca-file"])
async def test_pipe(gateway_of, upstream, tmp_path, certificates, what):
    """A pipe that nobody writes to, in the place of a file, holds up nothing: no later reload, and not the end."""
    environment, authority = tmp_path / "settings.env", tmp_path / "authority.pem"
    environment.write_text("A=b\n")
    shutil.copy(certificates / "ca.pem", authority)
    servers = {**good(upstream, 60), "tls": {"url": "https://127.0.0.1:1/", "tls": {"caFile": str(authority)}}}
    arguments = ("--watch", "off", "--env-file", str(environment))
    gateway = gateway_of(servers, options={"pingInterval": 0, "autoReconnect": False}, arguments=arguments)
    gateway.wait_until_looked()
    path = {"configuration": gateway.source, "env-file": environment, "ca-file": authority}[what]
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    last = gateway.reload("rejected", deadline=5)
    assert any(path.name in text for text in last["problems"]), last
    await serves(gateway)
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o600)
    gateway.reconfigure(good(upstream, 61))
    assert gateway.reload()["tuned"] == ["s"]


async def test_every_finding(gateway):
    """Of a file with several faults all are said, each with its own place."""
    text = gateway.text.replace(PROXY, '"name": 1').replace('"version": "1"', '"version": 2')
    before = len(gateway.log('"error"'))
    write(gateway, text.encode())
    last = gateway.reload("rejected")
    lines = [int(re.search(r":(\d+):\d+: error: ", text)[1]) for text in last["problems"]]
    assert len(set(lines)) == 2, last
    count = before + len(lines)
    gateway.logged('"error"', count=count)
    again = gateway.reload("rejected")
    assert again["problems"] == last["problems"]
    assert len(gateway.log('"error"')) == count, "what was said of the same file is not said again"
    gateway.write()
    gateway.reload("unchanged")


async def test_secrets_of_what_is_refused(gateway):
    """A configuration that is refused has secrets, too: none of them is shown, whatever the fault is."""
    secret = gateway.canaries.make("refused")
    for text in (
        gateway.text.replace(PROXY, f'"name": "n", "{secret}": 1, {secret}'),
        gateway.text.replace(URL, f'"transportType": "{secret}"'),
        gateway.text.replace(SERVER, f'"timeout": "{secret}"'),
        json.dumps({"mcpProxy": {**gateway.configuration["mcpProxy"], "addr": secret}, "mcpServers": {}}),
    ):
        write(gateway, text.encode())
        gateway.reload("rejected", "applied", "unchanged")
    gateway.write()
    gateway.reload("unchanged", "applied")
    await serves(gateway)
