# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What scripts/field is asked for: which part, with which programs, and what became of it."""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.gateway import binary
from harness.processes import ROOT

from . import clients, logs, servers
from .programs import PROGRAMS
from .webservers import WEBSERVERS

PARTS = {"clients": clients.run, "servers": servers.run, "log": logs.run}


def main(description: str) -> int:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("only", nargs="*", metavar="NAME", help="only these clients or servers")
    parser.add_argument("--binary", help="the program (default: the newest build)")
    parser.add_argument("--seconds", type=int, default=90, help="how long `log` listens to healthy servers (default: 90)")
    parser.add_argument("--side-by-side", type=int, default=os.cpu_count() or 1, help="how many at once (default: one a core)")
    options = parser.parse_intermixed_args()
    known = {"clients": [*clients.ENVIRONMENTS], "servers": [*PROGRAMS, *WEBSERVERS], "log": [*PROGRAMS]}[options.part]
    if strangers := set(options.only) - set(known):
        parser.error(f"no {', '.join(sorted(strangers))} here; there is: {', '.join(known)}")
    if options.binary:
        os.environ["MCP_PROXY_BINARY"] = options.binary
    subprocess.run([ROOT / "scripts" / "setup", "--field"], check=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(f"{binary()}: {options.part}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mcp-proxy-field-") as directory:
        failures = PARTS[options.part](Path(directory), options)
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{len(failures)} failures")
    sys.stdout.flush()
    return 1 if failures else 0
