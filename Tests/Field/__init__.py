# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The gateway between clients and servers that people have: programs of others, from PyPI, at pinned versions."""
