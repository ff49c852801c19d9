// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension GatewaySnapshot {
    /// Every value that must be masked in whatever is written, each once (contract §5).
    package var secrets: [Secret] { [] }
}
