// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import Testing

@Suite("A status of 400 and above") struct StatusReadingTests {
    struct Row: Sendable, CustomTestStringConvertible {
        var status: Int
        var body: StatusReading.Body
        /// Without a session, in one that was open, and in one that was opened again or asked for a moment ago.
        var readings: [StatusReading]

        init(_ status: Int, _ body: StatusReading.Body, _ readings: StatusReading...) {
            (self.status, self.body, self.readings) = (status, body, readings)
        }

        var testDescription: String { "\(self.status) \(self.body)" }
    }

    static let rows = [
        // The status that says it.
        Row(404, .foreign, .failure, .sessionLost, .sessionLost),
        Row(404, .sessionRefusal, .failure, .sessionLost, .sessionLost),
        Row(404, .error(code: -32_601, namesSession: false), .answer, .answer, .answer),
        Row(404, .error(code: nil, namesSession: false), .answer, .answer, .answer),
        Row(404, .error(code: -32_001, namesSession: false), .answer, .sessionLost, .answer),
        Row(404, .error(code: -32_000, namesSession: false), .answer, .sessionLost, .answer),
        Row(404, .error(code: -32_600, namesSession: true), .answer, .sessionLost, .answer),
        Row(400, .error(code: -32_600, namesSession: true), .answer, .sessionInDoubt, .answer),
        Row(500, .error(code: -32_600, namesSession: true), .answer, .answer, .answer),
        Row(404, .result, .answer, .answer, .answer),
        // Those that may say it.
        Row(400, .foreign, .failure, .sessionInDoubt, .failure),
        Row(410, .foreign, .failure, .sessionInDoubt, .failure),
        Row(422, .foreign, .failure, .sessionInDoubt, .failure),
        Row(400, .sessionRefusal, .failure, .sessionLost, .failure),
        Row(400, .error(code: -32_602, namesSession: false), .answer, .answer, .answer),
        Row(400, .error(code: -32_000, namesSession: false), .answer, .sessionInDoubt, .answer),
        Row(400, .error(code: -32_001, namesSession: false), .answer, .sessionInDoubt, .answer),
        Row(400, .error(code: -32_002, namesSession: false), .answer, .answer, .answer),
        Row(400, .result, .answer, .answer, .answer),
        // About the credential, unless the session was opened with it.
        Row(401, .foreign, .credentialRefused, .sessionInDoubt, .credentialRefused),
        Row(401, .sessionRefusal, .credentialRefused, .sessionLost, .credentialRefused),
        Row(401, .error(code: -32_001, namesSession: false), .credentialRefused, .sessionInDoubt, .credentialRefused),
        Row(
            401,
            .error(code: -32_600, namesSession: false),
            .credentialRefused,
            .credentialRefused,
            .credentialRefused
        ),
        Row(401, .result, .credentialRefused, .credentialRefused, .credentialRefused),
        Row(403, .foreign, .credentialRefused, .credentialRefused, .credentialRefused),
        Row(403, .sessionRefusal, .credentialRefused, .credentialRefused, .credentialRefused),
        Row(
            403,
            .error(code: -32_000, namesSession: false),
            .credentialRefused,
            .credentialRefused,
            .credentialRefused
        ),
        // What a proxy says is never an answer.
        Row(407, .error(code: -32_600, namesSession: false), .failure, .failure, .failure),
        Row(407, .foreign, .failure, .failure, .failure),
        // All others.
        Row(405, .foreign, .failure, .failure, .failure), Row(406, .sessionRefusal, .failure, .failure, .failure),
        Row(413, .foreign, .failure, .failure, .failure), Row(429, .sessionRefusal, .failure, .failure, .failure),
        Row(500, .foreign, .failure, .failure, .failure), Row(500, .sessionRefusal, .failure, .failure, .failure),
        Row(500, .error(code: -32_603, namesSession: false), .answer, .answer, .answer),
        Row(503, .error(code: -32_000, namesSession: false), .answer, .answer, .answer),
    ]

    @Test("Is the answer, the loss of a session, a refused credential or a failure", arguments: Self.rows)
    func table(row: Row) {
        for (session, reading) in zip([StatusReading.Session.none, .open, .proven], row.readings) {
            #expect(StatusReading(status: row.status, body: row.body, session: session) == reading, "\(session)")
        }
    }

    @Test(
        "A body speaks of a session if it has the word",
        arguments: [
            ("Bad Request: No valid session ID provided", true), ("SESSION_EXPIRED", true),
            (#"{"error":"invalid Session"}"#, true), ("session", true), ("", false), ("sessio", false),
            ("no such tool", false), ("s e s s i o n", false),
        ]
    )
    func word(text: String, isNamed: Bool) { #expect(StatusReading.namesSession(Array(text.utf8).span) == isNamed) }

    @Test("The word is looked for in the first 4 KiB", arguments: [(4089, true), (4090, false)])
    func place(before: Int, isNamed: Bool) {
        let text = String(repeating: "s", count: before) + "session"
        #expect(StatusReading.namesSession(Array(text.utf8).span) == isNamed)
    }

    @Test("401 and 403 are about the credential, and no other status is")
    func credential() {
        #expect((100...599).filter(StatusReading.refusesCredential) == [401, 403])
    }
}
