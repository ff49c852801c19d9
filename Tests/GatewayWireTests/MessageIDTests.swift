// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Message ids")
struct MessageIDTests {
    private static let valid: [(String, MessageIDValue)] = [
        ("0", .integer(0)), ("-1", .integer(-1)), ("9007199254740993", .integer(9_007_199_254_740_993)),
        ("9223372036854775807", .integer(.max)), ("-9223372036854775807", .integer(-.max)),
        (#""""#, .string([])), (#""1""#, .string([0x31])), (#""\u0061\/""#, .string([0x61, 0x2f])),
        ("\"\(String(repeating: "x", count: 256))\"", .string([UInt8](repeating: 0x78, count: 256))),
    ]

    @Test("Strings and integers are ids, as they are written", arguments: Self.valid)
    func accepts(_ text: String, _ value: MessageIDValue) throws {
        let bytes = Array(text.utf8)
        let id = try #require(MessageID(literal: bytes))
        #expect(id.range == 0..<bytes.count)
        #expect(id.value(in: bytes) == value)
        #expect((id.string != nil) == text.hasPrefix("\""))
        #expect((id.integer(in: bytes) != nil) == !text.hasPrefix("\""))
    }

    @Test(
        "Anything else is none",
        arguments: [
            "", "null", "true", "{}", "[1]", "1.0", "1e3", "-0.5", "9223372036854775808", "-9223372036854775808",
            "-9223372036854775809", " 1", "1 ", "01", "1,", "\"a", "\"\(String(repeating: "x", count: 257))\"",
        ]
    )
    func refuses(_ text: String) {
        let bytes = Array(text.utf8)
        #expect(MessageID(literal: bytes) == nil)
    }

    @Test("Ids are equal exactly if type and decoded value are")
    func compares() throws {
        let texts = ["1", "2", "-1", "0", "-0", #""1""#, #""\u0031""#, #""a""#, #""A""#, "\"\u{e9}\"", "\"e\u{301}\""]
        for left in texts {
            for right in texts {
                let leftBytes = Array(left.utf8)
                let rightBytes = Array(right.utf8)
                let leftID = try #require(MessageID(literal: leftBytes))
                let rightID = try #require(MessageID(literal: rightBytes))
                let isSame =
                    left == right && Array(left.utf8) == Array(right.utf8)
                    || Set([left, right]) == Set(["0", "-0"]) || Set([left, right]) == Set([#""1""#, #""\u0031""#])
                #expect(leftID.equals(rightID, in: rightBytes, own: leftBytes) == isSame, "\(left) \(right)")
                #expect((leftID.value(in: leftBytes) == rightID.value(in: rightBytes)) == isSame)
            }
        }
    }
}
