// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The version of this program, as `--version` prints it.
enum Version {
    static let current = "0.1.0"
}
