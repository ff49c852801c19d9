// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("A connection in memory", .timeLimit(.minutes(1))) struct MemoryNetworkTests {
    @Test("It keeps what the tests take for granted", arguments: WirePromise.allCases)
    func keeps(promise: WirePromise) async throws {
        try await Wire.$current.withValue(.memory) { try await promise.check() }
    }
}
