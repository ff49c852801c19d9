# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A stdio server of the storm: does with each call what its plan says, and writes the call's number to the ledger first.

usage: child.py LEDGER [--calm]        (--calm marks the one that gets no signals)

Standard library only, and few imports: it is started often.
"""

import json
import os
import re
import sys
import threading
import time

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
NUMBER = re.compile(r"nonce-([0-9]+)-end")
output = threading.Lock()
answered = threading.Condition()
answers = {}
ledger = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)


def write(data, descriptor=1):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def send(message):
    data = json.dumps(message).encode() + b"\n"
    with output:
        write(data)


def run(nonce):
    os.write(ledger, f"{NUMBER.search(nonce)[1]} child {os.getpid()} {time.monotonic():.3f}\n".encode())


def call(id, params):
    arguments = params.get("arguments", {})
    nonce, plan, token = arguments["nonce"], arguments.get("plan", {}), params.get("_meta", {}).get("progressToken")
    fault = plan.get("fault")
    if fault == "exit-before":
        os._exit(3)
    run(nonce)
    for step in range(plan.get("progress", 0)):
        if token is not None:
            progress = {"progressToken": token, "progress": step, "message": nonce}
            send({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
        time.sleep(plan.get("every", 0))
    logs = plan.get("log", 0)
    if logs > 1 or plan.get("late"):
        # What it says after a while may come when its caller has gone, but it is still the only one that it can be about.
        time.sleep(plan.pop("delay", 0))
    for _ in range(logs):
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": nonce}})
    told = None
    if plan.get("ask"):
        ask = f"ask-{nonce}"
        params = {"message": nonce, "requestedSchema": {"type": "object", "properties": {}}}
        send({"jsonrpc": "2.0", "id": ask, "method": "elicitation/create", "params": params})
        with answered:
            answered.wait_for(lambda: ask in answers, 2)
            told = answers.pop(ask, None)
    time.sleep(plan.get("delay", 0))
    text = json.dumps({"nonce": nonce, "told": told, "pad": "x" * plan.get("size", 0)})
    answer = {"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}]}}
    line = json.dumps(answer).encode() + b"\n"
    if fault == "exit-after":
        os._exit(4)
    if fault == "partial":
        with output:
            write(line[: len(line) // 2])
            os._exit(5)
    if fault == "silent":
        return
    if fault == "late":
        time.sleep(4)
        send({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": nonce}})
        time.sleep(0.1)
    with output:
        if fault == "garbage":
            write(b'not json\n{"jsonrpc":\n\xff\xfe\n[1,2\nnull\n{}\n')
        elif fault == "foreign-id":
            write(line.replace(json.dumps(id).encode(), b'"nobody"', 1))
        elif fault == "retyped-id":
            return write(json.dumps({**answer, "id": str(id) if isinstance(id, int) else 0}).encode() + b"\n")
        elif fault == "stderr":
            write((b"e" * 200 + b"\n") * 500, 2)
        elif fault == "flood":
            log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": nonce + "y" * 100}}
            write((json.dumps(log).encode() + b"\n") * 500)
        elif fault == "split":
            for at in range(0, len(line), max(1, len(line) // 20)):
                write(line[at : at + max(1, len(line) // 20)])
                time.sleep(0.001)
            return
        write(line)
        if fault == "two-answers":
            write(line)


def handle(message):
    if "method" not in message:
        with answered:
            answers[message["id"]] = message.get("result", message.get("error"))
            answered.notify_all()
        return
    method, id, params = message["method"], message.get("id"), message.get("params", {})
    if id is None:
        return
    if method == "initialize":
        asked = params.get("protocolVersion")
        capabilities = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}
        result = {
            "protocolVersion": asked if asked in VERSIONS else VERSIONS[-1],
            "capabilities": capabilities,
            "serverInfo": {"name": "storm", "version": "1"},
        }
        send({"jsonrpc": "2.0", "id": id, "result": result})
    elif method == "tools/call":
        threading.Thread(target=call, args=(id, params), daemon=True).start()
    elif method == "tools/list":
        send({"jsonrpc": "2.0", "id": id, "result": {"tools": [{"name": "run", "inputSchema": {"type": "object"}}]}})
    elif method == "resources/subscribe":
        send({"jsonrpc": "2.0", "id": id, "result": {}})
        updated = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": params["uri"]}}
        threading.Timer(0.1, send, [updated]).start()
    elif method in ("ping", "logging/setLevel", "resources/unsubscribe"):
        send({"jsonrpc": "2.0", "id": id, "result": {}})
    else:
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}})


def main():
    for line in sys.stdin.buffer:
        handle(json.loads(line))
    os._exit(0)


main()
