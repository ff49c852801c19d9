# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The crowd: one process with one epoll that holds thousands of connections, and opens a new one for each that ends.

`members.py ARGUMENTS` with a JSON object; on standard input it takes `on`, `off` and `say`, a line each, and answers each
with its counts as a line of JSON. Connections are opened at a bounded rate, a few at a time, and while the crowd is off the
process sleeps. Callers come from several addresses of the loopback network, so that ports do not run out.
"""

import collections
import gc
import json
import os
import re
import select
import socket
import struct
import sys
import time

TICK = 0.002
ADDRESSES = 8
NARROW = 4096
"""Bytes of answers that the system takes by itself for a caller that does not read."""
ETHERNET = 1460
"""The segments of such a caller: with those of the loopback the gateway's system would take 2.5 MB off its hands."""
RESET = struct.pack("ii", 1, 0)
GONE = select.EPOLLERR | select.EPOLLHUP
BIND_WITHOUT_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


class Member:
    """One connection."""

    __slots__ = ("socket", "kind", "request", "opened", "isConnected", "hasAnswer", "stream", "asked")

    def __init__(self, kind, request, stream=None):
        self.kind, self.request, self.stream = kind, request, stream
        self.opened = time.monotonic()
        self.isConnected = self.hasAnswer = False
        self.asked = 0
        self.socket = socket.socket()
        self.socket.setblocking(False)
        kind.shape(self.socket)
        self.socket.setsockopt(socket.IPPROTO_IP, BIND_WITHOUT_PORT, 1)
        self.socket.bind((f"127.0.1.{1 + kind.count % ADDRESSES}", 0))
        self.socket.connect_ex(("127.0.0.1", kind.crowd.port))


class Kind:
    """Members that do the same: at most `most` at a time, `rate` new ones a second."""

    name = ""
    events = select.EPOLLIN

    def __init__(self, crowd, most, rate, requests):
        self.crowd, self.most, self.rate, self.requests = crowd, most, rate, requests
        self.open, self.count, self.budget = 0, 0, 0.0
        self.ended = collections.Counter()
        self.ages = {why: [1e9, 0.0] for why in ("408", "cut")}
        """The least and the most seconds that those had who were ended so."""
        self.timed = collections.deque()
        """Who is to do something, and when; always after the same time, so that they are in order."""

    def shape(self, socket):
        """Before it connects."""

    def admit(self, passed):
        """Opens what is missing, as far as the rate allows."""
        self.budget = min(self.budget + self.rate * passed, max(1.0, self.rate * 0.02))
        while self.budget >= 1 and self.open < self.most:
            self.budget -= 1
            member = Member(self, self.requests[self.count % len(self.requests)])
            self.count += 1
            self.open += 1
            self.crowd.add(member)

    def end(self, member, why):
        self.ended[why] += 1
        self.open -= 1
        if why in self.ages:
            age = time.monotonic() - member.opened
            self.ages[why] = [min(self.ages[why][0], age), max(self.ages[why][1], age)]
        self.crowd.remove(member)

    def happened(self, member, mask):
        if not member.isConnected:
            if mask & GONE:
                return self.end(member, "not connected")
            member.isConnected = True
            self.connected(member)
            if member.socket is not None:
                self.crowd.poll.modify(member.socket, self.events)
        elif mask & select.EPOLLIN and self.events & select.EPOLLIN:
            self.readable(member)
        elif mask & (GONE | select.EPOLLRDHUP):
            self.end(member, "cut")

    def later(self, member, seconds, now=None):
        self.timed.append(((now or time.monotonic()) + seconds, member))

    def turn(self, now):
        while self.timed and self.timed[0][0] <= now:
            member = self.timed.popleft()[1]
            if member.socket is not None:
                self.due(member, now)

    def send(self, member, data):
        try:
            member.socket.send(data)
        except OSError:
            self.end(member, "cut")


def status(data):
    return data[9:12].decode("latin-1") if data.startswith(b"HTTP/1.") else "no answer"


class Slow(Kind):
    """Sends a part of a head, and then a byte of it now and then."""

    name = "slow"
    PAUSE = 3.0

    def connected(self, member):
        self.send(member, member.request)
        if member.socket is not None:
            self.later(member, self.PAUSE)

    def due(self, member, now):
        self.send(member, b"x")
        if member.socket is not None:
            self.later(member, self.PAUSE, now)

    def readable(self, member):
        try:
            data = member.socket.recv(4096)
        except OSError:
            return self.end(member, "cut")
        self.end(member, status(data) if data else "closed")


class Silent(Kind):
    """Asks for a large answer and never reads it."""

    name = "silent"
    events = select.EPOLLRDHUP
    LOOK = 5.0

    def shape(self, plain):
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, ETHERNET)

    def connected(self, member):
        self.send(member, member.request)
        if member.socket is not None:
            self.later(member, self.LOOK)

    def due(self, member, now):
        """Whether it got what it does not want to read: looks at the answer, and leaves it where it is."""
        try:
            data = member.socket.recv(64, socket.MSG_PEEK)
        except BlockingIOError:
            self.ended["waits for an answer"] += 1
            return self.later(member, self.LOOK, now)
        except OSError:
            return self.end(member, "cut")
        if status(data) != "200":
            return self.end(member, status(data))
        member.hasAnswer = True


class Legacy(Silent):
    """Opens the stream of the old transport, asks on other connections, last for a large answer, and never reads one."""

    name = "legacy"
    LOOK = 1.0
    ENDPOINT = re.compile(rb"data: (/\S+)\n")

    def due(self, member, now):
        try:
            data = member.socket.recv(2048, socket.MSG_PEEK)
        except OSError:
            data = b""
        if status(data) not in ("200", "no answer"):
            return self.end(member, status(data))
        if (endpoint := self.ENDPOINT.search(data)) is None:
            self.ended["waits for an endpoint"] += 1
            return self.later(member, self.LOOK, now)
        posts = self.crowd.posts
        posts.count += 1
        posts.open += 1
        request = posts.requests[member.asked].replace(b"POST / ", b"POST " + endpoint[1] + b" ", 1)
        self.crowd.add(Member(posts, request, stream=member))
        member.asked += 1
        if member.asked < len(posts.requests):
            self.later(member, self.LOOK, now)


class Posts(Kind):
    """The connections on which those ask."""

    name = "posts"

    def connected(self, member):
        self.send(member, member.request)

    def readable(self, member):
        try:
            data = member.socket.recv(4096)
        except OSError:
            return self.end(member, "cut")
        member.stream.hasAnswer = status(data) == "202" and member.stream.asked == len(self.requests)
        self.end(member, status(data) if data else "closed")


class Leaving(Kind):
    """Asks for a large answer, reads for a while and leaves in the middle of it: with a reset, or as one that closes."""

    name = "leaving"
    STAY = 2.0
    left = 0

    def connected(self, member):
        self.send(member, member.request)
        if member.socket is not None:
            self.later(member, self.STAY)

    def readable(self, member):
        try:
            while data := member.socket.recv(65536):
                if not member.hasAnswer:
                    if status(data) != "200":
                        return self.end(member, status(data))
                    member.hasAnswer = True
                if len(data) < 65536:
                    return None
        except BlockingIOError:
            return None
        except OSError:
            return self.end(member, "cut")
        self.end(member, "cut")

    def due(self, member, now):
        if not member.hasAnswer:
            return self.end(member, "left without an answer")
        self.left += 1
        if self.left // 2 % 2:
            member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return self.end(member, "left with a reset")
        # With something unread a close would be a reset as well.
        self.readable(member)
        if member.socket is not None:
            self.end(member, "left with an end")


class Crowd:
    def __init__(self, arguments):
        self.port = arguments["port"]
        self.poll = select.epoll()
        self.members = {}
        self.kinds = [
            kind(self, most, rate, [request.encode() for request in requests])
            for kind in (Slow, Silent, Legacy, Posts, Leaving)
            for most, rate, requests in [arguments["kinds"][kind.name]]
        ]
        self.posts = self.kinds[3]
        self.isOn = False

    def add(self, member):
        self.members[member.socket.fileno()] = member
        self.poll.register(member.socket, select.EPOLLOUT)

    def remove(self, member):
        del self.members[member.socket.fileno()]
        member.socket.close()
        member.socket = None

    def say(self):
        report = {
            kind.name: {
                "open": kind.open,
                "most": kind.most,
                "opened": kind.count,
                "answered": sum(member.hasAnswer for member in self.members.values() if member.kind is kind),
                "ended": dict(kind.ended),
                "ages": {why: [round(age, 1) for age in ages] for why, ages in kind.ages.items() if ages[1]},
            }
            for kind in self.kinds
        }
        print(json.dumps({"at": time.monotonic(), "cpu": time.process_time(), "kinds": report}), flush=True)

    def off(self):
        self.isOn = False
        for member in list(self.members.values()):
            member.kind.end(member, "sent home")
        for kind in self.kinds:
            kind.timed.clear()
            kind.budget = 0.0

    def run(self):
        gc.disable()
        self.poll.register(0, select.EPOLLIN)
        before = time.monotonic()
        while True:
            for number, mask in self.poll.poll(TICK if self.isOn else None, 1024):
                if number == 0:
                    # One byte at a time, so that nothing is left in a buffer that epoll does not see.
                    line = b""
                    while not line.endswith(b"\n"):
                        byte = os.read(0, 1)
                        if not byte:
                            return
                        line += byte
                    if line == b"on\n":
                        self.isOn = True
                        before = time.monotonic()
                    elif line == b"off\n":
                        self.off()
                    self.say()
                elif member := self.members.get(number):
                    member.kind.happened(member, mask)
            if not self.isOn:
                continue
            now = time.monotonic()
            for kind in self.kinds:
                kind.turn(now)
                kind.admit(now - before)
            before = now


if __name__ == "__main__":
    Crowd(json.loads(sys.argv[1])).run()
    os._exit(0)
