// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// In tests a number is the credential that a pool minted after as many others.
extension CredentialID: ExpressibleByIntegerLiteral {
    private static let table = CredentialPool(count: 10, mode: .static).slots.map(\.id)

    /// The credential that a pool mints after `number` others.
    public init(integerLiteral number: Int) {
        self = Self.table.indices.contains(number) ? Self.table[number] : .none
    }

    var number: Int { Self.table.firstIndex(of: self) ?? -1 }
}
