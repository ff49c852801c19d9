# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What only the credential that made it can be asked for: a `requestState` and task ids go back to their slot."""

import json

import pytest
from harness.callers import Caller
from harness.errors import gateway_error
from harness.wire import message, post

pytestmark = pytest.mark.gateway_only

ROUND, FAILOVER = "round-robin", "on-first-failed"
REFUSED = {"credential_rejected", "credentials_exhausted"}
SHAPES = [{}, {"stream": True}]


@pytest.fixture(params=["stateless", "handshake", "session", "shared"])
def ask_of(request, pool_of, tokens):
    """Starts a gateway with a pool and gives `ask(method, params)`, in each era, with upstream sessions and without.

    `ask` gives the answer; `request` tells the caller's id.
    """

    async def start(names, mode, **auth):
        kind = request.param
        isolation = {"isolation": kind} if kind in ("session", "shared") else {}
        gateway = pool_of(names, mode, path="/sessions" if isolation else "/plain", **isolation, **auth)
        era = "stateless" if kind == "stateless" else "handshake"
        caller = None if era == "stateless" else await Caller.open(gateway, "pool")
        tokens.clear()
        ids = iter(range(100, 200))

        async def ask(method, params):
            body = message(method, params, id=next(ids), era=era)
            if caller:
                answer = await caller.post(body)
            else:
                more = {"Mcp-Name": params["taskId"]} if "taskId" in params else {}
                answer = await post(gateway.url("pool"), body, era=era, token=gateway.token, seen=gateway.seen, more=more)
            return answer, body["id"], era

        return ask

    yield start
    tokens.no_token_strays()


async def result(asked):
    answer, id, _ = await asked
    reply = answer.reply(id)
    assert "result" in reply, reply
    return reply["result"]


async def made_state(ask, **arguments):
    """A `requestState` that the upstream has just made."""
    return (await result(ask("tools/call", {"name": "state", "arguments": arguments})))["requestState"]


async def made_task(ask, **arguments):
    made = await result(ask("tools/call", {"name": "task", "arguments": arguments}))
    return made.get("task", made)["taskId"]


def retry(ask, state):
    return ask("tools/call", {"name": "state", "arguments": {}, "requestState": state, "inputResponses": {}})


def echo(ask):
    return result(ask("tools/call", {"name": "echo", "arguments": {}}))


@pytest.mark.parametrize("shape", [*SHAPES, {"pad": 200_000}, {"pad": 200_000, "stream": True}], ids=str)
async def test_state_goes_home(ask_of, tokens, shape):
    """S09: the retry of a call uses the token whose answer held its state, whose turn it is or not."""
    ask = await ask_of("A B C", ROUND)
    states = [await made_state(ask, **shape) for _ in range(3)]
    assert tokens.sends("tools/call") == "A B C"
    for state in (states[1], states[0], states[0], states[2], states[1]):
        await result(retry(ask, state))
    assert tokens.sends("tools/call") == "A B C B A A C B"
    await echo(ask)
    await echo(ask)
    assert tokens.sends("tools/call") == "A B C B A A C B A B", "retries take nobody's turn"


@pytest.mark.parametrize("mode,auth", [(ROUND, {}), (ROUND, {"maxRetries": 2}), (FAILOVER, {})], ids=str)
@pytest.mark.parametrize("status", [401, 403])
async def test_state_of_a_refused_token(ask_of, tokens, mode, auth, status):
    """S10: when its token is refused meanwhile the exchange has failed; no other token is asked with its state."""
    ask = await ask_of("A B", mode, **auth)
    state = await made_state(ask)
    tokens.script(A=status)
    answer, id, era = await retry(ask, state)
    gateway_error(answer, id, era, "pool", REFUSED, {"no"})
    assert tokens.sends("tools/call") == "A A"
    await echo(ask)
    assert tokens.sends("tools/call") == "A A B"


async def test_state_after_the_pool_moved(ask_of, tokens):
    """A state stays with its token also when the pool has gone to another since."""
    ask = await ask_of("A B", FAILOVER)
    state = await made_state(ask)
    tokens.script(A={"tools/call": [401, 200]})
    await echo(ask)
    await result(retry(ask, state))
    await echo(ask)
    assert tokens.sends("tools/call") == "A A B A B"


async def test_state_made_at_the_second_attempt(ask_of, tokens):
    """The token that made it counts, not the one that the call was sent with first."""
    ask = await ask_of("A B C", ROUND, maxRetries=2)
    tokens.script(A={"tools/call": [401, 200]})
    state = await made_state(ask)
    await result(retry(ask, state))
    assert tokens.sends("tools/call") == "A B B"


async def test_state_that_nobody_knows(ask_of, tokens):
    """Of an unknown state the upstream decides: it goes with the token whose turn it is."""
    ask = await ask_of("A B", ROUND)
    await echo(ask)
    await result(retry(ask, "s-of somebody else"))
    assert tokens.sends("tools/call") == "A B"


async def test_state_stays_under_affinity(ask_of, tokens):
    """A state made at home goes home, as everything does under `affinity: session`."""
    ask = await ask_of("A B", ROUND, affinity="session")
    state = await made_state(ask)
    mine = tokens.sends("tools/call")
    await result(retry(ask, state))
    assert tokens.sends("tools/call") == f"{mine} {mine}"


@pytest.mark.parametrize("shape", [*SHAPES, {"flat": True}], ids=str)
@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel"])
async def test_task_goes_home(ask_of, tokens, shape, method):
    """Who asks about a task asks the token that began it, in its session."""
    ask = await ask_of("A B", ROUND)
    tasks = [await made_task(ask, **shape) for _ in range(2)]
    for task in (tasks[1], tasks[1], tasks[0]):
        await result(ask(method, {"taskId": task}))
    assert tokens.sends(method) == "B B A"
    made, asked = tokens.journal("tools/call"), tokens.journal(method)
    assert [entry["session"] for entry in asked] == [made[n]["session"] for n in (1, 1, 0)]


async def test_task_of_a_refused_token(ask_of, tokens):
    """A task cannot move: when its token is refused, so is the question."""
    ask = await ask_of("A B", FAILOVER)
    task = await made_task(ask)
    tokens.script(A=401)
    answer, id, era = await ask("tasks/get", {"taskId": task})
    gateway_error(answer, id, era, "pool", REFUSED, {"no"})
    assert tokens.sends("tasks/get") == "A"


async def test_written_otherwise(pool_of, tokens):
    """The text counts, not how JSON writes it."""
    gateway = pool_of("A B", ROUND)
    tokens.clear()
    call = {"name": "state", "arguments": {}}
    body = message("tools/call", call, era="stateless")
    answer = await post(gateway.url("pool"), body, era="stateless", token=gateway.token)
    state = answer.reply(1)["result"]["requestState"]
    escaped = "".join(f"\\u{ord(c):04x}" for c in state)
    again = json.dumps(message("tools/call", {**call, "requestState": "STATE"}, era="stateless")).replace("STATE", escaped)
    await post(gateway.url("pool"), again.encode(), era="stateless", token=gateway.token)
    assert tokens.sends("tools/call") == "A A"


async def test_of_one_upstream(gateway_of, tokens):
    """What one upstream made says nothing at another."""
    entries = {"one": tokens.entry("/plain", "A B", ROUND), "other": tokens.entry("/plain", "C D", ROUND)}
    gateway = gateway_of(entries, options={"pingInterval": 0})
    gateway.wait_until_ready()
    tokens.clear()

    async def call(server, tool="echo", **more):
        body = message("tools/call", {"name": tool, "arguments": {}, **more}, era="stateless")
        answer = await post(gateway.url(server), body, era="stateless", token=gateway.token, seen=gateway.seen)
        return answer.reply(1)["result"]

    state = (await call("one", "state"))["requestState"]
    await call("other")
    await call("other", "state", requestState=state)
    await call("one", "state", requestState=state)
    assert tokens.sends("tools/call") == "A C D A"
