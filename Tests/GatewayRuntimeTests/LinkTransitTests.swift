// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing

@testable import GatewayRuntime

@Suite("Bytes on their way to other event loops") struct LinkTransitTests {
    private static let mebibyte = 1024 * 1024

    @Test("Above 4 MiB a link is told to wait, and to go on, once, when half of it was taken")
    func window() {
        let counts = Counts()
        let transit = LinkTransit { counts.told.add(1, ordering: .relaxed) }
        for _ in 0..<4 {
            let isFull = transit.left(Self.mebibyte)
            #expect(!isFull)
        }
        #expect(!transit.isFull)
        let isFull = transit.left(1)
        #expect(isFull)
        #expect(transit.isFull)
        transit.arrived(2 * Self.mebibyte)
        #expect(transit.isFull)
        transit.arrived(1)
        #expect(!transit.isFull)
        transit.arrived(2 * Self.mebibyte)
        #expect(counts.told.load(ordering: .relaxed) == 1)
    }

    @Test("However senders and takers meet, what was told to wait is told to go on", .timeLimit(.minutes(1)))
    func race() async {
        let counts = Counts()
        let transit = LinkTransit { counts.told.add(1, ordering: .relaxed) }
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<20_000 {
                        if transit.left(Self.mebibyte) { counts.waited.add(1, ordering: .relaxed) }
                        transit.arrived(Self.mebibyte)
                    }
                }
            }
        }
        #expect(!transit.isFull)
        let (told, waited) = (counts.told.load(ordering: .relaxed), counts.waited.load(ordering: .relaxed))
        #expect(waited == 0 || told > 0)
    }

    private final class Counts: Sendable {
        let told = Atomic<Int>(0)
        let waited = Atomic<Int>(0)
    }
}
