# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Honest callers: calls at even distances over kept connections, whether or not those before are answered.

A process of its own, so that nothing else that measures delays it: `honest.py ARGUMENTS` with a JSON object of `seconds`,
`log` and `lanes`; each lane has a `port`, `request`, `rate` and `connections`. Prints one JSON object. The time of a call
counts from when it was due, so that a gateway that stops for a while pays for every call that was due meanwhile
(coordinated omission). Every lane has its turns at even distances, on the next of its connections; where that waits for
an answer still, so does the call.
"""

import collections
import gc
import json
import os
import re
import resource
import select
import socket
import sys
import time

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
PATIENCE = 15
"""Seconds that the last answers may take after the end."""


class Caller:
    """One kept connection."""

    __slots__ = ("lane", "socket", "due", "waiting", "received")

    def __init__(self, lane):
        self.lane = lane
        self.due = None
        self.waiting = collections.deque()
        self.connect()

    def connect(self):
        self.socket = socket.create_connection(("127.0.0.1", self.lane.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def fileno(self):
        return self.socket.fileno()

    def call(self, due, now):
        if self.due is not None:
            return self.waiting.append(due)
        self.lane.lateness.append(now - due)
        self.send(due)

    def send(self, due):
        self.due = due
        try:
            self.socket.send(self.lane.request)
        except OSError as error:
            self.failed(type(error).__name__)

    def readable(self):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            return self.failed(type(error).__name__)
        if not data:
            return self.failed("closed")
        self.received = self.received + data if self.received else data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        length = LENGTH.search(self.received, 0, end + 2)
        if length is not None and len(self.received) - end - 4 < int(length[1]):
            return None
        now = time.monotonic()
        if self.due is None:
            return self.failed("unasked")
        if self.received[:12] != b"HTTP/1.1 200" or b'"result"' not in self.received:
            self.lane.failures[self.received[:12].decode("latin-1")] += 1
        self.lane.times.append((self.due, now - self.due))
        self.received = b""
        self.next()

    def next(self):
        self.due = None
        if self.waiting:
            self.send(self.waiting.popleft())

    def failed(self, why):
        """The connection is of no use any more: its call failed, and the next has a new one."""
        self.lane.failures[why] += 1
        self.socket.close()
        self.connect()
        self.next()


class Lane:
    """Calls to one port at one rate."""

    def __init__(self, port, request, rate, connections):
        self.port, self.request, self.rate = port, request.encode(), rate
        self.times, self.lateness = [], []
        self.failures = collections.Counter()
        self.made = 0
        self.callers = [Caller(self) for _ in range(connections)]

    def due(self):
        return self.began + self.made / self.rate

    def calls(self, now):
        while (due := self.due()) <= now and due < self.end:
            self.callers[self.made % len(self.callers)].call(due, now)
            self.made += 1

    def report(self):
        times = sorted(took for _, took in self.times)
        lost = self.made - len(times)
        late = sorted(self.lateness)

        def part(of, share):
            return of[min(len(of) - 1, int(len(of) * share))] * 1e6 if of else None

        return {
            "made": self.made,
            "answered": len(times),
            "failed": max(lost, sum(self.failures.values())),
            "failures": dict(self.failures),
            "p50": part(times, 0.5),
            "p90": part(times, 0.9),
            "p99": part(times, 0.99),
            "p999": part(times, 0.999),
            "max": part(times, 1),
            "late p99": part(late, 0.99),
        }


def drive(lanes, seconds):
    gc.disable()
    began = time.monotonic() + 0.05
    for position, lane in enumerate(lanes):
        # The lanes do not call at the same moments.
        lane.began, lane.end = began + position * 0.00037, began + seconds
    callers = [caller for lane in lanes for caller in lane.callers]
    while True:
        now = time.monotonic()
        due = min(lane.due() for lane in lanes)
        if due >= began + seconds:
            if now > began + seconds + PATIENCE or not any(caller.due is not None for caller in callers):
                return
            due = now + 0.05
        # Of all ways to wait this is the one with microseconds.
        ready, _, _ = select.select(callers, (), (), max(0, due - now))
        for caller in ready:
            caller.readable()
        now = time.monotonic()
        for lane in lanes:
            lane.calls(now)


def main():
    arguments = json.loads(sys.argv[1])
    lanes = [Lane(**lane) for lane in arguments["lanes"]]
    before = resource.getrusage(resource.RUSAGE_SELF)
    drive(lanes, arguments["seconds"])
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if arguments.get("log"):
        with open(arguments["log"], "w") as log:
            for due, took in lanes[0].times:
                print(f"{due:.6f} {took * 1e6:.0f}", file=log)
    print(json.dumps({"cpu": spent / arguments["seconds"], "lanes": [lane.report() for lane in lanes]}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
