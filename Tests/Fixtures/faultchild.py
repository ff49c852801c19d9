#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""An MCP server over stdio that misbehaves on demand. Standard library only; speaks the handshake's revisions.

usage: faultchild.py MODE [JOURNAL]      MODE may carry values: slow-start?ms=300; `faultchild.py --modes` lists them.

The tools of TOOLS but the last always work as long as the mode lets the program work at all; the tool `fault` does what
the mode says, and where that is nothing it answers like `echo`. `flood` writes lines of so many `bytes`, each write ending
in the middle of one, before it answers, `notify` so many notifications. `haunt` is silent until another calls `cue`, and then asks or says what its
arguments say (`method`, `params`, `asks`), whether or not its caller still waits, and answers; `cue` is answered after that.
JOURNAL gets a JSON line for each start, line read, end of input and SIGTERM; a test takes from it what was executed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import resource
import signal
import sys
import threading
import time
import urllib.parse

MEGABYTE = 1 << 20
CONTROL = "\x1b[31mred\x1b[0m \x07bell \x9b31m \rback \u2028 \u202e"
GARBAGE = [b"not json", b"{\"jsonrpc\":", b"\xff\xfe\x00", b"[1,2", b"42", b"\"text\"", b"null", b"{}", b"[]"]
TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nValueError: no\n'
TOOLS = ["echo", "slow", "labelled", "ask", "numbers", "announce", "large", "notify", "report-env", "flood"]
TOOLS += ["haunt", "cue", "note", "fault"]
CAPABILITIES = {"tools": {"listChanged": True}, "resources": {"subscribe": True, "listChanged": True}, "logging": {}}

output_lock = threading.Lock()
started = time.monotonic()
answers = {}
"""What the client answered to our own requests, by id."""
answered = threading.Condition()
cue = threading.Event()
haunted = threading.Event()
notes = []
"""What the tool `note` was given: this process alone knows it."""
held = []
"""Calls of out-of-order that wait for a second one."""


class Mode:
    """What the command line asks for."""

    def __init__(self, text):
        self.name, _, query = text.partition("?")
        self.values = dict(urllib.parse.parse_qsl(query))

    def number(self, key, otherwise):
        return int(self.values.get(key, otherwise))


mode = Mode(sys.argv[1] if len(sys.argv) > 1 else "ok")
journal_path = sys.argv[2] if len(sys.argv) > 2 else ""


def note(event, **more):
    if journal_path:
        entry = {"event": event, "pid": os.getpid(), "group": os.getpgid(0), "t": time.monotonic(), **more}
        descriptor = os.open(journal_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, json.dumps(entry).encode() + b"\n")
        os.close(descriptor)


def write(data, descriptor=1):
    """All of it, however often the pipe is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def send(message):
    if mode.name == "pretty-printed" and "all" in mode.values:
        return write(json.dumps(message, indent=2).encode() + b"\n")
    with output_lock:
        write(json.dumps(message, ensure_ascii=False).encode() + b"\n")


def notify(method, **params):
    send({"jsonrpc": "2.0", "method": method, "params": params})


def request(id, method, params, deadline=20):
    """Asks the client something and waits for its answer; an error where none comes."""
    send({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    with answered:
        answered.wait_for(lambda: (type(id), id) in answers, deadline)
        return answers.pop((type(id), id), {"error": {"code": 0, "message": "no answer"}})


def result(id, text, **more):
    return {"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": text}], **more}}


def initialize_result(params):
    known = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
    asked = params.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in known else known[-1],
        "capabilities": CAPABILITIES,
        "serverInfo": {"name": "faultchild", "version": "1"},
    }


# The tools.


def report():
    """What this process was given by whoever started it."""
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that listed the directory
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
    mask = os.umask(0o77)
    os.umask(mask)
    # A test knows its secrets by their digest, and searches all answers for the secrets themselves.
    secret = {name: hashlib.sha256(os.environb[name.encode()]).hexdigest() for name in os.environ if name.startswith("E2E_")}
    return {
        "env": {**os.environ, **secret},
        "cwd": os.getcwd(),
        "argv": sys.argv,
        "descriptors": descriptors,
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "blocked": status["SigBlk"],
        "ignored": status["SigIgn"],
        "umask": f"{mask:03o}",
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    }


def call(id, name, arguments, token):
    if name == "fault":
        return fault(id, arguments, token)
    if name == "note":
        notes.append(arguments["text"])
        return send(result(id, " ".join(notes)))
    if name == "slow":
        time.sleep(arguments.get("seconds", 0))
    if name == "labelled":
        for step in range(arguments["steps"]):
            notify("notifications/progress", progressToken=token, progress=step, message=f"{arguments['label']} {step}")
            notify("notifications/message", level="info", data=f"{arguments['label']} {step}")
            time.sleep(arguments.get("interval", 0.005))
        return send(result(id, arguments["label"]))
    if name == "ask":
        answer = request(f"ask-{id}", arguments["method"], arguments.get("params", {}))
        return send(result(id, json.dumps(answer.get("result", answer.get("error")))))
    if name == "flood":
        flood_lines(arguments["bytes"])
    if name == "haunt":
        cue.wait(30)
        if arguments.get("asks"):
            note("told", answer=request(f"haunt-{id}", arguments["method"], arguments.get("params", {}), 0.5))
        else:
            notify(arguments["method"], **arguments.get("params", {}))
        send(result(id, "late"))
        return haunted.set()
    if name == "cue":
        cue.set()
        haunted.wait(2)
    if name == "announce":
        notify(arguments["method"], **arguments.get("params", {}))
    if name == "large":
        time.sleep(arguments.get("seconds", 0))
        return send(result(id, "x" * arguments["bytes"]))
    if name == "notify":
        params = {"level": "info", "data": "x" * arguments["bytes"]}
        line = json.dumps({"jsonrpc": "2.0", "method": arguments["method"], "params": params}).encode() + b"\n"
        for _ in range(arguments["count"]):
            with output_lock:
                write(line)
    if name == "report-env":
        return send(result(id, json.dumps(report())))
    send(result(id, json.dumps(arguments, ensure_ascii=False), structuredContent=arguments))


def fork(session=False, keep_output=False, count=1):
    """Grandchildren that sleep for ten minutes; each leaves its pid in the journal."""
    for _ in range(count):
        if os.fork() == 0:
            if session:
                os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            quiet = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 2) if keep_output else (0, 1, 2):
                os.dup2(quiet, descriptor)
            note("grandchild")
            time.sleep(600)
            os._exit(0)


def flood(data, descriptor, total):
    for _ in range(total // len(data) + 1):
        write(data, descriptor)


def flood_lines(total):
    """Log messages of this size together; every write but the last ends in the middle of a line."""
    said = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x" * 65536}}
    line = json.dumps(said).encode() + b"\n"
    half = len(line) // 2
    with output_lock:
        write(line[:half])
        for _ in range(total // len(line)):
            write(line[half:] + line[:half])
        write(line[half:])


def wait_for_ever():
    while True:
        time.sleep(600)


def fault(id, arguments, token):
    """The tool `fault`: what the mode does to one call."""
    answer = result(id, json.dumps(arguments, ensure_ascii=False))
    line = json.dumps(answer).encode()
    name = mode.name
    if name == "exit-mid-call":
        write(b"the last words on stderr\n", 2)
        os._exit(7)
    elif name == "segv-mid-call":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)
        wait_for_ever()
    elif name == "hang":
        wait_for_ever()
    elif name == "garbage":
        with output_lock:
            write(b"\n".join(GARBAGE) + b"\n" + line + b"\n")
    elif name == "traceback":
        with output_lock:
            write(TRACEBACK.encode() + line + b"\n")
    elif name == "partial-line":
        output_lock.acquire()
        write(line[: len(line) // 2])
        wait_for_ever()
    elif name == "split-writes":
        with output_lock:
            for byte in line + b"\n":
                write(bytes([byte]))
                time.sleep(0.001)
    elif name == "crlf":
        with output_lock:
            write(line + b"\r\n")
    elif name == "blank-lines":
        with output_lock:
            write(b"\n\r\n  \n\n" + line + b"\n\n\n")
    elif name == "no-final-newline":
        with output_lock:
            write(line)
            os._exit(0)
    elif name == "bom":
        with output_lock:
            write(b"\xef\xbb\xbf" + line + b"\n")
    elif name == "nul":
        with output_lock:
            write(b"\0\0\0\n" + line + b"\n")
    elif name in ("huge-line", "endless-line"):
        with output_lock:
            write(b'{"jsonrpc":"2.0","id":%s,"result":{"x":"' % json.dumps(id).encode())
            flood(b"a" * 65536, 1, mode.number("bytes", 64 * MEGABYTE))
            if name == "endless-line":
                wait_for_ever()
            write(b'"}}\n')
    elif name == "stderr-flood":
        flood(b"e" * 1023 + b"\n", 2, mode.number("bytes", 200 * MEGABYTE))
        send(answer)
    elif name == "stderr-control-chars":
        write(CONTROL.encode() + b" \xff\xfe\n" + os.environ.get("E2E_SECRET", "").encode() + b"\nno newline", 2)
        send(answer)
    elif name == "stdout-flood":
        text = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 100}})
        for _ in range(mode.number("count", 50_000) // 100):
            with output_lock:
                write((text + "\n").encode() * 100)
        send(answer)
    elif name == "closes-stdout":
        os.close(1)
        wait_for_ever()
    elif name in ("grandchild", "fifty-grandchildren"):
        fork(count=50 if name == "fifty-grandchildren" else 1)
        send(answer)
    elif name == "grandchild-setsid":
        fork(session=True)
        send(answer)
    elif name == "grandchild-holds-stdout":
        fork(keep_output=True)
        os._exit(7)
    elif name == "wrong-id":
        send(result("nobody-asked-this", "stolen"))
        send(result(987654321, "stolen"))
    elif name == "wrong-id-first":
        send(result("nobody-asked-this", "stolen"))
        send(answer)
    elif name == "retyped-id":
        send({**answer, "id": str(id) if isinstance(id, int) else 0})
    elif name == "two-answers":
        send(answer)
        send(result(id, "the second"))
    elif name == "pretty-printed":
        with output_lock:
            write(json.dumps(answer, indent=2).encode() + b"\n")
    elif name == "latin-1":
        with output_lock:
            write(json.dumps(result(id, "caf\u00e9"), ensure_ascii=False).encode("latin-1") + b"\n")
    elif name == "terminal-codes":
        with output_lock:
            write(b"\x1b[32m" + line + b"\x1b[0m\n")
    elif name == "json-log":
        with output_lock:
            write(json.dumps({"level": "info", "secret": os.environ.get("E2E_SECRET", "")}).encode() + b"\n" + line + b"\n")
    elif name == "out-of-order":
        held.append(answer)
        if len(held) == 2:
            send(held.pop())
            send(held.pop())
    elif name == "request-same-id":
        reply = request(id, "ping", {})
        send(result(id, json.dumps(reply)))
    else:
        send(answer)


# The loop.


def handle(line):
    message = json.loads(line)
    if "method" not in message:
        with answered:
            answers[type(message["id"]), message["id"]] = message
            answered.notify_all()
        return
    method, id, params = message["method"], message.get("id"), message.get("params", {})
    if id is None:
        return
    if mode.name == "dies-of-discover" and method == "server/discover":
        write(b"".join(b"Traceback, line %d\n" % n for n in range(94)), 2)
        os._exit(1)
    if mode.name == "stateless-only" and method == "initialize":
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}})
    elif mode.name == "stateless-only" and method == "server/discover":
        about = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}
        send({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", **about}})
    elif method == "initialize" and mode.name == "refuses-initialize":
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "not like this"}})
    elif method == "initialize":
        send({"jsonrpc": "2.0", "id": id, "result": initialize_result(params)})
    elif method in ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        send({"jsonrpc": "2.0", "id": id, "result": {}})
    elif method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
        send({"jsonrpc": "2.0", "id": id, "result": {"tools": tools}})
    elif method == "tools/call":
        # Here, since a read that waits in this thread would still take one more line.
        if params["name"] == "fault" and mode.name == "closes-stdin":
            os.close(0)
        if params["name"] == "fault" and mode.name == "never-reads-stdin":
            reading.clear()
        arguments = (id, params["name"], params.get("arguments", {}), params.get("_meta", {}).get("progressToken"))
        threading.Thread(target=call, args=arguments, daemon=True).start()
    elif mode.name != "silent-discover":
        send({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}})


reading = threading.Event()
reading.set()


def read_lines():
    rest = b""
    while True:
        if not reading.is_set():
            wait_for_ever()
        try:
            data = os.read(0, 65536)
        except OSError:
            wait_for_ever()  # we closed it ourselves
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line


def on_sigterm(*_):
    note("sigterm")
    if mode.name not in ("ignores-sigterm", "ignores-both"):
        os._exit(0)


MODES = """ok exit-at-start exit-0-loop exit-mid-call segv-mid-call hang garbage banner traceback partial-line split-writes
crlf blank-lines no-final-newline bom nul huge-line endless-line stderr-flood stderr-control-chars stdout-flood
never-reads-stdin deaf closes-stdout closes-stdin ignores-sigterm ignores-eof ignores-both grandchild
grandchild-holds-stdout grandchild-setsid fifty-grandchildren wrong-id wrong-id-first retyped-id two-answers
out-of-order request-same-id report-env slow-start silent-discover refuses-initialize dies-of-discover stateless-only
locks-a-file chatty pretty-printed latin-1 terminal-codes json-log""".split()


def main():
    if mode.name == "--modes":
        return print("\n".join(MODES))
    note("start", environment=sorted(os.environ))
    if mode.name == "exit-at-start":
        write(b"no license for this machine\n", 2)
        os._exit(3)
    if mode.name == "exit-0-loop":
        os._exit(0)
    if mode.name == "locks-a-file":
        lock = open(journal_path + ".lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            write(b"the database is in use by another process\n", 2)
            os._exit(4)
    if mode.name == "chatty":
        write(b"".join(b"INFO starting, step %d\n" % n for n in range(94)), 2)
    signal.signal(signal.SIGTERM, on_sigterm)
    if mode.name == "slow-start":
        time.sleep(mode.number("ms", 300) / 1000)
    if mode.name == "banner":
        write(b"Welcome to faultchild 1.0!\nListening on stdio\n\x1b[32mready\x1b[0m\n")
    if mode.name == "deaf":
        wait_for_ever()
    for line in read_lines():
        note("line", line=line[:4096].decode("utf-8", "replace"), bytes=len(line))
        if mode.name == "chatty":
            write(b"INFO Processing request\n", 2)
        handle(line)
    note("eof")
    if mode.name in ("ignores-eof", "ignores-both"):
        wait_for_ever()
    os._exit(0)


main()
