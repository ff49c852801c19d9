# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Starts programs in Python by forking a process that has imported already what they need: a tenth of the time.

Only for programs that need nothing but the standard library. Run as a program this is the process that forks; `Nursery`
starts it, and asks it over a socket.
"""

import array
import asyncio  # noqa: F401
import base64  # noqa: F401
import collections  # noqa: F401
import ctypes
import gc
import gzip  # noqa: F401
import hashlib  # noqa: F401
import http.server  # noqa: F401
import json
import os
import secrets  # noqa: F401
import select
import signal
import socket
import socketserver  # noqa: F401
import ssl  # noqa: F401
import subprocess
import sys
import urllib.parse  # noqa: F401
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LONGEST = 65536
"""Bytes of a request, which is one packet."""


class Forked:
    """A program that was forked, as far as tests need what `subprocess.Popen` has. Nobody learns its exit code."""

    def __init__(self, pid: int, pipes: tuple[int, int, int]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = (os.fdopen(pipe, mode, 0) for pipe, mode in zip(pipes, ("wb", "rb", "rb")))
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Something that is not None once it has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired("a program of the nursery", timeout or 0)
        return -1

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            poller = select.poll()
            poller.register(self._handle, select.POLLIN)
            if poller.poll(None if timeout is None else timeout * 1000):
                self.returncode = -1
                os.close(self._handle)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Nursery:
    """The process that forks; it ends with the one that started it."""

    def __init__(self, python: Path, environment: dict[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [str(python), "-B", __file__, str(theirs.fileno())], env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
        theirs.close()

    def start(self, argv: list[str]) -> Forked:
        """Forks the program `argv[0]`, a file in Python, with pipes as its standard streams."""
        pipes = [os.pipe() for _ in range(3)]
        (stdin, _), (_, stdout), (_, stderr) = pipes
        given = array.array("i", [stdin, stdout, stderr])
        self._socket.sendmsg([json.dumps(argv).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
        for descriptor in given:
            os.close(descriptor)
        pid = int(self._socket.recv(_LONGEST))
        return Forked(pid, (pipes[0][1], pipes[1][0], pipes[2][0]))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(argv: list[str], code: object, descriptors: list[int]) -> None:
    """In the child: goes on as the program."""
    _die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, max(descriptors) + 1)
    sys.argv = argv
    sys.path[0] = str(Path(argv[0]).parent)
    exec(code, {"__name__": "__main__", "__file__": argv[0], "__builtins__": __builtins__})


def _serve(requests: socket.socket) -> None:
    _die_with_parent()
    # Nobody waits for the programs: the system forgets them as they end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    programs: dict[str, object] = {}
    gc.freeze()
    while True:
        message, given, _, _ = requests.recvmsg(_LONGEST, socket.CMSG_SPACE(3 * 4))
        if not message:
            return
        argv = json.loads(message)
        descriptors = array.array("i", given[0][2]).tolist()
        if argv[0] not in programs:
            programs[argv[0]] = compile(Path(argv[0]).read_text(), argv[0], "exec")
        pid = os.fork()
        if pid == 0:
            requests.close()
            code = 0
            try:
                _become(argv, programs[argv[0]], descriptors)
            except SystemExit as exit:
                code = exit.code if isinstance(exit.code, int) else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 1
            sys.stdout.flush()
            os._exit(code)
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(str(pid).encode())


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
