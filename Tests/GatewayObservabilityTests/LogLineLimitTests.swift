// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayTestRandom
import Logging
import Testing

@testable import GatewayObservability

@Suite("Length of a log line") struct LogLineLimitTests {
    static func line(
        _ format: LogFormat,
        secrets: [String] = [],
        message: String = "m",
        _ metadata: Logger.Metadata = [:]
    ) -> String {
        let sink = InMemoryLogSink()
        let redactor = CurrentRedactor(secrets.map { Secret($0) })
        let output = LogOutput(format: format, sink: sink, redactor: redactor, clock: { 0 })
        output.makeLogger().info("\(message)", metadata: metadata)
        return sink.lines.joined()
    }

    @Test("A text that just fits is whole, and one byte more is cut and said to be", arguments: LogFormat.allCases)
    func boundary(format: LogFormat) throws {
        let texts = (8030...8110).map { String(repeating: "x", count: $0) }
        let lines = texts.map { Self.line(format, ["a": "1", "text": "\($0)", "z": .number(7)]) }
        let firstCut = try #require(lines.firstIndex { $0.contains("truncated") })
        #expect(firstCut > 0)
        #expect(lines[..<firstCut].indices.allSatisfy { lines[$0].contains(texts[$0]) })
        #expect(lines[firstCut...].allSatisfy { $0.contains("truncated") && $0.contains("x…") })
        #expect(lines.allSatisfy { $0.utf8.count <= LogLine.limit && $0.hasSuffix("\n") && $0.contains("7") })
        if format == .json {
            for line in lines { #expect(throws: Never.self) { try JSON(text: line) } }
        }
    }

    @Test("Whatever is logged, a line is at most 8 KiB and a whole object", arguments: 0..<50)
    func anything(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        func text() -> String {
            let unit =
                ["x", "\n", "é", "🙂", "\u{1b}", "\"", "https://a:b@c?d=e "].randomElement(using: &generator) ?? ""
            let length = [0, 5, 300, 3000, 9000].randomElement(using: &generator) ?? 0
            return String(repeating: unit, count: length / unit.utf8.count)
        }
        func value(_ depth: Int) -> Logger.MetadataValue {
            switch Int.random(in: 0...(depth < 12 ? 5 : 2), using: &generator) {
            case 0: .string(text())
            case 1: .stringConvertible(UInt64.max)
            case 2: .peer(Array(text().utf8))
            case 3: .array((0..<Int.random(in: 0...4, using: &generator)).map { _ in value(depth + 1) })
            case 4: .dictionary(["a" + text(): value(depth + 1), "b" + text(): value(depth + 1)])
            default: .array(Array(repeating: .number(Int.max), count: 500))
            }
        }
        var metadata: Logger.Metadata = [:]
        for index in 0..<Int.random(in: 0...12, using: &generator) { metadata["k\(index)\(text())"] = value(0) }
        let message = text()
        for format in LogFormat.allCases {
            let line = Self.line(format, message: message, metadata)
            #expect(line.utf8.count <= LogLine.limit)
            #expect(line.hasSuffix("\n"))
            if format == .json { #expect(throws: Never.self) { try JSON(text: line) } }
        }
    }

    @Test("A line that is cut deep inside lists still has room for all that closes it", arguments: 8040...8120)
    func nested(length: Int) {
        let key = String(repeating: "x", count: length)
        let innermost = Logger.MetadataValue.dictionary([key: .stringConvertible(-Double.greatestFiniteMagnitude)])
        let value = (0..<7).reduce(innermost) { inner, _ in .array([inner]) }
        let line = Self.line(.json, ["k": value])
        #expect(line.utf8.count <= LogLine.limit)
        #expect(throws: Never.self) { try JSON(text: line) }
    }

    @Test("Small fields behind a long one are still there, and what has no room is left out and said to be")
    func leftOut() throws {
        let many = Dictionary(uniqueKeysWithValues: (0..<2000).map { ("key\($0)", Logger.MetadataValue.number($0)) })
        let value = try JSON(text: Self.line(.json, many))
        #expect(value["key0"] == .number(0))
        #expect(value["truncated"] == .boolean(true))
    }

    @Test("A secret that the cut goes through leaves nothing of itself", arguments: 8050...8090)
    func secretAtCut(before: Int) {
        let secret = "CANARY-0123456789-abcdefghij"
        let text = String(repeating: "x", count: before) + secret + String(repeating: "y", count: 500)
        for format in LogFormat.allCases {
            for value in [Logger.MetadataValue.string(text), .peer(Array(text.utf8))] {
                let line = Self.line(format, secrets: [secret], ["text": value])
                #expect(!line.contains("xC"))
                #expect(line.contains("truncated"))
            }
        }
    }

    @Test("An excerpt of a peer's text that ends inside a secret is masked to its end", arguments: 1...40)
    func excerpt(limit: Int) {
        let secret = "CANARY-0123456789-abcdefghij"
        let line = Self.line(.json, secrets: [secret], ["text": .peer(Array("echo \(secret) end".utf8), limit: limit)])
        #expect(!line.contains("C"))
        #expect(line.contains("truncated") == (limit < 37))
    }

    @Test("A secret longer than a line is masked")
    func longSecret() {
        let secret = String(repeating: "0123456789abcdef", count: 1000)
        let line = Self.line(.json, secrets: [secret], ["text": "key \(secret) end"])
        #expect(!line.contains("0123"))
        #expect(line.contains("key •••"))
    }
}
