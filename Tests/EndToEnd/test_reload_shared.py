# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A server whose callers share what they use of it is replaced: they keep their sessions and notice nothing."""

import asyncio
import json

import pytest
from harness.callers import Caller, SSECaller, call_of, messages_of, text_of, works
from harness.processes import members_of, until
from harness.reload import DRAINED, at, changes, process_of
from harness.wire import message

pytestmark = pytest.mark.gateway_only

SHARED = {"options": {"isolation": "shared"}}


async def test_shared_program_is_replaced(unwatched, child):
    """The old program answers what it was asked and is gone; the new one answers everything else, to the same sessions,
    and knows what they subscribed to and which level they set."""
    gateway = unwatched({"child": child.entry})
    callers = [await Caller.open(gateway, "child") for _ in range(3)]
    for body in (message("resources/subscribe", {"uri": "memo://a"}), message("logging/setLevel", {"level": "error"})):
        assert "result" in (await callers[0].post(body)).reply()
    old = await process_of(callers[0])
    tasks = [asyncio.create_task(caller.ask("slow", {"seconds": 1, "nonce": f"old-{n}"})) for n, caller in enumerate(callers)]
    await until("all are at work", lambda: sum(child.executed(f"old-{n}") for n in range(3)) == 3)
    gateway.reconfigure({"child": child.with_arguments("again")})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["child"]}

    async def have_moved():
        return old not in [await process_of(caller) for caller in callers]

    await until("they have moved", have_moved)
    new = {await process_of(caller) for caller in callers}
    assert len(new) == 1 and old not in new
    assert not any(task.done() for task in tasks)
    assert all("result" in reply for reply in await asyncio.gather(*tasks))
    await until("the old one is gone", lambda: not members_of(old), DRAINED)
    told = [entry for entry in child.journal("line") if entry["pid"] in new]
    for method in ("resources/subscribe", "logging/setLevel"):
        assert any(method in entry["line"] for entry in told), method
    await works(await Caller.open(gateway, "child"))
    assert child.starts() == 2


async def test_lists_of_a_replaced_shared_server(unwatched, tokens):
    """Callers that listen are told if the new server has other tools than the old one, and not if it has the same."""
    for name in ("A", "B", "C-more"):
        tokens.token(name)

    def entry(name):
        return at(tokens, "/sessions", headers={"Authorization": f"Bearer {tokens.token(name)}"}, options={"isolation": "shared"})

    gateway = unwatched({"s": entry("A")})
    for name in ("A", "B", "C-more"):
        gateway.canaries.add("header", tokens.token(name).removesuffix("-more"))
    caller = await Caller.open(gateway, "s")
    wire, stream = await caller.stream()
    heard = []

    async def listen():
        async for said in messages_of(wire, stream):
            heard.append(said["method"])

    listening = asyncio.create_task(listen())
    for name, tools in (("B", ["echo"]), ("C-more", ["echo", "extra"])):
        gateway.reconfigure({"s": entry(name)})
        assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["s"]}

        async def has_moved(tools=tools):
            listed = (await caller.post(message("tools/list", id="l"))).reply("l")["result"]["tools"]
            return [tool["name"] for tool in listed] == tools

        await until(f"the caller is at {name}", has_moved)
        await until(f"{name} is called", lambda name=name: name in tokens.sends("tools/list").split())
    await until("it is told of the other tools", lambda: heard)
    assert heard == ["notifications/tools/list_changed"]
    listening.cancel()


async def test_replacement_that_does_not_come_up(unwatched, program_of):
    """Where the new program of a shared server does not start, the old one serves on, with a warning, until one does."""
    child, broken = program_of(), program_of("exit-at-start")
    gateway = unwatched({"child": child.entry})
    caller = await Caller.open(gateway, "child")
    old = await process_of(caller)
    warned = len(gateway.log('"warning"'))
    gateway.reconfigure({"child": broken.entry})
    assert changes(gateway.reload()) == {"replaced": ["child"]}
    await until("the new one was tried", broken.starts)
    await until("there is a warning", lambda: len(gateway.log('"warning"')) > warned)
    for known in (caller, await Caller.open(gateway, "child")):
        assert await process_of(known) == old, "it serves on"
    gateway.reconfigure({"child": child.with_arguments("again")})
    gateway.reload()
    await until("the new one runs", lambda: child.starts() == 2)
    await until("the old one is gone", lambda: not members_of(old))
    assert await process_of(caller) != old
    assert not broken.left()


async def test_replaced_again_and_again(unwatched, program_of):
    """However often a server is replaced while calls are under way, each is answered, once, and nothing is left."""
    child = program_of()
    gateway = unwatched({"child": child.entry}, log_level="info")
    callers = [await Caller.open(gateway, "child") for _ in range(4)]
    nonces, over = [], asyncio.Event()

    async def traffic(n, caller):
        while not over.is_set():
            nonces.append(f"n-{n}-{len(nonces)}-e")
            assert "result" in await caller.ask("slow", {"seconds": 0.02, "nonce": nonces[-1]})

    tasks = [asyncio.create_task(traffic(n, caller)) for n, caller in enumerate(callers)]
    for n in range(5):
        gateway.reconfigure({"child": child.with_arguments(f"again-{n}")})
        await asyncio.to_thread(gateway.reload)
        await until("the new one runs", lambda n=n: child.starts() == n + 2)
        made = len(nonces)
        await until("it is called", lambda made=made: len(nonces) > made + 8)
    over.set()
    await asyncio.gather(*tasks)
    assert all(child.executed(nonce) == 1 for nonce in nonces)
    await until("one program is left", lambda: len(child.left()) == 1, DRAINED)


KINDS = {
    # a server that callers share, at the upstream of this path; another value of `version` replaces it
    "channel": lambda tokens, version: at(tokens, "/sse", headers={"X-Version": version}, **SHARED),
    "http": lambda tokens, version: at(tokens, "/sessions", headers={"X-Version": version}, **SHARED),
}


def versions(tokens):
    """At which version of the server the calls arrived, in order."""
    return [entry["fields"]["x-version"] for entry in tokens.journal("tools/call")]


@pytest.mark.parametrize("kind", KINDS)
async def test_shared_server_is_replaced(unwatched, tokens, kind):
    """Sessions of both transports go on at the new server with their next call; the call that runs is answered by the old
    one, which then is asked nothing more."""
    gateway = unwatched({"s": KINDS[kind](tokens, "1")})
    caller = await Caller.open(gateway, "s")
    await works(caller)
    running = asyncio.create_task(caller.ask("sleep", {"ms": 1200, "text": "old"}))
    async with await SSECaller.open(gateway, "s") as other:
        await until("it is at work", lambda: len(versions(tokens)) == 2)
        tokens.clear()
        gateway.reconfigure({"s": KINDS[kind](tokens, "2")})
        assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["s"]}

        async def has_moved():
            await works(caller)
            return versions(tokens)[-1] == "2"

        await until("calls go to the new one", has_moved)
        assert not running.done() and text_of(await running) == "old"
        tokens.clear()
        assert text_of(await other.call("echo", {"text": "hello"}, id=7)) == "hello"
        await works(caller)
        await works(await Caller.open(gateway, "s"))
        assert versions(tokens) == ["2", "2", "2"]
        assert await caller.delete() == 204


@pytest.mark.parametrize("kind", ["program", "http"])
async def test_listeners_of_a_replaced_shared_server(unwatched, program_of, tokens, kind):
    """A stream of a session stays open and brings what the new server says, and nothing of it twice."""
    if kind == "program":
        child = program_of()
        before, after = child.entry, child.with_arguments("again")
    else:
        before, after = KINDS[kind](tokens, "1"), KINDS[kind](tokens, "2")
    gateway = unwatched({"s": before})
    caller = await Caller.open(gateway, "s")
    assert "result" in (await caller.post(message("resources/subscribe", {"uri": "memo://a"}))).reply()
    wire, stream = await caller.stream()
    others = [await Caller.open(gateway, "s") for _ in range(3)]
    listeners = tokens.state()["streams"]
    gateway.reconfigure({"s": after})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["s"]}
    if kind == "program":
        await until("the old one is gone", lambda: child.starts() == 2 and len(child.left()) == 1, DRAINED)
        said = {"method": "notifications/resources/updated", "params": {"uri": "memo://a"}}
        assert "result" in await others[0].ask("announce", said)
    else:

        def has_moved():
            now = tokens.state()["streams"]
            return now != listeners and len(now) == 1

        await until("only the new one is listened to", has_moved, DRAINED)
        tokens.control("/control/broadcast")
        said = {"method": "notifications/tools/list_changed"}
    assert (await anext(messages_of(wire, stream)))["method"] == said["method"]
    for other in [caller, *others]:
        await works(other)
    wire.abort()


async def test_question_of_the_old_program(unwatched, program_of):
    """A question that was asked before goes back to the program that asked it, and progress and a cancellation go there too;
    what the new one asks has another id."""
    child = program_of()
    gateway = unwatched({"child": child.entry})
    caller = await Caller.open(gateway, "child", capabilities={"elicitation": {}})
    old = await process_of(caller)
    ask = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}}

    async def asked(id):
        wire = await caller.send(call_of("ask", ask, id))
        answer = await wire.head()
        stream = messages_of(wire, answer)
        return stream, (await anext(stream))["id"]

    first, question = await asked(51)
    gateway.reconfigure({"child": child.with_arguments("again")})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["child"]}

    async def has_moved():
        return await process_of(caller) != old

    await until("the caller has moved", has_moved)
    second, another = await asked(52)
    assert question != another
    for id, who in ((another, "new"), (question, "old")):
        body = {"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"who": who}}}
        assert (await caller.post(body)).status == 202
    for stream, who in ((first, "old"), (second, "new")):
        assert json.loads(text_of(await anext(stream)))["content"] == {"who": who}
    await until("the old one is gone", lambda: not members_of(old), DRAINED)


async def test_cancelled_at_the_old_program(unwatched, program_of):
    """A call that began before the change can still be cancelled."""
    child = program_of()
    gateway = unwatched({"child": child.entry})
    caller = await Caller.open(gateway, "child")
    old = await process_of(caller)
    call = asyncio.create_task(caller.call("slow", {"seconds": 8, "nonce": "old"}, id="c"))
    await until("it is at work", lambda: child.executed("old"))
    gateway.reconfigure({"child": child.with_arguments("again")})
    await asyncio.to_thread(gateway.reload)

    async def has_moved():
        return await process_of(caller) != old

    await until("the caller has moved", has_moved)
    assert (await caller.post(message("notifications/cancelled", {"requestId": "c"}, id=None))).status == 202
    await until("the old one was told", lambda: child.messages("notifications/cancelled"))
    assert (await call).reply("c")["error"]["code"] == -32800
    await works(caller)


async def test_replacement_never_comes_up(unwatched, program_of):
    """When `drainTimeout` is over, the old program ends although the new one is not up: callers hear why."""
    child, broken = program_of(), program_of("exit-at-start")
    gateway = unwatched({"child": child.entry}, drainTimeout="1s")
    caller = await Caller.open(gateway, "child")
    gateway.reconfigure({"child": broken.entry})
    assert changes(gateway.reload()) == {"replaced": ["child"]}
    await works(caller)
    await until("the old one is gone", lambda: not child.left(), DRAINED + 1)
    assert (await caller.call("echo")).status == 404
    body = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}})
    answer = await Caller(gateway.url("child"), gateway.token).post(body)
    assert "child_exited" in json.dumps(answer.reply(1))


async def test_replacement_of_what_does_not_work(unwatched, program_of):
    """A program that does not start is not kept for one that might: callers hear at once from the new one, and wait for it."""
    broken, worse, slow = program_of("exit-at-start"), program_of("exit-at-start"), program_of("slow-start?ms=1500")
    gateway = unwatched({"child": broken.entry})
    body = message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}})
    answer = await Caller(gateway.url("child"), gateway.token).post(body)
    assert "child_exited" in json.dumps(answer.reply(1))
    starts = broken.starts()
    gateway.reconfigure({"child": worse.entry})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["child"]}

    async def is_asked():
        await Caller(gateway.url("child"), gateway.token).post(body)
        return worse.starts() > 1

    await until("callers are at the new one", is_asked)
    gateway.reconfigure({"child": slow.entry})
    assert changes(await asyncio.to_thread(gateway.reload)) == {"replaced": ["child"]}
    await works(await Caller.open(gateway, "child"))
    assert slow.starts() == 1 and broken.starts() <= starts + 2


async def test_replacement_that_was_replaced(unwatched, program_of):
    """Of two changes one after the other the first need never come up: callers move once, to the second."""
    child, slow = program_of(), program_of("slow-start?ms=60000")
    gateway = unwatched({"child": child.entry})
    caller = await Caller.open(gateway, "child")
    old = await process_of(caller)
    gateway.reconfigure({"child": slow.entry})
    assert changes(gateway.reload()) == {"replaced": ["child"]}
    await until("the first starts", slow.starts)
    gateway.reconfigure({"child": slow.entry}, allowedHosts=["elsewhere.example"])
    gateway.reload()
    assert await process_of(caller) == old, "it serves on, whatever else changes"
    gateway.reconfigure({"child": child.with_arguments("again")})
    assert changes(gateway.reload()) == {"replaced": ["child"]}
    await until("the old one is gone", lambda: not members_of(old), DRAINED)
    await until("the first never came", lambda: not slow.left(), 10)
    assert await process_of(caller) != old


async def test_removed_before_its_replacement_is_up(unwatched, program_of):
    """A server that goes while another one is about to replace it takes both along."""
    child, slow = program_of(), program_of("slow-start?ms=60000")
    gateway = unwatched({"child": child.entry, "other": program_of().entry})
    caller = await Caller.open(gateway, "child")
    gateway.reconfigure({"child": slow.entry})
    gateway.reload()
    await until("it starts", slow.starts)
    gateway.reconfigure({"child": None})
    assert changes(gateway.reload()) == {"removed": ["child"]}
    assert (await caller.call("echo")).status == 404
    await until("both are gone", lambda: not child.left() and not slow.left(), 10)
