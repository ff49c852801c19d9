# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Servers come, go and change while the gateway runs, and nobody notices but those whom it concerns."""

import asyncio
import json
import os
import time

import pytest
from harness.callers import Caller, SSECaller, call_of, messages_of, text_of, works
from harness.errors import gateway_error
from harness.processes import members_of, until
from harness.reload import CHANGES, DRAINED, at, changes, process_of, stateless
from harness.wire import Wire, headers_of, message, split

pytestmark = pytest.mark.gateway_only


def calls(tokens, **fields):
    """The calls that arrived with these header fields (underscores are dashes) and were no strays."""
    wanted = {name.replace("_", "-"): value for name, value in fields.items()}
    return [entry for entry in tokens.journal("tools/call") if wanted.items() <= entry["fields"].items()]


# Servers that come and go.


async def test_added(unwatched, program_of, tokens):
    """Servers of every kind that come are called at once, and what was there goes on as if nothing were."""
    stays, comes = program_of(), program_of()
    gateway = unwatched({"stays": stays.entry})
    caller = await Caller.open(gateway, "stays")
    await works(caller)
    new = {"program": comes.entry, "http": at(tokens, "/sessions"), "channel": at(tokens, "/sse"), "plain": at(tokens, "/plain")}
    for name in new:
        assert (await Caller(gateway.url(name), gateway.token).call("echo")).status == 404
    gateway.reconfigure(new)
    last = gateway.reload()
    assert changes(last) == {"added": sorted(new)} and last["same"] == 1
    for name in new:
        await works(await Caller.open(gateway, name))
    assert await stateless(gateway, "plain", text="hello") == "hello"
    await works(caller)
    assert stays.starts() == 1
    assert new.keys() <= gateway.status()["upstreams"].keys()


def calling(kind, child, tokens):
    """A server of this kind, a call of it that takes a second, and whether that has arrived."""
    if kind == "program":
        return child.entry, ("slow", {"seconds": 1, "nonce": "last"}), lambda: child.executed("last")
    path = {"http": "/sessions", "shared": "/sessions", "channel": "/sse"}[kind]
    entry = at(tokens, path, **({"options": {"isolation": "shared"}} if kind == "shared" else {}))
    return entry, ("sleep", {"ms": 1000, "text": "last"}), lambda: tokens.count("tools/call")


@pytest.mark.parametrize("kind", ["program", "http", "shared", "channel"])
async def test_removed(unwatched, child, tokens, kind):
    """A server that goes answers the call that it has, and nothing else: its streams end in order, its route is 404, and
    then its child, its connections, its session and its figures are gone."""
    entry, call, arrived = calling(kind, child, tokens)
    gateway = unwatched({"goes": entry, "stays": at(tokens, "/plain")})
    caller = await Caller.open(gateway, "goes")
    wire, stream = await caller.stream()
    assert stream.status == 200
    task = asyncio.create_task(caller.ask(*call))
    await until("the call is there", arrived)
    gateway.reconfigure({"goes": None})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"removed": ["goes"]}
    assert (await caller.call("echo")).status == 404
    assert (await caller.stream())[1].status == 404
    assert not task.done(), "it is answered later"
    assert "result" in await task
    answered = time.monotonic()
    await wire.rest(stream, 5)
    assert not stream.cut, "the stream ends as streams do"
    await until("the child and its group are gone", lambda: not child.left(), DRAINED)
    assert time.monotonic() - answered < DRAINED + 0.5
    await until("its figures are gone", lambda: not [name for name in gateway.metrics() if 'server="goes"' in name], DRAINED)
    assert "goes" not in gateway.status()["upstreams"]
    if kind in ("http", "shared"):
        await until("its session ends at the upstream", lambda: tokens.journal("DELETE") and not tokens.state()["streams"], 5)
    assert await stateless(gateway, "stays", text="hello") == "hello"


@pytest.mark.parametrize("kind", ["program", "channel"])
async def test_removed_under_a_caller_of_the_old_transport(unwatched, child, tokens, kind):
    """The answer to its call is the last that comes on its stream, which then ends as streams do."""
    entry, call, arrived = calling(kind, child, tokens)
    gateway = unwatched({"goes": entry, "stays": at(tokens, "/plain")})
    async with await SSECaller.open(gateway, "goes") as caller:
        task = asyncio.create_task(caller.call(*call, id=7))
        await until("the call is there", arrived)
        gateway.reconfigure({"goes": None})
        await asyncio.to_thread(gateway.reload)
        assert (await caller.post(call_of("echo", id=8))).status == 404
        assert "result" in await task
        await until("the stream ends", lambda: caller.ended, 5)
        assert not caller.answer.cut
    await until("the child and its group are gone", lambda: not child.left(), DRAINED)


async def listen(gateway, name, token=None):
    """A stream of `subscriptions/listen` (2026-07-28), with what was said first."""
    body = message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l", era="stateless")
    port, path = split(gateway.url(name))
    wire = await Wire.open(port, gateway.seen)
    fields = headers_of("stateless", body, gateway.token if token is None else token)
    await wire.request("POST", path, fields, json.dumps(body).encode())
    stream = await wire.head()
    assert stream.status == 200, await wire.rest(stream)
    first = await anext(messages_of(wire, stream))
    assert first["method"] == "notifications/subscriptions/acknowledged", first
    return wire, stream


def listening(raw, **more):
    return {"url": f"http://127.0.0.1:{raw.port}/listen", "protocol": "stateless", **more}


def streams_of(raw):
    return raw.control("/control/journal")["streams"]


REASONS = {
    # what becomes of the server that is listened to, and of its callers
    "removed": lambda raw: {"s": None},
    "replaced": lambda raw: {"s": listening(raw, headers={"X-Version": "2"})},
    "revoked": lambda raw: {"s": listening(raw, options={"authTokens": ["CANARY-another-1234"]})},
}


@pytest.mark.parametrize("reason", REASONS)
async def test_listeners(unwatched, raw, reason):
    """A listener of a server that goes, or that shuts it out, is told the end as its era has it, at once; one of a
    server that is replaced has until `drainTimeout`. Others are told of changes as before."""
    gateway = unwatched({"s": listening(raw), "other": listening(raw)}, drainTimeout="3s")
    wire, stream = await listen(gateway, "s")
    other = await listen(gateway, "other")
    await until("both listen", lambda: streams_of(raw) == 2)
    gateway.reconfigure(REASONS[reason](raw))
    began = time.monotonic()
    await asyncio.to_thread(gateway.reload)
    await wire.rest(stream, 5)
    took = time.monotonic() - began
    assert took > 2.9 if reason == "replaced" else took < 2.5, f"{took:.1f} s"
    assert not stream.cut and "result" in stream.reply("l"), "it ends with a result"
    await until("one listens at the upstream", lambda: streams_of(raw) == 1)
    raw.control("/control/broadcast")
    said = [each async for each in first(2, messages_of(*other, 5))]
    assert said[-1]["method"] == "notifications/tools/list_changed"
    other[0].abort()


async def first(count, many):
    """So many of them."""
    async for each in many:
        yield each
        count -= 1
        if not count:
            return


WAYS = {
    # what becomes of the server `here`, and what is where afterwards: removed, added
    "renamed": (lambda entry: {"here": None, "there": entry}, ["here"], ["there"]),
    "disabled": (lambda entry: {"here": {**entry, "options": {"disabled": True}}}, ["here"], []),
    "removed": (lambda entry: {"here": None}, ["here"], []),
}


@pytest.mark.parametrize("way", WAYS)
async def test_gone_and_back(unwatched, program_of, way):
    """A name is who a server is: under another it is another, and one that comes back knows nothing of the first."""
    changed, removed, added = WAYS[way]
    child = program_of()
    gateway = unwatched({"here": child.entry, "stays": program_of().entry})
    before = await Caller.open(gateway, "here")
    await works(before)
    gateway.reconfigure(changed(child.entry))
    last = gateway.reload()
    assert (last["removed"], last["added"]) == (removed, added), last
    assert (await before.call("echo")).status == 404
    for name in added:
        await works(await Caller.open(gateway, name))
    gateway.reconfigure({"here": child.entry, **{name: None for name in added}})
    last = gateway.reload()
    assert (last["removed"], last["added"]) == (added, removed), last
    assert (await before.call("echo")).status == 404, "a session of the first life"
    await works(await Caller.open(gateway, "here"))
    assert child.starts() == (3 if added else 2)


async def test_figures_of_what_stays_go_on(unwatched, tokens):
    """Counts of a server that is tuned or replaced go on, and those of one that comes back begin."""
    entries = {name: at(tokens, "/plain") for name in ("same", "tuned", "replaced", "back")}
    gateway = unwatched(entries)

    def counted():
        return {name: gateway.metric("requests_total", server=name, method="tools/call") for name in entries}

    for name in entries:
        await stateless(gateway, name)
    assert counted() == dict.fromkeys(entries, 1)
    changed = {"tuned": {**entries["tuned"], "timeout": "7s"}, "replaced": at(tokens, "/plain", headers={"X-Version": "2"})}
    gateway.reconfigure({**changed, "back": None})
    assert changes(gateway.reload()) == {"removed": ["back"], "replaced": ["replaced"], "tuned": ["tuned"]}
    await until("the figures of what went are gone", lambda: counted()["back"] == 0)
    gateway.reconfigure({"back": entries["back"]})
    assert changes(gateway.reload()) == {"added": ["back"]}
    for name in entries:
        await stateless(gateway, name)
    assert counted() == {"same": 2, "tuned": 2, "replaced": 2, "back": 1}


# Servers that are tuned.


async def test_tuned(unwatched, program_of):
    """What is only set otherwise counts from the next message on, and sessions, streams and programs stay."""
    names = ["filter", "timeout", "log", "tokens", "interval"]
    children = {name: program_of() for name in names}
    gateway = unwatched({name: child.entry for name, child in children.items()}, options={"logEnabled": False}, log_level="debug")
    callers = {name: await Caller.open(gateway, name) for name in names}
    streams = {name: await caller.stream() for name, caller in callers.items()}
    processes = {name: await process_of(caller) for name, caller in callers.items()}
    token = gateway.canaries.make("second")
    tuned = {
        "filter": {"options": {"toolFilter": {"mode": "block", "list": ["slow"]}}},
        "timeout": {"timeout": "500ms"},
        "log": {"options": {"logEnabled": True}},
        "tokens": {"options": {"authTokens": [gateway.token, token]}},
        "interval": {"options": {"pingInterval": "300ms"}},
    }
    gateway.reconfigure({name: {**children[name].entry, **tuned[name]} for name in names})
    assert changes(gateway.reload()) == {"tuned": sorted(names)}

    listed = (await callers["filter"].post(message("tools/list", id="l"))).reply("l")["result"]["tools"]
    assert "slow" not in [tool["name"] for tool in listed]
    assert "error" in await callers["filter"].ask("slow")
    assert not children["filter"].messages("tools/call")[1:], "what is hidden is not called"
    answer = await callers["timeout"].call("slow", {"seconds": 1}, id="t")
    gateway_error(answer, "t", "handshake", "timeout", {"upstream_timeout"}, {"unknown"})
    await works(callers["log"])
    gateway.logged("access", server="log")
    await works(await Caller.open(gateway, "tokens", token=token))
    await until("it is pinged", lambda: children["interval"].messages("ping"))

    for name in names:
        assert await process_of(callers[name]) == processes[name], name
        said = message("tools/call", {"name": "announce", "arguments": {"method": "notifications/tools/list_changed"}}, id="a")
        await callers[name].post(said)
        wire, stream = streams[name]
        assert (await anext(messages_of(wire, stream)))["method"] == "notifications/tools/list_changed", name


# Servers that are replaced.


async def test_what_replaces_a_server(unwatched, program_of, tokens, tmp_path):
    """These keys make another server of it. Sessions that there are go on either way, with their ids; new ones are at the
    new server."""
    programs = {
        "args": lambda child: child.with_arguments("again"),
        "env": lambda child: {**child.entry, "env": {"NEW": "1"}},
        "inheritEnv": lambda child: {**child.entry, "inheritEnv": True},
        "cwd": lambda child: {**child.entry, "cwd": str(tmp_path)},
    }
    url = f"http://127.0.0.1:{tokens.port}/sessions"
    servers = {
        "url": {"url": url + "?version=2"},
        "headers": {"headers": {"X-Version": "2"}},
        "protocol": {"protocol": "handshake"},
        "isolation": {"options": {"isolation": "shared"}},
        "forwardHeaders": {"options": {"forwardHeaders": ["X-Tenant"]}},
        "transportType": {"transportType": None},
    }
    children = {name: program_of() for name in programs}
    before = {**{name: children[name].entry for name in programs}, **{name: at(tokens, "/sessions") for name in servers}}
    gateway = unwatched(before)
    callers = {name: await Caller.open(gateway, name) for name in before}
    for caller in callers.values():
        await works(caller)
    owned = tokens.state()["sessions"]
    after = {**{name: change(children[name]) for name, change in programs.items()}}
    gateway.reconfigure({**after, **{name: {**at(tokens, "/sessions"), **change} for name, change in servers.items()}})
    assert changes(gateway.reload()) == {"replaced": sorted(before)}

    for name, child in children.items():
        await until(f"{name}: the new one runs", lambda child=child: child.starts() == 2)
        await until(f"{name}: the old one is gone", lambda child=child: len(child.left()) == 1, DRAINED)
    tokens.clear()
    for name, caller in callers.items():
        assert "result" in await caller.ask("echo", {"text": name}), name
    for entry in tokens.journal("tools/call"):
        assert entry["session"] in owned, "it goes on in the session that it has"
        assert "version=2" not in entry["target"] and "x-version" not in entry["fields"]
    for name in before:
        await works(await Caller.open(gateway, name))
    new = [entry for entry in tokens.journal("tools/call") if entry["session"] not in owned]
    assert len(new) == len(servers)
    assert sum("version=2" in entry["target"] for entry in new) == 1
    assert sum(entry["fields"].get("x-version") == "2" for entry in new) == 1


async def test_stateless_callers_of_a_replaced_server(unwatched, tokens):
    """A caller without a session is at the new server with its next request, and the call that it has is answered."""
    gateway = unwatched({"s": at(tokens, "/plain", headers={"X-Version": "1"})})
    call = asyncio.create_task(stateless(gateway, "s", "sleep", ms=800, text="old"))
    await until("it is there", lambda: calls(tokens, x_version="1"))
    gateway.reconfigure({"s": at(tokens, "/plain", headers={"X-Version": "2"})})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["s"]}
    assert await stateless(gateway, "s", text="new") == "new"
    assert not call.done() and await call == "old"
    assert (len(calls(tokens, x_version="1")), len(calls(tokens, x_version="2"))) == (1, 1)


@pytest.mark.parametrize("path", ["/sessions", "/sse"])
async def test_drain_time(unwatched, tokens, path):
    """A session of a replaced server has `drainTimeout`; then its streams end, it is 404, and its caller opens another."""
    gateway = unwatched({"s": at(tokens, path)}, drainTimeout="1s")
    caller = await Caller.open(gateway, "s")
    wire, stream = await caller.stream()
    gateway.reconfigure({"s": at(tokens, path, headers={"X-Version": "2"})})
    began = time.monotonic()
    gateway.reload()
    await works(caller)
    await wire.rest(stream, 5)
    assert not stream.cut and 0.9 < time.monotonic() - began < 6

    async def is_unknown():
        return (await caller.call("echo")).status == 404

    await until("its session is unknown", is_unknown, 2)
    await works(await Caller.open(gateway, "s"))
    if path == "/sessions":
        await until("it ends at the upstream", lambda: tokens.journal("DELETE"))


async def test_calls_at_the_end_of_the_drain_time(unwatched, tokens):
    """A call that lasts longer than `drainTimeout` ends with an error that says so, and never without an answer."""
    gateway = unwatched({"goes": at(tokens, "/sessions"), "stays": at(tokens, "/plain")}, drainTimeout="500ms")
    caller = await Caller.open(gateway, "goes")
    task = asyncio.create_task(caller.call("sleep", {"ms": 5000}, id=7))
    await until("it is there", lambda: tokens.count("tools/call"))
    gateway.reconfigure({"goes": None})
    began = time.monotonic()
    await asyncio.to_thread(gateway.reload)
    gateway_error(await task, 7, "handshake", "goes", {"upstream_closed"}, {"unknown"})
    assert 0.4 < time.monotonic() - began < 4


async def test_old_transport_at_a_replaced_server(unwatched, tokens):
    """A caller of 2024-11-05 keeps its stream and its session, which is at the old server to its end."""
    gateway = unwatched({"s": at(tokens, "/sse", headers={"X-Version": "1"})})
    async with await SSECaller.open(gateway, "s") as caller:
        gateway.reconfigure({"s": at(tokens, "/sse", headers={"X-Version": "2"})})
        assert changes(gateway.reload()) == {"replaced": ["s"]}
        assert text_of(await caller.call("echo", {"text": "old"}, id=1)) == "old"
        async with await SSECaller.open(gateway, "s") as other:
            assert text_of(await other.call("echo", {"text": "new"}, id=1)) == "new"
    assert [entry["fields"]["x-version"] for entry in tokens.journal("tools/call")] == ["1", "2"]


async def test_program_of_a_session_is_replaced(unwatched, program_of):
    """With a program of its own a session keeps it to its end; the next session has the new one."""
    child = program_of(options={"isolation": "session"})
    gateway = unwatched({"child": child.entry})
    one = await Caller.open(gateway, "child")
    old = await process_of(one)
    gateway.reconfigure({"child": child.with_arguments("again")})
    assert changes(gateway.reload()) == {"replaced": ["child"]}
    other = await Caller.open(gateway, "child")
    assert "again" in json.loads(text_of(await other.ask("report-env")))["argv"]
    assert await process_of(one) == old
    assert await one.delete() == 204
    await until("its program is gone", lambda: not members_of(old), DRAINED)
    await works(other)


# What is said of it.


async def test_restart_needed(unwatched, tokens):
    """A change that only a restart can make is a warning that says so, and all else is applied."""
    gateway = unwatched({"s": at(tokens, "/plain")})
    address = f"127.0.0.1:{gateway.port}"
    gateway.reconfigure({"new": at(tokens, "/plain")}, addr="127.0.0.1:1", baseURL="http://127.0.0.1:8", limits={"connections": 77, "jsonDepth": 8})
    last = gateway.reload()
    assert changes(last) == {"added": ["new"]}
    assert [text for text in last["problems"] if "needs-restart" in text], last
    warned = gateway.logged("configuration", count=3, level="warning", code="needs-restart")
    assert {line["path"] for line in warned} == {f"mcpProxy.{key}" for key in ("addr", "baseURL", "limits.connections")}
    places = [next(n for n, text in enumerate(gateway.text.splitlines(), 1) if f'"{key}"' in text) for key in ("addr", "baseURL")]
    assert {str(line) for line in places} <= {line["line"] for line in warned}, "each with its place"
    assert await stateless(gateway, "new", text="hello") == "hello"
    assert gateway.url("s").startswith(f"http://{address}")
    gateway.reload("unchanged")
    assert len(gateway.log("needs-restart")) == 3, "it is said once"


def test_what_is_said(unwatched, tokens):
    """The log has one line of a reload, with counts and never a value; the status and the metrics say the same."""
    servers = {name: at(tokens, "/plain") for name in ("same", "tuned", "replaced", "removed")}
    gateway = unwatched(servers, log_level="info")
    first = gateway.status()["configuration"]
    assert (first["generation"], first["reloads"], first["lastReload"]) == (1, 0, None)
    assert first["source"].endswith(os.path.basename(gateway.source)) and gateway.status()["pid"] == gateway.pid
    gateway.reconfigure(
        {
            "tuned": {**servers["tuned"], "timeout": "7s"},
            "replaced": at(tokens, "/plain", headers={"X-Version": "2"}),
            "removed": None,
            "added": at(tokens, "/plain"),
        }
    )
    last = gateway.reload()
    assert changes(last) == {kind: [kind] for kind in CHANGES} and last["same"] == 1 and last["trigger"] == "signal"
    assert last["problems"] == []
    said = gateway.status()["configuration"]
    assert (said["generation"], said["reloads"]) == (2, 1) and said["since"] > first["since"]
    line = gateway.logged("configuration reloaded", level="notice")[0]
    counts = {kind: "1" for kind in (*CHANGES, "same")}
    assert counts.items() <= line.items() and line["generation"] == "2" and line["trigger"] == "signal" and "took" in line
    assert gateway.metric("config_reloads_total", result="applied") == 1
    gateway.reload("unchanged")
    assert gateway.generation() == 2
    assert gateway.metric("config_reloads_total", result="unchanged") == 1
    assert gateway.metric("config_reloads_total", result="rejected") == 0


def test_warnings_are_said_once(unwatched, tokens):
    """A warning that was there before is not said again, wherever it stands now; a new one is."""
    gateway = unwatched({"s": at(tokens, "/plain")}, first=1)

    def said(count):
        return sorted(line["path"] for line in gateway.logged("unknown-key", count=count))

    assert said(1) == ["mcpProxy.first"]
    gateway.write("// a line more\n" + gateway.text)
    gateway.reload("unchanged")
    gateway.reconfigure(second=2)
    gateway.reload("unchanged")
    # What was said again of the first would stand before this.
    assert said(2) == ["mcpProxy.first", "mcpProxy.second"]


async def test_secrets_before_and_after(unwatched, program_of):
    """A program that says its secret has it masked, also when that stands in no configuration any more."""
    child = program_of("stderr-control-chars", options={"isolation": "session"})
    gateway = unwatched({"child": child.entry})
    old = await Caller.open(gateway, "child")
    assert "result" in await old.ask("fault")
    fresh = gateway.canaries.make("fresh")
    gateway.reconfigure({"child": {**child.entry, "env": {"E2E_SECRET": fresh}}})
    assert changes(gateway.reload()) == {"replaced": ["child"]}
    new = await Caller.open(gateway, "child")
    for caller in (old, new, old):
        assert "result" in await caller.ask("fault")
    await old.delete()
    gateway.logged("no newline", count=4)
