// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayTestRandom
import Logging
import Testing

@testable import GatewayObservability

@Suite("Log handler") struct GatewayLogHandlerTests {
    let sink = InMemoryLogSink()

    /// 2026-03-01T09:05:07.040Z.
    static let time: Int64 = 1_772_355_907_040_000_000

    func output(_ format: LogFormat, secrets: [String] = [], level: Logger.Level = .info) -> LogOutput {
        LogOutput(
            format: format,
            sink: self.sink,
            redactor: CurrentRedactor(secrets.map { Secret($0) }),
            level: level,
            clock: { Self.time }
        )
    }

    func logger(_ format: LogFormat, secrets: [String] = [], level: Logger.Level = .info) -> Logger {
        self.output(format, secrets: secrets, level: level).makeLogger()
    }

    static let rotation: Logger.Metadata = [
        "upstream": "github", "from": .number(0), "to": .number(1), "status": .number(401),
    ]

    @Test("A JSON line is one object with time, number, level, message and fields")
    func json() {
        let logger = self.logger(.json)
        logger.notice("credential rotated", metadata: Self.rotation)
        logger.error("second")
        #expect(
            self.sink.lines == [
                #"{"ts":"2026-03-01T09:05:07.040Z","seq":1,"level":"notice","message":"credential rotated","#
                    + #""upstream":"github","from":0,"status":401,"to":1}"# + "\n",
                #"{"ts":"2026-03-01T09:05:07.040Z","seq":2,"level":"error","message":"second"}"# + "\n",
            ]
        )
    }

    @Test("A text line is time, level, message and fields")
    func text() {
        let logger = self.logger(.text)
        logger.notice("credential rotated", metadata: Self.rotation)
        logger.critical("odd values", metadata: ["a": "b c", "b": "", "c": "x=\"y\"", "d": ["1", "2"]])
        #expect(
            self.sink.lines == [
                "2026-03-01T09:05:07.040Z notice   credential rotated upstream=github from=0 status=401 to=1\n",
                "2026-03-01T09:05:07.040Z critical odd values a=\"b c\" b=\"\" c=\"x=\\\"y\\\"\" d=[\"1\",\"2\"]\n",
            ]
        )
    }

    @Test("Values keep their types in JSON")
    func types() throws {
        struct Named: CustomStringConvertible { var description: String { "named" } }
        self.logger(.json)
            .info(
                "types",
                metadata: [
                    "int": .stringConvertible(-5), "big": .stringConvertible(UInt64.max),
                    "double": .stringConvertible(1.5), "yes": .stringConvertible(true),
                    "nan": .stringConvertible(Double.nan), "text": "1", "named": .stringConvertible(Named()),
                    "list": ["a", .number(2), ["b"]], "object": ["k": ["v": .stringConvertible(false)], "a": "1"],
                    "peer": .peer([0x61, 0xff]),
                ]
            )
        let line = try #require(self.sink.lines.first)
        let value = try JSON(text: line)
        #expect(value["int"] == .number(-5))
        #expect(line.contains("\"big\":18446744073709551615,"))
        #expect(value["double"] == .number(1.5))
        #expect(value["yes"] == .boolean(true))
        #expect(value["nan"] == .string("nan"))
        #expect(value["text"] == .string("1"))
        #expect(value["named"] == .string("named"))
        #expect(value["list"] == .array([.string("a"), .number(2), .array([.string("b")])]))
        #expect(value["object"] == .object(["k": .object(["v": .boolean(false)]), "a": .string("1")]))
        #expect(value["peer"] == .string("a\\xff"))
    }

    @Test("A field never takes the name of what a line has by itself", arguments: ["ts", "seq", "level", "message"])
    func ownNames(name: String) throws {
        self.logger(.json).info("real", metadata: [name: "forged"])
        let line = try #require(self.sink.lines.first)
        let value = try JSON(text: line)
        #expect(value["\(name)_"] == .string("forged"))
        #expect(value["message"] == .string("real"))
        #expect(line.split(separator: "\"\(name)\":").count == 2)
    }

    @Test("Metadata of the event win over the provider's, and those over the logger's")
    func precedence() throws {
        var handler = GatewayLogHandler(self.output(.json))
        handler.metadata = ["a": "logger", "b": "logger", "c": "logger"]
        handler.metadataProvider = Logger.MetadataProvider { ["b": "provider", "c": "provider"] }
        let fixed = handler
        Logger(label: "t") { _ in fixed }.info("m", metadata: ["c": "event"])
        let value = try JSON(text: try #require(self.sink.lines.first))
        #expect(value["a"] == .string("logger"))
        #expect(value["b"] == .string("provider"))
        #expect(value["c"] == .string("event"))
    }

    @Test("A change to one logger does not change another")
    func valueSemantics() {
        var first = self.logger(.json)
        first.logLevel = .debug
        first[metadataKey: "only-on"] = "first"
        var second = first
        second.logLevel = .error
        second[metadataKey: "only-on"] = "second"
        #expect(first.logLevel == .debug)
        #expect(first[metadataKey: "only-on"] == "first")
        #expect(second[metadataKey: "only-on"] == "second")
    }

    @Test("Lines below the level are not written", arguments: Logger.Level.allCases)
    func level(threshold: Logger.Level) {
        let logger = self.logger(.json, level: threshold)
        for level in Logger.Level.allCases { logger.log(level: level, "m") }
        #expect(self.sink.lines.count == Logger.Level.allCases.filter { $0 >= threshold }.count)
    }

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    @Test("A secret is masked in every part of a line", arguments: LogFormat.allCases)
    func secrets(format: LogFormat) {
        let secret = "CANARY\"token\n0123456789abcdef"
        self.logger(format, secrets: [secret])
            .info(
                "message \(secret)",
                error: Failure(description: "failed with \(secret)"),
                metadata: [
                    "key \(secret)": "v", "value": "<\(secret)>", "list": ["\(secret)", ["k \(secret)": "\(secret)"]],
                    "peer": .peer(Array("p \(secret) q".utf8)), "url": "http://user:hidden@host/?a=hidden",
                    "convertible": .stringConvertible(Failure(description: secret)),
                    "base64": "\(base64(Array("user:\(secret)".utf8)))",
                ]
            )
        let line = self.sink.lines.joined()
        #expect(!line.contains("CANARY") && !line.contains("0123456789") && !line.contains("hidden"))
        #expect(line.split(separator: "•••", omittingEmptySubsequences: false).count == 1 + 12)
    }

    @Test("A text of a peer is harmless, whatever its bytes, and a line stays one line", arguments: 0..<60)
    func hostileBytes(seed: Int) throws {
        var generator = SplitMix(seed: UInt64(seed))
        let bytes = (0..<Int.random(in: 0...300, using: &generator))
            .map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
        let text = String(decoding: bytes, as: UTF8.self)
        for format in LogFormat.allCases {
            self.logger(format)
                .info("\(text)", metadata: ["\(text)": "\(text)", "peer": .peer(bytes), "list": ["\(text)"]])
        }
        #expect(self.sink.lines.count == 2)
        for line in self.sink.lines {
            let inner = line.dropLast()
            #expect(line.last == "\n")
            #expect(!inner.unicodeScalars.contains { $0.value < 0x20 || (0x7f...0x9f).contains($0.value) })
        }
        _ = try JSON(text: self.sink.lines[0].hasPrefix("{") ? self.sink.lines[0] : self.sink.lines[1])
    }

    @Test("Fields that say where come first and long texts come last")
    func order() throws {
        let long = String(repeating: "x", count: 257)
        self.logger(.text).info("m", metadata: ["a": "\(long)", "z": "1", "server": "s", "y": "2", "b": ["l"]])
        let names = try #require(self.sink.lines.first).split(separator: " ").dropFirst(3)
            .map { $0.prefix { $0 != "=" } }
        #expect(names == ["server", "y", "z", "a", "b"])
    }
}
