// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Giving memory back") struct MemoryReleaseTests {
    private static let mebibyte = 1024 * 1024

    @Test("Memory is given back when the process grew, once for what it keeps, and again when what it did is over")
    func life() {
        var release = MemoryRelease(resident: 20 * Self.mebibyte, now: .zero)
        /// Whether it is given back at this size and load, and if so down to `left`.
        func isGivenBack(_ resident: Int, load: Int, left: Int) -> Bool {
            let load = load * Self.mebibyte
            guard release.isDue(resident: resident * Self.mebibyte, load: load, now: .zero) else { return false }
            release.released(resident: left * Self.mebibyte, load: load, now: .zero)
            return true
        }
        #expect(!isGivenBack(83, load: 30, left: 83))
        #expect(isGivenBack(300, load: 200, left: 290))
        #expect(!isGivenBack(300, load: 200, left: 290))
        #expect(!isGivenBack(320, load: 100, left: 290))
        #expect(isGivenBack(320, load: 99, left: 100))
        #expect(!isGivenBack(100, load: 60, left: 100))
        #expect(isGivenBack(100, load: 10, left: 30))
        #expect(!isGivenBack(30, load: 0, left: 30))
    }

    @Test("What grows slowly is given back once in five minutes, if it is worth it")
    func slowGrowth() {
        var release = MemoryRelease(resident: 20 * Self.mebibyte, now: .zero)
        /// Whether it is given back at this size and second, and if so down to `left`.
        func isGivenBack(_ resident: Int, at second: Int, left: Int) -> Bool {
            let now = Duration.seconds(second)
            guard release.isDue(resident: resident * Self.mebibyte, load: 0, now: now) else { return false }
            release.released(resident: left * Self.mebibyte, load: 0, now: now)
            return true
        }
        #expect(!isGivenBack(40, at: 299, left: 40))
        #expect(isGivenBack(40, at: 300, left: 35))
        #expect(!isGivenBack(45, at: 599, left: 45))
        #expect(!isGivenBack(38, at: 600, left: 38))
        #expect(isGivenBack(39, at: 601, left: 36))
        #expect(isGivenBack(100, at: 602, left: 40))
        #expect(!isGivenBack(60, at: 900, left: 60))
    }
}
