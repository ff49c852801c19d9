# This source file is part of mcp-proxy.
# SPDX-License-Identifier: Apache-2.0
"""The storm: callers, upstreams and children that misbehave at random from one seed, and what must hold all the same."""
