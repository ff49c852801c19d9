#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""Keeps a program that becomes another user, and so would outlive a parent that is killed. Standard library only.

usage: keeper.py GLOB PROGRAM [ARGUMENT...]     in a process group of its own, which ends when the program does, or when our
                                                standard input does; then the files that match are removed ("": none)
"""

import ctypes
import glob
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
# Who dies with the parent keeps nothing.
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)
program = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, start_new_session=True)
select.select([os.pidfd_open(program.pid), sys.stdin], [], [])
try:
    os.killpg(program.pid, signal.SIGKILL)
except ProcessLookupError:
    pass
status = program.wait()
for path in glob.glob(sys.argv[1]):
    os.unlink(path)
sys.exit(status)
