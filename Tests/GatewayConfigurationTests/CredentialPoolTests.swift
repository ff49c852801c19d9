// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import Testing

@testable import GatewayConfiguration

/// One vector: the members of `auth`, what becomes of them, and every finding.
struct PoolVector: Sendable, CustomTestStringConvertible {
    var id: String
    var auth: String
    var tokens: [String]?
    var mode: CredentialPoolConfiguration.RotationMode?
    var attempts: Int?
    var codes: [String]

    var testDescription: String { self.id }

    static func pool(
        _ id: String,
        _ auth: String,
        _ tokens: [String],
        _ mode: CredentialPoolConfiguration.RotationMode,
        _ attempts: Int,
        _ codes: [String] = []
    ) -> PoolVector {
        PoolVector(id: id, auth: auth, tokens: tokens, mode: mode, attempts: attempts, codes: codes)
    }

    static func none(_ id: String, _ auth: String, _ codes: [String]) -> PoolVector {
        PoolVector(id: id, auth: auth, codes: codes)
    }
}

/// The vectors of credentials §4.1; K16 to K18 are in `AuthTokensTests`, K05 to K07, K09, K15 and K19 also in `Broken`.
@Suite("Credential pools") struct CredentialPoolTests {
    static let table: [PoolVector] = [
        .pool("K01", #""tokens": ["A"]"#, ["A"], .static, 1),
        .pool("K02", #""tokens": ["A"], "rotationMode": "on-first-failed""#, ["A"], .static, 1),
        .pool("K03", #""tokens": ["A", "B"]"#, ["A", "B"], .roundRobin, 1, ["rotation-mode-default"]),
        .pool(
            "K04",
            #""tokens": ["A", "", "B"], "rotationMode": "on-first-failed""#,
            ["A", "B"],
            .onFirstFailed,
            2,
            ["token-skipped"]
        ),
        .none(
            "K05",
            #""tokens": ["", "  "], "rotationMode": "round-robin""#,
            ["token-skipped", "rotation-without-tokens"]
        ),
        .none("K06", #""tokens": [], "rotationMode": "round-robin""#, ["rotation-without-tokens"]),
        .none("K07", #""tokens": ["", ""]"#, ["no-usable-token", "token-skipped"]),
        .pool(
            "K08",
            #""tokens": ["A", "A", "B"], "rotationMode": "round-robin""#,
            ["A", "A", "B"],
            .roundRobin,
            1,
            ["duplicate-token"]
        ),
        .none("K09 0", #""tokens": ["A"], "maxRetries": 0"#, ["out-of-range"]),
        .none("K09 -1", #""tokens": ["A"], "maxRetries": -1"#, ["out-of-range"]),
        .none("K09 1.5", #""tokens": ["A"], "maxRetries": 1.5"#, ["wrong-type"]),
        .none("K09 text", #""tokens": ["A"], "maxRetries": "2""#, ["wrong-type"]),
        .pool(
            "K10 OFF",
            #""tokens": ["A", "B"], "rotationMode": "on-first-failed", "maxRetries": 9"#,
            ["A", "B"],
            .onFirstFailed,
            2,
            ["max-retries-capped"]
        ),
        .pool(
            "K10 RR",
            #""tokens": ["A", "B"], "rotationMode": "round-robin", "maxRetries": 9"#,
            ["A", "B"],
            .roundRobin,
            2,
            ["max-retries-capped"]
        ),
        .pool("K11", #""tokens": ["A", "B"], "rotationMode": "on-first-failed""#, ["A", "B"], .onFirstFailed, 2),
        .pool("K12", #""tokens": ["A", "B"], "rotationMode": "round-robin""#, ["A", "B"], .roundRobin, 1),
        .pool(
            "RR 2 of 3",
            #""tokens": ["A", "B", "C"], "rotationMode": "round-robin", "maxRetries": 2"#,
            ["A", "B", "C"],
            .roundRobin,
            2
        ),
        .pool(
            "OFF 1 of 3",
            #""tokens": ["A", "B", "C"], "rotationMode": "on-first-failed", "maxRetries": 1"#,
            ["A", "B", "C"],
            .onFirstFailed,
            1
        ),
        .none("K15", #""tokens": ["A"], "rotationMode": "random""#, ["invalid-value"]),
        .none("K19", #""tokens": ["A\r\nX-Evil: 1"]"#, ["invalid-token"]),
        .none("N5 non-ASCII", #""tokens": ["ä"]"#, ["invalid-token"]),
        .pool(
            "N6",
            #""tokens": [" A ", "B\n"], "rotationMode": "round-robin""#,
            ["A", "B"],
            .roundRobin,
            1,
            ["token-whitespace"]
        ),
        .pool("N7", #""tokens": ["bearer A"]"#, ["bearer A"], .static, 1, ["token-scheme"]),
        .none("N9 without tokens", #""rotationMode": "round-robin""#, ["rotation-without-tokens"]),
        .none("N10 empty list", #""tokens": []"#, ["empty-token-list"]),
        .none("empty object", "", []),
        .none("null tokens", #""tokens": null"#, []),
    ]

    @Test("Tokens become slots, mode and attempts as the vectors say", arguments: Self.table)
    func vectors(vector: PoolVector) {
        let result = load(document(options: "\"auth\": {\(vector.auth)}"))
        let isError = result.findings.contains { $0.severity == .error }
        #expect(result.codes == vector.codes)
        #expect((result.snapshot == nil) == isError)
        guard !isError else { return }
        #expect(result.pool?.tokens.map { $0.reveal() } == vector.tokens)
        #expect(result.pool?.mode == vector.mode)
        #expect(result.pool?.attemptLimit == vector.attempts)
    }

    @Test("K04, K08: the warning names the positions and no value")
    func positions() {
        let skipped = load(document(options: #""auth": {"tokens": ["tok-one", "", "tok-two", " "]}"#)).findings[1]
        #expect(skipped.code == .tokenSkipped)
        #expect(skipped.path == "mcpServers.one.options.auth.tokens[1]")
        #expect(skipped.message.contains("1, 3"))
        let duplicate = load(
            document(options: #""auth": {"tokens": ["tok-one", "x", "tok-one"], "rotationMode": "round-robin"}"#)
        )
        .findings[0]
        #expect(duplicate.path == "mcpServers.one.options.auth.tokens[2]")
        for finding in [skipped, duplicate] { #expect(!"\(finding)".contains("tok-")) }
    }

    @Test("K13: a header Authorization in any case gives way to the pool, with one warning")
    func headerGivesWay() throws {
        let result = load(
            document(
                server:
                    #""url": "https://h/", "headers": {"authorization": "Bearer X", "X-A": "1"}, "options": {"auth": {"tokens": ["A"]}}"#
            )
        )
        #expect(result.http?.headers.map(\.name) == ["X-A"])
        #expect(result.codes == ["authorization-overridden"])
        #expect(result.findings.first?.path == "mcpServers.one.headers.authorization")
    }

    @Test("K14: without a usable token the header stays, and only the empty list is warned of")
    func headerStays() {
        let result = load(
            document(
                server: #""url": "https://h/", "headers": {"AUTHORIZATION": "X"}, "options": {"auth": {"tokens": []}}"#
            )
        )
        #expect(result.http?.headers.map(\.name) == ["AUTHORIZATION"])
        #expect(result.codes == ["empty-token-list"])
    }

    @Test("N18: statuses and affinity arrive, and have their defaults")
    func others() {
        let plain = load(document(options: #""auth": {"tokens": ["A"]}"#)).pool
        #expect(plain?.retryOn == [401, 403])
        #expect(plain?.affinity == .request)
        let full = load(document(options: #""auth": {"tokens": ["A"], "retryOn": [401], "affinity": "session"}"#)).pool
        #expect(full?.retryOn == [401])
        #expect(full?.affinity == .session)
        #expect(load(document(options: #""auth": {"tokens": ["A"], "retryOn": []}"#)).pool?.retryOn == [])
    }

    @Test("K20: two servers have pools of their own")
    func independent() throws {
        let server =
            #"{"url": "https://h/", "options": {"auth": {"tokens": ["A", "B"], "rotationMode": "round-robin"}}}"#
        let result = load(
            """
            {"mcpProxy": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1"},
            "mcpServers": {"one": \(server), "two": \(server)}}
            """
        )
        let pools = try #require(result.snapshot).upstreams
            .compactMap { upstream -> [Secret]? in
                guard case .http(let http) = upstream.transport else { return nil }
                return http.credentials?.tokens
            }
        #expect(pools == [[Secret("A"), Secret("B")], [Secret("A"), Secret("B")]])
    }

    @Test(
        "A token that is sent in clear text to another machine is warned of",
        arguments: [
            (#""url": "http://h/", "options": {"auth": {"tokens": ["A"]}}"#, ["clear-text-credentials"]),
            (#""url": "http://h/", "headers": {"Authorization": "A"}"#, ["clear-text-credentials"]),
            (#""url": "http://h/", "headers": {"X": "A"}"#, []),
            (#""url": "http://localhost/", "options": {"auth": {"tokens": ["A"]}}"#, []),
            (#""url": "https://h/", "options": {"auth": {"tokens": ["A"]}}"#, []),
            (
                #""url": "http://h/", "options": {"auth": {"tokens": ["A"]}, "proxy": "http://p:1"}"#,
                ["clear-text-credentials", "proxy-sees-token"]
            ),
            (
                #""url": "http://h/", "options": {"auth": {"tokens": ["A"]}, "proxy": "http://127.0.0.1:1"}"#,
                ["clear-text-credentials"]
            ),
        ]
    )
    func clearText(server: String, codes: [String]) {
        #expect(load(document(server: server)).codes == codes)
    }
}
