// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// In tests a number is the credential that a pool minted after as many others: every pool begins with 0.
extension CredentialID: ExpressibleByIntegerLiteral {
    private static let table = CredentialPool(count: 100, mode: .static).slots.map(\.id)

    /// The credential with this number.
    public init(integerLiteral number: Int) { self = Self.minted(number) }

    static func minted(_ number: Int) -> CredentialID {
        Self.table[min(max(number, 0), Self.table.count - 1)]
    }
}

extension CredentialPool {
    /// Replaces the list; `origins` are the places in the list before, nil for a new value.
    mutating func reload(origins: [Int?], mode: Mode? = nil) {
        let before = self.slots.map(\.id)
        self.replace(with: origins.map { $0.map { before[$0] } }, mode: mode)
    }
}
