# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""What scripts/crowd starts: callers that misbehave by the thousand, honest ones beside them, and how it judges."""
