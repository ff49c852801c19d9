// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@Suite("Secret") struct SecretTests {
    static let canary = "CANARY-secret-0123456789abcdef"

    @Test("A secret turned into text in any way shows the mask and nothing of its value")
    func neverPrints() {
        let secret = Secret(Self.canary)
        var dumped = ""
        dump([secret], to: &dumped)
        for text in ["\(secret)", String(reflecting: secret), String(describing: [secret: 1]), dumped] {
            #expect(!text.contains("CANARY"))
            #expect(text.contains(Secret.mask))
        }
    }

    @Test(
        "Only the very same bytes match",
        arguments: [("abc", true), ("abd", false), ("ab", false), ("abcabc", false), ("", false), ("abcd", false)]
    )
    func matches(presented: String, expected: Bool) {
        let bytes = Array(presented.utf8)
        let matched = Secret("abc").matches(bytes.span)
        #expect(matched == expected)
    }

    @Test("An empty secret matches nothing, not even nothing")
    func emptyNeverMatches() {
        let nothing: [UInt8] = []
        let matched = Secret("").matches(nothing.span)
        #expect(!matched)
    }
}
