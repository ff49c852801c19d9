// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("Kinds of refusal") struct RefusalKindTests {
    struct Case: CustomTestStringConvertible {
        var name: String
        var status = 403
        var bearerError: String?
        var hasChallenge = false
        var isLimited = false
        var isBareError = false
        var kind: RefusalKind
        var testDescription: String { self.name }
    }

    @Test(
        "A refusal is of the first kind of credentials §2.7 that fits",
        arguments: [
            Case(name: "nothing said", kind: .rejected),
            Case(name: "401, nothing said", status: 401, kind: .rejected),
            Case(name: "401, revoked", status: 401, bearerError: "invalid_token", hasChallenge: true, kind: .rejected),
            Case(name: "403, revoked", bearerError: "invalid_token", hasChallenge: true, kind: .rejected),
            Case(name: "another challenge", hasChallenge: true, kind: .rejected),
            Case(name: "W01", bearerError: "insufficient_scope", hasChallenge: true, kind: .insufficientScope),
            Case(
                name: "scope before a limit and a bare error",
                bearerError: "insufficient_scope",
                hasChallenge: true,
                isLimited: true,
                isBareError: true,
                kind: .insufficientScope
            ),
            Case(name: "a limit", isLimited: true, kind: .quota),
            Case(name: "a limit before a bare error", isLimited: true, isBareError: true, kind: .quota),
            Case(
                name: "a limit before a revoked credential",
                bearerError: "invalid_token",
                hasChallenge: true,
                isLimited: true,
                kind: .quota
            ),
            Case(name: "401 with Retry-After is no limit", status: 401, isLimited: true, kind: .rejected),
            Case(name: "an error without an id", isBareError: true, kind: .policy),
            Case(
                name: "an error without an id, and a challenge",
                hasChallenge: true,
                isBareError: true,
                kind: .rejected
            ),
            Case(name: "401 with an error without an id", status: 401, isBareError: true, kind: .rejected),
        ]
    )
    func table(_ example: Case) {
        let kind = RefusalKind(
            status: example.status,
            bearerError: example.bearerError,
            hasChallenge: example.hasChallenge,
            isLimited: example.isLimited,
            isBareError: example.isBareError
        )
        #expect(kind == example.kind)
    }

    @Test("A kind has the word that operators read", arguments: zip(RefusalKind.allCases, words))
    func word(kind: RefusalKind, word: String) {
        #expect(kind.rawValue == word)
    }

    static let words = ["rejected", "insufficient_scope", "quota", "policy"]
}
