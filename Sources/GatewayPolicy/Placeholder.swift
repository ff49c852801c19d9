// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Placeholder until the first file of this module lands.
enum Placeholder {}
