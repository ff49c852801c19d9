// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("JSONC reader") struct JSONCReaderTests {
    private func read(_ bytes: [UInt8], bounds: JSONCReader.Bounds = JSONCReader.Bounds()) throws -> Node {
        var reader = JSONCReader(bytes: bytes, bounds: bounds)
        return try reader.read()
    }

    private func read(_ text: String) throws -> Node { try self.read(Array(text.utf8)) }

    @Test(
        "Comments and trailing commas are as if they were not there",
        arguments: [
            #"{"a": [1, 2], "b": {"c": null}}"#,
            #"{"a": [1, 2,], "b": {"c": null,},}"#,
            "// first\n{\"a\": /* in */ [1, // end\n 2], \"b\" /**/ : {\"c\": null}} // last",
            "/* a * b / c ** */{\"a\":[1,2],\r\n\"b\":{\"c\":null}}\n\n",
            "\u{feff}{\"a\":[1,2],\"b\":{\"c\":null}}",
        ]
    )
    func blanks(text: String) throws {
        let node = try self.read(text)
        #expect(node["a"]?.elements?.map(\.number) == ["1", "2"])
        #expect(node["b"]?["c"]?.isNull == true)
        #expect(node.members?.map(\.key) == ["a", "b"])
    }

    @Test("Every key and value knows its line and its column in Unicode scalars")
    func positions() throws {
        let node = try self.read("\u{feff}{\n  \"ä🦊\": \"é\", \"b\": [true,\r\n\t{\"c\": -1}],\r\"d\": 2}")
        let members = try #require(node.members)
        #expect(members.map(\.position.line) == [2, 2, 4])
        #expect(members.map(\.position.column) == [3, 14, 1])
        #expect(members.map(\.value.position.column) == [9, 19, 6])
        let inner = try #require(members[1].value.elements?[1])
        #expect(inner.position == SourcePosition(line: 3, column: 2))
        #expect(inner["c"]?.position == SourcePosition(line: 3, column: 8))
        #expect(inner["c"]?.path.description == "b[1].c")
        #expect(node.position == .start)
    }

    @Test(
        "Strings are decoded once and numbers keep their text",
        arguments: [
            (#""a\"\\\/\b\f\n\r\t""#, "a\"\\/\u{8}\u{c}\n\r\t"), (#""\u00e9\uD83E\uDD8A\u0000""#, "é🦊\0"),
            (#""// no comment, /* none */""#, "// no comment, /* none */"), (#""${A}""#, "${A}"), (#""""#, ""),
        ]
    )
    func strings(text: String, expected: String) throws {
        #expect(try self.read(text).string == expected)
    }

    @Test("Numbers keep their text", arguments: ["0", "-0", "10", "1.50", "1e5", "-1.5E+07", "12345678901234567890"])
    func numbers(text: String) throws {
        #expect(try self.read(text).number == text)
    }

    @Test(
        "An unquoted variable is a value, with its default as text",
        arguments: [
            ("${A}", "A", nil), ("${_a1:-}", "_a1", ""), ("${A:-[1, {\"b\": \"}\"}]}", "A", "[1, {\"b\": \"}\"}]"),
        ] as [(String, String, String?)]
    )
    func variables(text: String, name: String, fallback: String?) throws {
        guard case .variable(let variable) = try self.read(text).value else {
            Issue.record("no variable")
            return
        }
        #expect(variable == Node.Variable(name: name, fallback: fallback))
    }

    @Test("Every duplicate key is reported with both places, and the first value is kept")
    func duplicates() throws {
        var reader = JSONCReader(bytes: Array("{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2},\n \"a\": 3}".utf8))
        let node = try reader.read()
        #expect(node["a"]?.number == "1")
        #expect(reader.findings.all.map(\.path) == ["b.c", "a"])
        #expect(reader.findings.all.map(\.line) == [1, 2])
        #expect(reader.findings.all.map(\.column) == [24, 2])
        #expect(reader.findings.all[1].message.contains("line 1, column 2"))
    }

    @Test("Keys that only look alike are different keys")
    func composedAndDecomposed() throws {
        let node = try self.read("{\"\u{e9}\": 1, \"e\u{301}\": 2}")
        #expect(node.members?.count == 2)
    }

    @Test("Arrays and objects inside each other are read up to the bound", arguments: [("[", "]"), ("{\"a\":", "}")])
    func depth(open: String, close: String) throws {
        let bounds = JSONCReader.Bounds(depth: 5)
        for depth in [4, 5] {
            let text = String(repeating: open, count: depth - 1) + "[]" + String(repeating: close, count: depth - 1)
            #expect(throws: Never.self) { try self.read(Array(text.utf8), bounds: bounds) }
        }
        let text = String(repeating: open, count: 5) + "[]" + String(repeating: close, count: 5)
        let failure = #expect(throws: JSONCReader.Failure.self) { try self.read(Array(text.utf8), bounds: bounds) }
        #expect(failure?.code == .tooDeep)
    }

    @Test("A document is read up to the bound of its size", arguments: [9, 10, 11])
    func size(count: Int) {
        let text = "[" + String(repeating: " ", count: count - 2) + "]"
        let failure: JSONCReader.Failure?
        do {
            _ = try self.read(Array(text.utf8), bounds: JSONCReader.Bounds(bytes: 10))
            failure = nil
        } catch {
            failure = error as? JSONCReader.Failure
        }
        #expect(failure?.code == (count > 10 ? .tooLarge : nil))
    }

    @Test("The bounds of a configuration are 4 MiB and 64 levels")
    func bounds() {
        let bounds = JSONCReader.Bounds()
        #expect(bounds.bytes == 4 * 1024 * 1024)
        #expect(bounds.depth == 64)
    }

    @Test(
        "Bytes that are not UTF-8 are refused where they are",
        arguments: [
            ([0x7b, 0x0a, 0x22, 0xc3, 0xa9, 0xff, 0x22], 2, 3), ([0xff, 0xfe, 0x7b, 0x00], 1, 1),
            ([0xef, 0xbb, 0xbf, 0x20, 0xc0, 0x80], 1, 2), ([0x22, 0xed, 0xa0, 0x80, 0x22], 1, 2),
            ([0x20, 0x22, 0xe2, 0x82], 1, 3),
        ] as [([UInt8], Int, Int)]
    )
    func encoding(bytes: [UInt8], line: Int, column: Int) {
        let failure = #expect(throws: JSONCReader.Failure.self) { try self.read(bytes) }
        #expect(failure?.code == .badEncoding)
        #expect(failure?.position == SourcePosition(line: line, column: column))
    }

    @Test("No beginning of a document is taken for a whole one")
    func prefixes() {
        let whole = Array("{\"a\": [1, \"b\\u00e9\", ${C:-{}}], /* x */ \"d\": {\"e\": null}}".utf8)
        for count in 0..<whole.count {
            #expect(throws: JSONCReader.Failure.self) { try self.read(Array(whole.prefix(count))) }
        }
        #expect(throws: Never.self) { try self.read(whole) }
    }

    @Test("A mistake shows one character of the document at most")
    func silence() {
        for text in ["{\"a\": CANARY1}", "{\"a\": \"CANARY1}", "{CANARY1: 1}", "{\"a\" CANARY1}", "{\"a\": 1CANARY1}"] {
            let failure = #expect(throws: JSONCReader.Failure.self) { try self.read(text) }
            #expect(failure?.message.contains("CAN") == false)
        }
    }

    @Test(
        "Words of other languages are answered with the word that is meant",
        arguments: [("True", "true"), ("None", "null")]
    )
    func words(text: String, expected: String) {
        let failure = #expect(throws: JSONCReader.Failure.self) { try self.read(text) }
        #expect(failure?.suggestion == expected)
    }
}
