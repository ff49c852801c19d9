# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Starts upstreams, gateway, honest callers and the crowd, and judges what the one cost the others."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from Benchmarks.programs import (
    LOAD_CORE,
    fail,
    free_port,
    json_answer,
    pinned,
    request_of,
    run_gateway,
    start_nginx,
    temporary_paths,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MEBIBYTE = 1 << 20
MOST_RATIO = 2.0
MOST_MEMORY = 256 * MEBIBYTE
HELD = ("inFlight", "streams", "queued", "suspended", "upstreamConnectionsInUse", "exchanges", "bufferedBytes")
"""What `held` of /_status counts, and what is 0 when nobody wants anything."""
SMALL, LARGE, LONG = 200, MEBIBYTE, 320 * 1024
"""Bytes of answers: to honest callers, to those who do not read, to those who leave."""
LONG_RATE = 80 * 1024
"""Bytes a second of the last: it takes 4 s, and they leave after 2."""
REST = 5.0 + LONG / LONG_RATE
"""Seconds that a gateway has to come to rest after everybody went away, and after the last answer was complete."""
CALLERS = 32
DIRECT = 100
"""Calls a second to the upstream itself: what they take is not the gateway's."""
SPREAD = 3
"""Upstreams for each kind of large answer: one has only `limits.inFlightPerUpstream` (1024) places, which callers that do not
read take up. Nor is the end of a handshake caller that of its call: that has its place until the answer is complete."""

UPSTREAM = """
http {{
  access_log off; {paths}
  keepalive_requests 1000000000; keepalive_timeout 1h; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /small {{ default_type application/json; return 200 '{small}'; }}
  }}
}}
"""

# Those who do not read leave their answers here for as long as they like; what the system of the upstream takes of each is
# little. A file is not given to a POST: the error page makes a GET of it.
CROWDED = """
http {{
  access_log off; {paths} root {directory};
  keepalive_requests 1000000000; keepalive_timeout 1h; send_timeout 1h; client_body_buffer_size 64k;
  server {{
    listen 127.0.0.1:{port} backlog=4096 sndbuf=64k;
    error_page 405 =200 $uri;
    location /large {{ default_type application/json; }}
    location /events {{ default_type text/event-stream; }}
    location /long {{ default_type application/json; limit_rate {rate}; }}
  }}
  server {{
    listen 127.0.0.1:{legacy} backlog=4096 sndbuf=64k;
    set $k "{pad}"; set $k32 "$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k$k";
    set $k256 "$k32$k32$k32$k32$k32$k32$k32$k32"; set $m "$k256$k256$k256$k256";
    location /legacy {{
      default_type application/json;
      if ($request_method = GET) {{ return 405; }}
      if ($http_mcp_protocol_version = "") {{ return 200 '{initialized}'; }}
      return 200 '{head}$m{tail}';
    }}
  }}
}}
"""

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "crowd", "version": "1"}},
}
INITIALIZED = {
    "jsonrpc": "2.0", "id": 1,
    "result": {"protocolVersion": "2025-03-26", "capabilities": {}, "serverInfo": {"name": "crowd", "version": "1"}},
}


class Process:
    """A pinned helper that is told what to do on standard input, and answers each line with one of JSON."""

    def __init__(self, program, arguments):
        argv = [sys.executable, "-B", HERE / program, json.dumps(arguments)]
        self.process = subprocess.Popen(
            pinned(LOAD_CORE, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, word):
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            fail(f"the crowd is gone: {error}")

    def stop(self):
        self.process.kill()
        self.process.wait()


def real_time():
    """What puts a program before the crowd on their core, where that is allowed."""
    before = ["chrt", "-f", "1"]
    try:
        allowed = subprocess.run([*before, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        allowed = False
    return before if allowed else []


def message(port, path, scenario="small", body=None):
    fields, call = request_of(scenario)
    body = body or call
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}"


def events(size):
    """An answer as a stream: log messages of a kilobyte each, and the result."""
    note = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"' + "x" * 900 + '"}}'
    one = f"event: message\ndata: {note}\n\n"
    head, tail, _ = json_answer(SMALL)
    return one * (size // len(one)) + f"event: message\ndata: {head}{tail}\n\n"


def start_upstreams(directory, before):
    """The one of the honest callers, and that of the crowd."""
    paths = temporary_paths(directory)
    head, tail, filler = json_answer(SMALL)
    port = free_port()
    http = UPSTREAM.format(paths=paths, port=port, small=head + "x" * filler + tail)
    honest = start_nginx("honest", LOAD_CORE, port, http, directory, before)
    for name, size in (("large", LARGE), ("long", LONG)):
        head, tail, filler = json_answer(size)
        (directory / name).write_text(head + "x" * filler + tail)
    (directory / "events").write_text(events(LARGE))
    port, legacy = free_port(), free_port()
    head, tail, _ = json_answer(LARGE)
    http = CROWDED.format(
        paths=paths, port=port, legacy=legacy, directory=directory, rate=LONG_RATE,
        pad="x" * 1024, initialized=json.dumps(INITIALIZED), head=head, tail=tail,
    )
    crowded = start_nginx("crowded", LOAD_CORE, port, http, directory)
    crowded.legacy = legacy
    return honest, crowded


def servers(honest, crowded):
    """Names and targets: each is an upstream of its own to the gateway."""
    targets = {
        "honest": (honest.port, "small"), "stateless": (crowded.port, "long"), "legacy": (crowded.legacy, "legacy"),
    }
    for number in range(SPREAD):
        targets |= {f"{path}{number}": (crowded.port, path) for path in ("large", "events", "long")}
    return {
        name: {
            "url": f"http://127.0.0.1:{port}/{path}",
            "transportType": "streamable-http",
            "protocol": "stateless" if name == "stateless" else "handshake",
        }
        for name, (port, path) in targets.items()
    }


def start_gateway(options, honest, crowded, directory, before):
    port, configuration = free_port(), directory / "mcp-proxy.json"
    limits = {name: json.loads(value) for name, _, value in (text.partition("=") for text in options.limit)}
    configuration.write_text(json.dumps({
        "mcpProxy": {
            "baseURL": f"http://127.0.0.1:{port}", "addr": f"127.0.0.1:{port}", "name": "crowd", "version": "1",
            "type": "streamable-http", "options": {"proxy": False}, "limits": limits,
        },
        "mcpServers": servers(honest, crowded),
    }))
    return run_gateway("mcp-proxy", options.binary, configuration, port, directory, ["--log-level", "error"], before)


def start_crowd(options, gateway):
    slow = f"POST /honest/mcp HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nX-Slow: "
    stream = f"GET /legacy/sse HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\nAccept: text/event-stream\r\n\r\n"
    silent, leaving = [], []
    for number in range(SPREAD):
        silent += [message(gateway.port, f"/{path}{number}/mcp") for path in options.answers.split(",")]
        leaving += [message(gateway.port, f"/long{number}/mcp"), message(gateway.port, "/stateless/mcp", "stateless")]
    return Process("members.py", {
        "port": gateway.port,
        "kinds": {
            # A little more a second than are cut, or leave, so that all of them are there, and as many are cut each second.
            "slow": (options.slow, max(1, options.slow * 0.12), [slow]),
            "silent": (options.silent, max(1, options.silent * 0.12), silent),
            "legacy": (options.legacy, max(1, options.legacy * 0.12), [stream]),
            "posts": (0, 0, [message(gateway.port, "/", body=json.dumps(INITIALIZE)), message(gateway.port, "/")]),
            "leaving": (options.leaving, max(1, options.leaving * 0.55), leaving),
        },
    })


class Watch:
    """Looks at the gateway from outside while something goes on: memory, descriptors, what it says of itself."""

    def __init__(self, gateway):
        self.gateway, self.pid = gateway, gateway.process.pid
        self.rss, self.descriptors, self.buffered, self.suspended, self.socket_memory = [], [], [], [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def look(self):
        turn = 0
        while True:
            self.rss.append(resident(self.pid))
            if turn % 20 == 4:
                held = status(self.gateway)["held"]
                self.buffered.append(held["bufferedBytes"])
                self.suspended.append(held["suspended"])
                self.descriptors.append(descriptors(self.pid))
                self.socket_memory.append(socket_memory())
            turn += 1
            if self.over.wait(0.25):
                return


def resident(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    # Linux 6.2 and newer give the number as the size of the directory.
    return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))


def waiting(pid):
    """Seconds that its threads wanted to run and another program did: with many of them the figures are the machine's."""
    return sum(int(task.read_text().split()[1]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def socket_memory():
    """Bytes that the system holds in its buffers for all connections of this machine."""
    words = Path("/proc/net/sockstat").read_text().split()
    return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


def status(gateway):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{gateway.port}/_status", timeout=30) as answer:
        return json.load(answer)


def honest_calls(options, gateway, honest, before, log):
    """One stretch of honest calls, through the gateway and, a few, to the upstream itself."""
    lanes = [
        {"port": gateway.port, "request": message(gateway.port, "/honest/mcp"), "rate": options.rate, "connections": CALLERS},
        {"port": honest.port, "request": message(honest.port, "/small"), "rate": DIRECT, "connections": 4},
    ]
    arguments = json.dumps({"seconds": options.seconds, "lanes": lanes, "log": str(log) if log else None})
    argv = pinned(LOAD_CORE, [*before, sys.executable, "-B", HERE / "honest.py", arguments])
    cpu, waited, began = gateway.cpu(), waiting(gateway.process.pid), time.monotonic()
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        fail(f"honest.py ended with {done.returncode}")
    result = json.loads(done.stdout)
    through, direct = result["lanes"]
    seconds = time.monotonic() - began
    return {
        **through, "direct": direct, "caller cpu": result["cpu"],
        "gateway cpu": (gateway.cpu() - cpu) / seconds, "gateway lacks": (waiting(gateway.process.pid) - waited) / seconds,
    }


def gather(options, crowd):
    """Waits until the whole crowd is there, and those that are to have an answer have one."""
    crowd.ask("on")
    began = time.monotonic()
    while True:
        time.sleep(0.5)
        said = crowd.ask("say")
        kinds, took = said["kinds"], time.monotonic() - began
        # Of those that leave some are always about to; a connection that was cut is missing for a moment.
        are_open = all(kind["open"] >= kind["most"] * 0.96 for kind in kinds.values())
        if are_open and all(kinds[name]["answered"] >= kinds[name]["most"] * 0.95 for name in ("silent", "legacy")):
            return took
        if took > options.patience:
            # It does not have to be, where the gateway ends its connections sooner than by their time.
            there = ", ".join(f"{kind['open']} of {kind['most']} {name}" for name, kind in kinds.items())
            ended = {name: kind["ended"] for name, kind in kinds.items()}
            print(f"the crowd is not all there after {took:.0f} s: {there}; ended were {ended}")
            return took


def difference(before, after):
    """What the crowd did between two reports, a second."""
    seconds = after["at"] - before["at"]
    kinds = {}
    for name, kind in after["kinds"].items():
        was = before["kinds"][name]
        ended = {why: count - was["ended"].get(why, 0) for why, count in kind["ended"].items()}
        kinds[name] = {
            "open": kind["open"],
            "opened per second": round((kind["opened"] - was["opened"]) / seconds, 1),
            "ended per second": {why: round(count / seconds, 1) for why, count in ended.items() if count},
            "ages": kind["ages"],
        }
    return {"seconds": seconds, "cpu": (after["cpu"] - before["cpu"]) / seconds, "kinds": kinds}


def rest(gateway):
    """How long it took until nothing was held any more, or what still is."""
    began = time.monotonic()
    while True:
        held = status(gateway)["held"]
        left = {name: held[name] for name in HELD if held.get(name)}
        took = time.monotonic() - began
        if not left or took > REST:
            return took, left
        time.sleep(0.1)


def run_round(number, options, gateway, honest, crowd, before, kept):
    def calls(name):
        return honest_calls(options, gateway, honest, before, kept and kept / f"{number}-{name}.times")

    alone = calls("alone")
    gathering = gather(options, crowd)
    time.sleep(options.settle)
    with Watch(gateway) as watch:
        was = crowd.ask("say")
        beside = calls("crowd")
        did = difference(was, crowd.ask("say"))
    seen = {
        "rss": max(watch.rss), "descriptors": max(watch.descriptors, default=0),
        "bufferedBytes": max(watch.buffered, default=0), "suspended": max(watch.suspended, default=0),
        "socket memory": max(watch.socket_memory, default=0),
    }
    crowd.ask("off")
    took, left = rest(gateway)
    time.sleep(1)
    after = {"seconds": took, "left": left, "rss": resident(watch.pid), "descriptors": descriptors(watch.pid)}
    return {"alone": alone, "crowd": beside, "gathering": gathering, "did": did, "seen": seen, "after": after}


def show(number, entry):
    print(f"round {number}")
    for name in ("alone", "crowd"):
        row = entry[name]
        direct = row["direct"]
        print(f"  {name:<6} {row['answered']:>6} calls  p50 {row['p50']:6.0f}  p90 {row['p90']:6.0f}  p99 {row['p99']:6.0f}  "
              f"p99.9 {row['p999']:7.0f}  most {row['max']:7.0f} us  failed {row['failed']} {row['failures'] or ''}  "
              f"gateway {row['gateway cpu']:4.0%} CPU, lacks {row['gateway lacks']:.0%}  "
              f"(sent late p99 {row['late p99']:.0f}; upstream itself p50 {direct['p50']:.0f}, p99 {direct['p99']:.0f} us)")
    did = entry["did"]
    print(f"  there after {entry['gathering']:.0f} s, {did['cpu']:.0%} CPU")
    for name, kind in did["kinds"].items():
        if not kind["open"]:
            continue
        ended = ", ".join(f"{why} {count}" for why, count in kind["ended per second"].items())
        print(f"  {name:<8} {kind['open']:>5} open, {kind['opened per second']:6.1f} opened/s; "
              f"ended/s: {ended or 'none'} {kind['ages'] or ''}")
    seen, after = entry["seen"], entry["after"]
    print(f"  the gateway had {seen['rss'] / MEBIBYTE:.0f} MiB, {seen['descriptors']} descriptors, "
          f"{seen['bufferedBytes'] / MEBIBYTE:.1f} MiB held, {seen['suspended']} suspended; "
          f"sockets {seen['socket memory'] / MEBIBYTE:.0f} MiB; "
          f"afterwards {after['rss'] / MEBIBYTE:.0f} MiB, {after['descriptors']} descriptors, "
          + (f"not at rest: {after['left']}" if after["left"] else f"at rest after {after['seconds']:.1f} s"), flush=True)


def judge(results):
    """What does not hold."""
    rounds = results["rounds"]

    def median(name, key):
        return statistics.median(entry[name][key] for entry in rounds)

    results["p50"] = {name: median(name, "p50") for name in ("alone", "crowd")}
    results["p99"] = {name: median(name, "p99") for name in ("alone", "crowd")}
    for key in ("p50", "p99"):
        results[key]["ratio"] = statistics.median(entry["crowd"][key] / entry["alone"][key] for entry in rounds)
    results["failed"] = sum(entry[name]["failed"] for entry in rounds for name in ("alone", "crowd"))
    findings = []
    if results["p99"]["ratio"] > MOST_RATIO:
        findings.append(f"p99 beside the crowd is {results['p99']['ratio']:.2f} times that alone, allowed is {MOST_RATIO:.0f}")
    if results["most memory"] > MOST_MEMORY:
        findings.append(f"the gateway had {results['most memory'] / MEBIBYTE:.0f} MiB, allowed are {MOST_MEMORY // MEBIBYTE}")
    if results["failed"]:
        findings.append(f"{results['failed']} calls of honest callers failed")
    for number, entry in enumerate(rounds, 1):
        if entry["after"]["left"]:
            findings.append(f"not at rest {REST:.0f} s after round {number}: {entry['after']['left']}")
    return findings


def conclude(results):
    findings = results["findings"] = judge(results)
    for key in ("p50", "p99"):
        row = results[key]
        print(f"{key}: {row['alone']:.0f} us alone, {row['crowd']:.0f} us beside the crowd, ratio {row['ratio']:.2f}")
    after = [entry["after"]["rss"] / MEBIBYTE for entry in results["rounds"]]
    print(f"memory: {results['idle'] / MEBIBYTE:.0f} MiB at the start, {results['most memory'] / MEBIBYTE:.0f} MiB at most, "
          f"after each round {', '.join(f'{rss:.0f}' for rss in after)} MiB; {results['failed']} calls failed")
    print("\n".join(f"NOT MET: {finding}" for finding in findings) or "everything holds", flush=True)
    return 1 if findings else 0


def main(usage):
    parser = argparse.ArgumentParser("crowd", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="seconds of honest calls, alone and beside the crowd (20)")
    parser.add_argument("--rounds", type=int, default=3, help="(3)")
    parser.add_argument("--rate", type=int, default=1000, help="honest calls a second (1000)")
    parser.add_argument("--slow", type=int, default=5000, help="connections that send slowly (5000)")
    parser.add_argument("--silent", type=int, default=2000, help="connections that do not read (2000)")
    parser.add_argument("--legacy", type=int, default=0, help="streams of the old transport that do not read, beside those (0)")
    parser.add_argument("--leaving", type=int, default=500, help="connections that leave, at a time (500)")
    parser.add_argument("--answers", default="large,events", help="what those who do not read ask for (large,events)")
    parser.add_argument("--settle", type=float, default=3, help="seconds from when the crowd is there to the calls (3)")
    parser.add_argument("--patience", type=float, default=60, help="seconds that the crowd has to be there (60)")
    parser.add_argument("--real-time", action="store_true", help="put the gateway before all else that its core does")
    parser.add_argument("--limit", action="append", default=[], metavar="NAME=JSON", help="an entry of mcpProxy.limits")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--keep", type=Path, help="where the logs go, and the time of each honest call")
    parser.add_argument("--binary", type=Path, default=ROOT / ".build" / "release" / "mcp-proxy")
    options = parser.parse_args()

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if not options.binary.exists():
        subprocess.run([ROOT / "scripts" / "build-release"], check=True)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    before = real_time()
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {LOAD_CORE})
    if not before:
        print("no real-time priority is allowed here: honest calls wait for the crowd on their own core, too")
    results = {"rounds": [], "options": {name: str(value) for name, value in vars(options).items()}, "load": os.getloadavg()[0]}
    programs = []
    with tempfile.TemporaryDirectory(prefix="crowd-") as name:
        directory = Path(name)
        try:
            honest, crowded = start_upstreams(directory, before)
            programs += [honest, crowded]
            gateway = start_gateway(options, honest, crowded, directory, before if options.real_time else [])
            programs.append(gateway)
            crowd = start_crowd(options, gateway)
            programs.append(crowd)
            time.sleep(1)
            results["idle"] = resident(gateway.process.pid)
            for number in range(1, options.rounds + 1):
                entry = run_round(number, options, gateway, honest, crowd, before, options.keep)
                results["rounds"].append(entry)
                show(number, entry)
            results["most memory"] = gateway.rss("VmHWM")
        finally:
            for program in reversed(programs):
                program.stop()
            if options.keep:
                for log in directory.glob("*.stderr"):
                    (options.keep / log.name).write_bytes(log.read_bytes())
    outcome = conclude(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return outcome
