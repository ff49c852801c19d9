# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What a client must be able to do with the everything server: one coroutine a feature, for both SDKs.

A row asserts what it sees and returns what the test wants to compare with the server's journal.
"""

import asyncio
import base64
import json
import time
from typing import Any, Callable

UNICODE = "na\u00efve \u65e5\u672c\u8a9e \U0001f469\u200d\U0001f4bb \u0000\u001f \u2028 \"\\ </script>"


async def tools(peer: Any) -> str:
    listed = await peer.request("list_tools")
    names = {tool["name"] for tool in listed["tools"]}
    assert {"echo", "numbers", "big", "fail", "progress", "slow", "speak", "ask", "sample"} <= names, names
    return peer.era


async def unicode(peer: Any) -> None:
    assert await peer.call_text("echo", text=UNICODE) == UNICODE


async def exact_numbers(peer: Any) -> None:
    for value in (9007199254740993, -9007199254740993, 0.1, 1.0, 1e300, 18446744073709551617):
        result = await peer.call("numbers", {"value": value})
        assert result["structuredContent"]["text"] == json.dumps(value), result
        got = result["structuredContent"]["value"]
        assert got == value and type(got) is type(value), result


async def result_64_kib(peer: Any) -> None:
    assert len(await peer.call_text("big", size=64 * 1024)) == 64 * 1024


async def result_1_mib(peer: Any) -> None:
    text = await peer.call_text("big", size=1024 * 1024)
    assert text == ("0123456789abcde\n" * 65536)


async def argument_1_mib(peer: Any) -> None:
    text = "\u00e9abcdefghijklmn" * 65536
    assert await peer.call_text("echo", text=text) == text


async def failing_tool(peer: Any) -> None:
    result = await peer.call("fail", {"message": "no luck today"})
    assert result["isError"] and "no luck today" in result["content"][0]["text"], result


async def unknown_tool(peer: Any) -> None:
    try:
        result = await peer.call("there-is-no-such-tool", {})
    except Exception as error:
        assert "there-is-no-such-tool" in str(error), error
    else:
        assert result["isError"], result


async def prompts(peer: Any) -> None:
    listed = await peer.request("list_prompts")
    assert [prompt["name"] for prompt in listed["prompts"]] == ["greet"]
    prompt = await peer.request("get_prompt", "greet", {"name": "Zo\u00eb"})
    assert prompt["messages"][0]["content"]["text"] == "Greet Zo\u00eb, please."


async def resources(peer: Any) -> None:
    listed = await peer.request("list_resources")
    assert {str(resource["uri"]) for resource in listed["resources"]} == {"memo://first", "memo://bytes"}
    text = (await peer.request("read_resource", "memo://first"))["contents"][0]["text"]
    assert text == "the first memo \u00e9\U0001f600"
    blob = (await peer.request("read_resource", "memo://bytes"))["contents"][0]["blob"]
    assert base64.b64decode(blob) == bytes(range(256))


async def templates(peer: Any) -> None:
    listed = await peer.request("list_resource_templates")
    assert [template["uriTemplate"] for template in listed["resourceTemplates"]] == ["memo://named/{name}"]
    text = (await peer.request("read_resource", "memo://named/anna"))["contents"][0]["text"]
    assert text == "memo of anna"


async def completion(peer: Any) -> None:
    result = await peer.complete("greet", "name", "ann")
    assert result["completion"]["values"] == ["anna", "annika"], result


async def progress(peer: Any) -> None:
    seen: list[tuple] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        seen.append((done, total, message))

    result = await peer.call("progress", {"steps": 20, "interval": 0}, on_progress)
    assert result["content"][0]["text"] == "20 steps"
    assert seen == [(n, 20, f"step {n}") for n in range(1, 21)], seen


async def logging(peer: Any) -> None:
    assert await peer.call_text("speak", count=5) == "5 lines"
    assert peer.log == [f"line {n}" for n in range(5)], peer.log


async def elicitation(peer: Any) -> None:
    assert await peer.call_text("ask") == "answer: forty-two \u00e9"
    assert peer.questions == ["Which answer? \u2603"], peer.questions


async def sampling(peer: Any) -> None:
    assert await peer.call_text("sample", text="quiet") == "sampled: QUIET"


async def subscription(peer: Any) -> None:
    """A change made by one call arrives on the standing stream: GET, or `subscriptions/listen`."""
    uri = "memo://first"
    async with peer.listening(uri) as next_change:
        # The handshake's GET stream is opened behind our back: call until the first change has come through it.
        waiting = asyncio.ensure_future(next_change())
        while not waiting.done():
            await peer.call_text("touch", uri=uri)
            await asyncio.wait([waiting], timeout=0.1)
        assert await waiting == uri


async def ping(peer: Any) -> None:
    await peer.request("send_ping")


async def calls_40(peer: Any) -> None:
    """Forty calls at once, each answered with its own nonce, and in far less than the sum of their times."""
    began = time.monotonic()
    nonces = [f"nonce-{n}" for n in range(40)]
    texts = await asyncio.gather(*(peer.call_text("slow", seconds=0.2, nonce=nonce) for nonce in nonces))
    assert texts == nonces
    assert time.monotonic() - began < 6  # one after the other would be 8


async def cancel(peer: Any, nonce: str) -> None:
    """Starts a call that takes a minute and gives it up when its first progress shows that it runs."""
    started = asyncio.Event()

    async def on_progress(*_: Any) -> None:
        started.set()

    call = asyncio.ensure_future(
        peer.call("watched", {"seconds": 60, "nonce": nonce}, on_progress)
    )
    await started.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def call_slow(peer: Any, seconds: float, nonce: str) -> str:
    return await peer.call_text("slow", seconds=seconds, nonce=nonce)


async def call_echo(peer: Any, text: str) -> str:
    return await peer.call_text("echo", text=text)


async def ticks(peer: Any, seconds: float, interval: float) -> dict[str, Any]:
    """One call whose stream stays open that long; the longest time between two of its events, and their number."""
    times = [time.monotonic()]

    async def on_progress(*_: Any) -> None:
        times.append(time.monotonic())

    steps = round(seconds / interval)
    result = await peer.call("progress", {"steps": steps, "interval": interval}, on_progress)
    assert result["content"][0]["text"] == f"{steps} steps"
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    return {"events": len(gaps), "steps": steps, "longest": max(gaps), "lasted": times[-1] - times[0]}


async def version_refused(connect: Callable, **_: Any) -> dict[str, Any]:
    """A client that insists on its version: the error that it is given."""
    try:
        async with connect() as peer:
            await peer.request("list_tools")
    except BaseException as error:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        detail = getattr(error, "error", error)
        data = getattr(detail, "data", None)
        return {"code": getattr(detail, "code", None), "message": str(error), "data": data}
    raise AssertionError("it was served")


version_refused.connects_itself = True


async def same_ids(connect: Callable, clients: int, calls: int) -> None:
    """Clients whose JSON-RPC ids and progress tokens all count from the same start, at the same time.

    Each call carries its client's nonce; an answer or a progress with another's nonce fails the row.
    """

    async def one(client: int) -> None:
        async with connect() as peer:

            async def call(n: int) -> None:
                nonce = f"client-{client}-call-{n}"
                seen: list[str] = []

                async def on_progress(done: float, total: float | None, message: str | None) -> None:
                    seen.append(message or "")

                result = await peer.call("labelled", {"label": nonce, "steps": 3}, on_progress)
                assert result["content"][0]["text"] == nonce, (nonce, result)
                assert seen == [f"{nonce} {step}" for step in range(3)], (nonce, seen)

            for start in range(0, calls, 5):
                await asyncio.gather(*(call(n) for n in range(start, min(start + 5, calls))))

    await asyncio.gather(*(one(client) for client in range(clients)))


same_ids.connects_itself = True


async def several(peer: Any, names: list[str]) -> dict[str, Any]:
    """Rows one after the other in one session: what each returns."""
    results = {}
    for name in names:
        peer.log.clear()
        peer.questions.clear()
        try:
            results[name] = await globals()[name](peer)
        except BaseException as error:
            error.add_note(f"in row {name}")
            raise
    return results


async def any_tools(peer: Any) -> list[str]:
    listed = await peer.request("list_tools")
    return sorted(tool["name"] for tool in listed["tools"])


async def any_call(peer: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return await peer.call(tool, arguments)


async def any_prompts(peer: Any) -> list[str]:
    listed = await peer.request("list_prompts")
    return sorted(prompt["name"] for prompt in listed["prompts"])
