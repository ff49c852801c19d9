// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing

@testable import GatewayObservability

@Suite("Access log") struct AccessLogTests {
    static let entry = AccessEntry(
        server: "github",
        method: "tools/call",
        outcome: "ok",
        status: 200,
        duration: .microseconds(12_345),
        bytesIn: 210,
        bytesOut: 4096,
        session: nil,
        request: 77,
        attempts: 2
    )

    static func lines(_ format: LogFormat, level: Logger.Level = .info, _ entry: AccessEntry = entry) -> [String] {
        let sink = InMemoryLogSink()
        let output = LogOutput(format: format, sink: sink, redactor: CurrentRedactor(), level: level, clock: { 0 })
        AccessLog(output).record(entry)
        return sink.lines
    }

    @Test("An access line has the same fields in the same order in both forms")
    func lines() {
        #expect(
            Self.lines(.json) == [
                #"{"ts":"1970-01-01T00:00:00.000Z","seq":1,"level":"info","message":"access","server":"github","#
                    + #""method":"tools/call","outcome":"ok","status":200,"ms":12.345,"bytes_in":210,"bytes_out":4096,"#
                    + #""request":77,"attempts":2}"# + "\n"
            ]
        )
        #expect(
            Self.lines(.text) == [
                "1970-01-01T00:00:00.000Z info     access server=github method=tools/call outcome=ok status=200 "
                    + "ms=12.345 bytes_in=210 bytes_out=4096 request=77 attempts=2\n"
            ]
        )
    }

    @Test("A session is named by eight digits that are the same for the same session and tell nothing of its id")
    func session() throws {
        let digest = SessionDigest("0123456789abcdef")
        #expect(digest == SessionDigest("0123456789abcdef"))
        #expect(digest != SessionDigest("0123456789abcdeg"))
        #expect(digest.description.utf8.count == 8)
        #expect(digest.description.allSatisfy { $0.isHexDigit })
        #expect(!"0123456789abcdef".contains(digest.description))
        var entry = Self.entry
        entry.session = digest
        let line = try #require(Self.lines(.json, entry).first)
        #expect(line.contains("\"session\":\"\(digest)\""))
    }

    @Test("There are access lines at info and below", arguments: Logger.Level.allCases)
    func level(level: Logger.Level) {
        #expect(Self.lines(.json, level: level).count == (level <= .info ? 1 : 0))
    }

    @Test(
        "Milliseconds have three decimals",
        arguments: [
            (Duration.zero, "0.000"), (.microseconds(1), "0.001"), (.nanoseconds(999), "0.000"),
            (.milliseconds(1000), "1000.000"), (.microseconds(1050), "1.050"), (.seconds(-1), "0.000"),
            (.seconds(Int64.max), "9223372036854.775"),
        ]
    )
    func milliseconds(duration: Duration, expected: String) throws {
        var entry = Self.entry
        entry.duration = duration
        let line = try #require(Self.lines(.text, entry).first)
        #expect(line.contains(" ms=\(expected) "))
    }
}
