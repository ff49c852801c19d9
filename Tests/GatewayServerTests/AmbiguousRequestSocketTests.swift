// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

/// One line of `Tests/Fixtures/http1-ambiguous-requests.jsonl`.
private struct AmbiguousRequest: Decodable, Sendable {
    let name: String
    /// The bytes as Latin-1.
    let raw: String
    /// The status of the answer; 0: accepted.
    let status: Int
    let note: String

    var bytes: [UInt8] { self.raw.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) } }

    static let all: [AmbiguousRequest] = {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = tests.appending(path: "Fixtures/http1-ambiguous-requests.jsonl")
        let lines = (try? String(contentsOf: file, encoding: .utf8))?.split(separator: "\n") ?? []
        return lines.compactMap { try? JSONDecoder().decode(AmbiguousRequest.self, from: Data($0.utf8)) }
    }()
}

@Suite("Ambiguous requests over a socket") struct AmbiguousRequestSocketTests {
    /// The last request of its connection, which nobody answers when the framing before it was in doubt.
    static let innocent = "GET /_healthz?innocent HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    /// Statuses of a request whose end is known all the same.
    static let goesOn: Set<Int> = [0, 403, 404, 421]

    @Test("Each line of the table gets its status once, and behind doubtful framing nothing is answered")
    func table() async throws {
        #expect(AmbiguousRequest.all.count > 300)
        try await Wire.$current.withValue(.sockets) { try await self.checkTable() }
    }

    private func checkTable() async throws {
        try await withGateway {
            $0.limits.bodyBytes = 64
        } _: { gateway in
            for start in stride(from: 0, to: AmbiguousRequest.all.count, by: 16) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for example in AmbiguousRequest.all[start...].prefix(16) {
                        group.addTask { try await Self.check(example, gateway) }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    private static func check(_ example: AmbiguousRequest, _ gateway: TestGateway) async throws {
        let client = try await gateway.connect()
        defer { client.close() }
        client.send(example.bytes + Array(Self.innocent.utf8))
        var rest = try await client.readToEnd().bytes
        var answers: [RawAnswer] = []
        while let answer = RawAnswer(rest, isHead: false, hasEnded: true) {
            if answer.status != 100 { answers.append(answer) }
            rest.removeFirst(answer.length)
        }
        #expect(rest.isEmpty, "\(example.name): bytes behind the last answer")
        guard let first = answers.first else {
            Issue.record("\(example.name) (\(example.note)): no answer")
            return
        }
        if example.status == 0 {
            // Accepted by its framing; what becomes of it then is its content's affair.
            #expect([200, 202, 400, 404, 405, 413].contains(first.status), "\(example.name): \(first.status)")
            if first.status == 400 { #expect(first.code == -32_700, "\(example.name): \(first.text)") }
        } else {
            #expect(first.status == example.status, "\(example.name) (\(example.note)): \(first.text)")
        }
        if !Self.goesOn.contains(example.status) {
            #expect(answers.count == 1, "\(example.name) (\(example.note)): answered \(answers.map(\.status))")
            #expect(first["connection"] == "close", "\(example.name)")
        }
    }
}
