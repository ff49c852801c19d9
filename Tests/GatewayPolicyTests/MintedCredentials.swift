// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// In tests a number is the credential that a pool minted after as many others: every pool begins with 0.
extension CredentialID: ExpressibleByIntegerLiteral {
    private static let table = CredentialPool(count: 1_100, mode: .static).slots.map(\.id)

    /// The credential that a pool mints after `number` others.
    public init(integerLiteral number: Int) { self = Self.minted(number) }

    static func minted(_ number: Int) -> CredentialID {
        Self.table.indices.contains(number) ? Self.table[number] : .none
    }
}

extension CredentialPool {
    /// Replaces the list; `origins` are the places in the list before, nil for a new value.
    mutating func reload(origins: [Int?], mode: Mode? = nil) {
        let before = self.slots.map(\.id)
        self.replace(with: origins.map { $0.map { before[$0] } }, mode: mode)
    }
}
