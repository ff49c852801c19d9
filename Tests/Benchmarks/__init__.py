# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What measurements have in common."""
