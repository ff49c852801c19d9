# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""For mitmdump: writes a line of JSON for each request inside of a tunnel."""

import json


def request(flow):
    pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in flow.request.headers.fields]
    print(json.dumps({"method": flow.request.method, "path": flow.request.path, "fields": pairs}), flush=True)
