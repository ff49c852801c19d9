// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

/// The connections of memory stand for these: both keep the same.
@Suite("A connection over a socket", .timeLimit(.minutes(1))) struct LoopbackSocketTests {
    @Test("It keeps what the tests take for granted", arguments: WirePromise.allCases)
    func keeps(promise: WirePromise) async throws {
        try await Wire.$current.withValue(.sockets) { try await promise.check() }
    }
}
