// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("JSON scanner")
struct JSONScannerTests {
    private func scan(_ text: String, depthLimit: Int = 64) -> Result<JSONValue, JSONError> {
        self.scan(Array(text.utf8), depthLimit: depthLimit)
    }

    private func scan(_ bytes: [UInt8], depthLimit: Int = 64) -> Result<JSONValue, JSONError> {
        var scanner = JSONScanner(depthLimit: depthLimit)
        do throws(JSONError) {
            scanner.skipWhiteSpace(in: bytes.span)
            let value = try scanner.value(in: bytes.span)
            try scanner.finish(in: bytes.span)
            return .success(value)
        } catch {
            return .failure(error)
        }
    }

    @Test(
        "Every value of the grammar is recognised for what it is",
        arguments: [
            ("{}", .object), ("{ \"a\" : { \"b\" : [ ] } }", .object), ("[]", .array), ("[[],{},[1,\"a\"]]", .array),
            ("\"\"", .string), ("\"a\u{2028}b\u{2029}\u{7f}\"", .string), ("\"日本 😀\"", .string),
            (#""\"\\\/\b\f\n\r\t\u00e9\uD83D\uDE00""#, .escapedString), (#""\ud800""#, .escapedString),
            (#""\udc00\ud800""#, .escapedString), ("0", .integer), ("-0", .integer), ("-12", .integer),
            ("9007199254740993", .integer), ("123456789012345678901234567890", .integer), ("0.1", .fraction),
            ("1.0", .fraction), ("1e999999", .fraction), ("-0.0E+10", .fraction), ("1E-2", .fraction),
            ("true", .boolean), ("false", .boolean), ("null", .null), (" \t\r\n1 \t\r\n", .integer),
        ] as [(String, JSONValue.Kind)]
    )
    func accepts(_ text: String, _ kind: JSONValue.Kind) throws {
        #expect(try self.scan(text).get().kind == kind)
    }

    @Test(
        "What the grammar does not have is refused where it stands",
        arguments: [
            ("", .unexpectedEnd, 0), (" ", .unexpectedEnd, 1), ("[", .unexpectedEnd, 1),
            ("{\"a\":1", .unexpectedEnd, 6),
            ("\"abc", .unexpectedEnd, 4), ("\"\\", .unexpectedEnd, 2), ("\"\\u12", .unexpectedEnd, 5),
            ("-", .unexpectedEnd, 1), ("1.", .unexpectedEnd, 2), ("1e", .unexpectedEnd, 2), ("1e+", .unexpectedEnd, 3),
            ("tru", .unexpectedEnd, 3), ("[1,]", .unexpectedByte, 3), ("{\"a\":1,}", .unexpectedByte, 7),
            ("[1 2]", .unexpectedByte, 3), ("[1}", .unexpectedByte, 2), ("{\"a\":1]", .unexpectedByte, 6),
            ("{a:1}", .unexpectedByte, 1), ("{'a':1}", .unexpectedByte, 1), ("{\"a\" 1}", .unexpectedByte, 5),
            ("{1:2}", .unexpectedByte, 1), ("[,]", .unexpectedByte, 1), ("01", .trailingBytes, 1),
            ("[01]", .unexpectedByte, 2), ("[-a]", .unexpectedByte, 2), (".5", .unexpectedByte, 0),
            ("+1", .unexpectedByte, 0), ("[1.e1]", .unexpectedByte, 3), ("[1ee1]", .unexpectedByte, 3),
            ("[0x1]", .unexpectedByte, 2), ("NaN", .unexpectedByte, 0), ("nulL", .unexpectedByte, 3),
            ("truefalse", .trailingBytes, 4), ("1 2", .trailingBytes, 2), ("{}{}", .trailingBytes, 2),
            ("[\"a\u{0}\"]", .controlCharacter, 3), ("\"a\nb\"", .controlCharacter, 2),
            ("\"01234567\u{1f}\"", .controlCharacter, 9), (#""\x""#, .brokenEscape, 2),
            (#""\u12g4""#, .brokenEscape, 5),
            (#""\U0041""#, .brokenEscape, 2), ("\u{feff}{}", .byteOrderMark, 0), ("é", .unexpectedByte, 0),
            ("[\u{a0}1]", .unexpectedByte, 1), ("// c\n1", .unexpectedByte, 0),
        ] as [(String, JSONError.Reason, Int)]
    )
    func refuses(_ text: String, _ reason: JSONError.Reason, _ offset: Int) {
        #expect(self.scan(text) == .failure(JSONError(reason, at: offset)))
    }

    @Test(
        "Bytes in a string that are not UTF-8 are refused, wherever the eight-byte steps fall",
        arguments: [
            [0x80], [0xbf], [0xc0, 0x80], [0xc1, 0xbf], [0xc2, 0x41], [0xe0, 0x9f, 0xbf], [0xe2, 0x82, 0x41],
            [0xed, 0xa0, 0x80], [0xed, 0xbf, 0xbf], [0xf0, 0x8f, 0xbf, 0xbf], [0xf4, 0x90, 0x80, 0x80],
            [0xf5, 0x80, 0x80, 0x80], [0xff], [0xf0, 0x9f, 0x98, 0x41],
        ] as [[UInt8]],
        0..<9
    )
    func refusesInvalidUTF8(_ bytes: [UInt8], _ shift: Int) {
        let text = Array("\"".utf8) + [UInt8](repeating: 0x61, count: shift) + bytes + Array("ABCDEFGH\"".utf8)
        #expect(self.scan(text) == .failure(JSONError(.notUTF8, at: 1 + shift)))
    }

    @Test("Every byte of ASCII is told apart at every place of a long string", arguments: 0..<24)
    func tellsBytesApart(_ place: Int) {
        for byte: UInt8 in 0..<0x80 {
            var content = [UInt8](repeating: 0x61, count: 24)
            content[place] = byte
            let result = self.scan([0x22] + content + [0x22])
            switch byte {
            case ..<0x20: #expect(result == .failure(JSONError(.controlCharacter, at: place + 1)))
            case 0x22, 0x5c: #expect((try? result.get()) == nil)
            default: #expect((try? result.get())?.kind == .string, "byte \(byte)")
            }
        }
    }

    @Test("The first and last scalars of every length of UTF-8 pass")
    func acceptsBoundariesOfUTF8() {
        for scalar: UInt32 in [0x20, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff] {
            let text = UnicodeScalar(scalar).map { String(Character($0)) } ?? ""
            #expect((try? self.scan("\"\(text)\"").get()) != nil, "U+\(String(scalar, radix: 16))")
        }
    }

    @Test("Another encoding is refused")
    func refusesUTF16() {
        let text = "{\"jsonrpc\":\"2.0\"}"
        let littleEndian = text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
        let bigEndian = text.utf16.flatMap { [UInt8(truncatingIfNeeded: $0 >> 8), UInt8(truncatingIfNeeded: $0)] }
        #expect(self.scan(littleEndian) == .failure(JSONError(.unexpectedByte, at: 1)))
        #expect(self.scan(bigEndian) == .failure(JSONError(.unexpectedByte, at: 0)))
    }

    @Test(
        "Every text that is cut off is refused, at every place",
        arguments: [#"{"a":[1,-2.5e3,"b\u00e9é",true,null,{"c":{}}]}"#]
    )
    func refusesPrefixes(_ text: String) {
        let bytes = Array(text.utf8)
        for end in 0..<bytes.count {
            #expect(self.scan(Array(bytes[..<end])) == .failure(JSONError(.unexpectedEnd, at: end)))
        }
    }

    @Test("Nesting is allowed to the limit and not one further", arguments: [1, 2, 63, 64, 65, 128, 129, 200])
    func limitsNesting(_ limit: Int) throws {
        func arrays(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        func objects(_ depth: Int) -> String {
            String(repeating: "{\"a\":", count: depth) + "0" + String(repeating: "}", count: depth)
        }
        for text in [arrays, objects] {
            for depth in max(1, limit - 1)...limit {
                #expect((try? self.scan(text(depth), depthLimit: limit).get()) != nil)
            }
            guard case .failure(let error) = self.scan(text(limit + 1), depthLimit: limit) else {
                Issue.record("\(limit + 1) levels pass a limit of \(limit)")
                continue
            }
            #expect(error.reason == .tooDeep)
        }
    }

    @Test("What closes must be what was opened, at every level", arguments: [1, 63, 64, 65, 127, 128, 129, 190])
    func matchesClosingBytes(_ depth: Int) {
        // Objects and arrays in turn, so that the levels differ.
        var opening = ""
        var closing = ""
        for level in 0..<depth {
            opening += level.isMultiple(of: 3) ? "{\"a\":" : "["
            closing = (level.isMultiple(of: 3) ? "}" : "]") + closing
        }
        #expect((try? self.scan(opening + "1" + closing, depthLimit: 200).get()) != nil)
        for place in closing.indices {
            var wrong = closing
            wrong.replaceSubrange(place...place, with: closing[place] == "}" ? "]" : "}")
            #expect((try? self.scan(opening + "1" + wrong, depthLimit: 200).get()) == nil)
        }
    }

    @Test("A hundred thousand levels neither overflow the stack nor pass", arguments: ["[", "{\"a\":"])
    func survivesDeepNesting(_ opening: String) {
        let text = String(repeating: opening, count: 100_000)
        guard case .failure(let error) = self.scan(text) else {
            Issue.record("100,000 levels pass")
            return
        }
        #expect(error.reason == .tooDeep)
        #expect(error.offset == 64 * opening.utf8.count)
        guard case .failure(let end) = self.scan(text, depthLimit: .max) else {
            Issue.record("an open text passes")
            return
        }
        #expect(end.reason == .unexpectedEnd)
    }

    @Test("Four million bytes of small numbers are walked over")
    func walksOverManyNumbers() throws {
        let text = Array(("[" + String(repeating: "1,", count: 2 * 1024 * 1024 - 1) + "1]").utf8)
        #expect(try self.scan(text).get().range == 0..<text.count)
    }

    @Test(
        "Integers have their value to the ends of 64 bits",
        arguments: [
            ("0", 0), ("-0", 0), ("7", 7), ("9007199254740993", 9_007_199_254_740_993), ("-9223372036854775808", .min),
            ("9223372036854775807", .max), ("9223372036854775808", nil), ("-9223372036854775809", nil),
            ("99999999999999999999", nil), ("18446744073709551616", nil), ("1.0", nil), ("1e0", nil), ("\"1\"", nil),
        ] as [(String, Int64?)]
    )
    func readsIntegers(_ text: String, _ expected: Int64?) throws {
        let bytes = Array(text.utf8)
        #expect(try self.scan(text).get().integer(in: bytes) == expected)
    }
}
