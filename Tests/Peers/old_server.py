#!/usr/bin/env python3
# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""A server over stdio on an old SDK (mcp 1.2), as people have them: its tools are synchronous, and block all of it.

usage: old_server.py JOURNAL      a line of the journal is {"pid": N} for a start
"""

import json
import os
import sys
import time

from mcp.server.fastmcp import FastMCP

server = FastMCP("old")
notes: list[str] = []


@server.tool()
def note(text: str) -> str:
    """Keeps a text in memory; the answer is all that it keeps."""
    notes.append(text)
    return " ".join(notes)


@server.tool()
def block(seconds: float) -> str:
    """Is busy, so that nothing else is answered meanwhile."""
    time.sleep(seconds)
    return "done"


with open(sys.argv[1], "a") as journal:
    journal.write(json.dumps({"pid": os.getpid()}) + "\n")
server.run("stdio")
