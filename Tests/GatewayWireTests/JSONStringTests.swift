// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("JSON strings")
struct JSONStringTests {
    private func string(_ literal: [UInt8]) throws -> JSONString {
        try #require(JSONValue.only(in: literal).string)
    }

    private static let literals: [(String, String)] = [
        (#""""#, ""), (#""plain""#, "plain"), (#""größe 日本 😀""#, "größe 日本 😀"),
        (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"), (#""\u0000""#, "\u{0}"), (#""\u0041\u00e9\u65E5""#, "Aé日"),
        (#""\uD83D\uDE00!""#, "😀!"), (#""tools\/call""#, "tools/call"), (#""a\u2028b""#, "a\u{2028}b"),
        (#""\udbff\udfff""#, "\u{10ffff}"),
    ]

    @Test("A string decodes to what it spells", arguments: Self.literals)
    func decodes(_ literal: String, _ expected: String) throws {
        let bytes = Array(literal.utf8)
        let string = try self.string(bytes)
        #expect(string.isEscaped == literal.contains("\\"))
        #expect(string.literal == 0..<bytes.count)
        #expect(string.decoded(in: bytes) == expected)
        #expect(string.decodedBytes(in: bytes) == Array(expected.utf8))
    }

    @Test(
        "A string equals the bytes it spells, and no bytes that are shorter, longer or others",
        arguments: Self.literals
    )
    func comparesWithBytes(_ literal: String, _ expected: String) throws {
        let bytes = Array(literal.utf8)
        let string = try self.string(bytes)
        let plain = Array(expected.utf8)
        #expect(string.equals(plain, in: bytes))
        let longer = plain + [0x20]
        #expect(!string.equals(longer, in: bytes))
        for index in plain.indices {
            let shorter = Array(plain[..<index])
            #expect(!string.equals(shorter, in: bytes))
            var other = plain
            other[index] ^= 1
            #expect(!string.equals(other, in: bytes))
        }
    }

    @Test("Texts of every length are compared to their last byte", arguments: 0..<40)
    func comparesAllLengths(_ count: Int) throws {
        let text = (0..<count).map { UInt8(truncatingIfNeeded: 0x61 + $0 % 26) }
        let bytes = Array("\"".utf8) + text + Array("\"".utf8)
        let string = try self.string(bytes)
        #expect(string.equals(text, in: bytes))
        for index in text.indices {
            var other = text
            other[index] ^= 0x20
            #expect(!string.equals(other, in: bytes))
        }
    }

    @Test("Two strings are equal when they spell the same, escaped or not")
    func comparesTwoStrings() throws {
        for (left, leftText) in Self.literals {
            for (right, rightText) in Self.literals {
                let leftBytes = Array(left.utf8)
                let rightBytes = Array(right.utf8)
                let isEqual = try self.string(leftBytes)
                    .equals(
                        self.string(rightBytes),
                        in: rightBytes,
                        own: leftBytes
                    )
                #expect(isEqual == (Array(leftText.utf8) == Array(rightText.utf8)))
            }
        }
    }

    @Test("Static texts are compared decoded")
    func comparesWithStaticTexts() throws {
        let plain = Array(#""tools/call""#.utf8)
        let escaped = Array(#""tools\/\u0063all""#.utf8)
        for bytes in [plain, escaped] {
            let string = try self.string(bytes)
            #expect(string.equals("tools/call", in: bytes))
            #expect(!string.equals("tools/calls", in: bytes))
            #expect(!string.equals("tools/cal", in: bytes))
            #expect(!string.equals("tools/carl", in: bytes))
        }
    }

    @Test("Canonically equivalent strings are not the same bytes")
    func keepsNormalisationForms() throws {
        let composed = Array("\"\u{e9}\"".utf8)
        let decomposed = Array("\"e\u{301}\"".utf8)
        let left = try self.string(composed)
        let right = try self.string(decomposed)
        #expect(left.decoded(in: composed) == right.decoded(in: decomposed))
        #expect(!left.equals(right, in: decomposed, own: composed))
    }

    @Test("Lone surrogates decode to U+FFFD, and stay apart when compared")
    func keepsLoneSurrogatesApart() throws {
        let high = Array(#""\ud800""#.utf8)
        let low = Array(#""\udc00""#.utf8)
        let reversed = Array(#""\udc00\ud800x""#.utf8)
        let replacement = Array("\"\u{fffd}\"".utf8)
        #expect(try self.string(high).decodedBytes(in: high) == [0xed, 0xa0, 0x80])
        #expect(try self.string(high).decoded(in: high).unicodeScalars.allSatisfy { $0 == "\u{fffd}" })
        #expect(try self.string(reversed).decodedBytes(in: reversed) == [0xed, 0xb0, 0x80, 0xed, 0xa0, 0x80, 0x78])
        #expect(try !self.string(high).equals(self.string(low), in: low, own: high))
        #expect(try !self.string(high).equals(self.string(replacement), in: replacement, own: high))
    }

    @Test(
        "A written string is the shortest literal that is valid",
        arguments: [
            ("", #""""#), ("a\"b\\c/d", #""a\"b\\c/d""#), ("\u{8}\t\n\u{c}\r", #""\b\t\n\f\r""#),
            ("\u{0}\u{1f}\u{7f}", "\"\\u0000\\u001f\u{7f}\""), ("é😀\u{2028}", "\"é😀\u{2028}\""),
        ]
    )
    func writes(_ text: String, _ expected: String) throws {
        var output = Array("x".utf8)
        JSONText.append(string: text, to: &output)
        #expect(String(decoding: output, as: UTF8.self) == "x" + expected)
        let literal = Array(output.dropFirst())
        #expect(try self.string(literal).decoded(in: literal) == text)
    }

    @Test("Bytes of another message are taken over as they are")
    func appendsRawBytes() {
        let message = Array(#"{"id":1.50}"#.utf8)
        var output: [UInt8] = []
        JSONText.append(raw: 6..<10, of: message.span, to: &output)
        #expect(output == Array("1.50".utf8))
    }
}
