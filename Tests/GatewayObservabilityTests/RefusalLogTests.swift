// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing

@testable import GatewayObservability

@Suite("Log of refused requests") struct RefusalLogTests {
    private static func refusal(_ address: String = "192.0.2.1", port: Int? = 5, reason: String = "token")
        -> RefusedRequest
    {
        RefusedRequest(status: 401, reason: reason, detail: "d", server: "s", address: address, port: port)
    }

    private static func makeLog(_ level: Logger.Level) -> (RefusalLog, InMemoryLogSink) {
        let sink = InMemoryLogSink()
        return (RefusalLog(LogOutput(format: .text, sink: sink, redactor: CurrentRedactor(), level: level)), sink)
    }

    @Test("Lines for servers whose calls are logged are at info, others at debug", arguments: Logger.Level.allCases)
    func level(level: Logger.Level) {
        for isProminent in [true, false] {
            let (log, sink) = Self.makeLog(level)
            log.record(isProminent: isProminent, now: .zero, Self.refusal())
            #expect(sink.lines.count == (level <= (isProminent ? .info : .debug) ? 1 : 0))
        }
    }

    @Test("A line that would not be written costs nothing")
    func lazy() {
        let (log, sink) = Self.makeLog(.info)
        func never() -> RefusedRequest {
            Issue.record("it was asked for")
            return Self.refusal()
        }
        log.record(isProminent: false, now: .zero, never())
        #expect(sink.lines.isEmpty)
    }

    @Test(
        "A peer is written as in a URL",
        arguments: [("192.0.2.1", 5, "192.0.2.1:5"), ("2001:db8::1", 5, "[2001:db8::1]:5"), ("local", nil, "local")]
            as [(String, Int?, String)]
    )
    func peer(address: String, port: Int?, expected: String) throws {
        let (log, sink) = Self.makeLog(.info)
        log.record(isProminent: true, now: .zero, Self.refusal(address, port: port))
        let line = try #require(sink.lines.first)
        #expect(line.hasSuffix("request refused status=401 reason=token detail=d server=s peer=\(expected)\n"))
    }

    @Test("One address leaves one line for a reason in ten seconds, then one with the number of the others")
    func throttled() throws {
        let (log, sink) = Self.makeLog(.info)
        for second in 0..<10 { log.record(isProminent: true, now: .seconds(second), Self.refusal(port: second)) }
        log.record(isProminent: true, now: .seconds(9), Self.refusal("192.0.2.2"))
        log.record(isProminent: true, now: .seconds(9), Self.refusal(reason: "origin"))
        #expect(sink.lines.count == 3)
        log.record(isProminent: true, now: .seconds(10), Self.refusal())
        let last = try #require(sink.lines.last)
        #expect(last.hasSuffix("suppressed=9\n"))
    }

    @Test("However many addresses are refused, the lines of ten seconds are bounded")
    func bounded() {
        let (log, sink) = Self.makeLog(.info)
        for number in 0..<5_000 { log.record(isProminent: true, now: .seconds(1), Self.refusal("2001:db8::\(number)")) }
        #expect(sink.lines.count == RefusalLog.capacity)
    }
}
