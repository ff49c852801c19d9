// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayRuntime

@Suite("Inbound tokens") struct TokenDigestTests {
    @Test("A digest is the same for equal tokens and for no others, and does not show the token")
    func digests() {
        let texts = (0..<1_000).map { "token-\($0)" }
        let digests = texts.map { TokenDigest(of: Secret($0)) }
        #expect(Set(digests).count == texts.count)
        #expect(digests == texts.map { TokenDigest(of: Secret($0)) })
        #expect(!"\(digests[7])".contains("token"))
    }

    @Test(
        "Nobody is shut out by tokens that have all those before, in whatever order, nor where there were none and are none",
        arguments: [
            (["a", "b"], ["b", "a"], true), (["a"], ["b", "a"], true), (["a", "b"], ["a"], false), ([], [], true),
            ([], ["a"], false), (["a"], [], false),
        ] as [([String], [String], Bool)]
    )
    func within(before: [String], after: [String], isWithin: Bool) {
        let (before, after) = (InboundTokens(before.map { Secret($0) }), InboundTokens(after.map { Secret($0) }))
        #expect(before.isWithin(after) == isWithin)
    }

    @Test("A presented token is known by its digest, and one that is none of them by nothing")
    func presented() {
        let tokens = InboundTokens([Secret("a"), Secret("b")])
        #expect(tokens.digest(of: Array("b".utf8).span) == TokenDigest(of: Secret("b")))
        #expect(tokens.digest(of: Array("c".utf8).span) == nil)
        #expect(!tokens.admit(nil) && tokens.admit(TokenDigest(of: Secret("a"))))
        #expect(InboundTokens([]).admit(nil))
    }
}
