// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Giving memory back") struct MemoryReleaseTests {
    private static let mebibyte = 1024 * 1024

    @Test("Memory is given back when the process grew, once for what it keeps, and again when what it did is over")
    func life() {
        var release = MemoryRelease(resident: 20 * Self.mebibyte)
        /// Whether it is given back at this size and load, and if so down to `left`.
        func isGivenBack(_ resident: Int, load: Int, left: Int) -> Bool {
            guard release.isDue(resident: resident * Self.mebibyte, load: load * Self.mebibyte) else { return false }
            release.released(resident: left * Self.mebibyte, load: load * Self.mebibyte)
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
}
