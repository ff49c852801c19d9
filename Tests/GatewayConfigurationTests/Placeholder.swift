// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Placeholder until the first test of this module lands.
enum Placeholder {}
