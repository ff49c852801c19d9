// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

extension JSONText {
    /// `string` as a literal with its quotes.
    static func quoted(_ string: some StringProtocol) -> String {
        var bytes: [UInt8] = []
        Self.append(string: string, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}
