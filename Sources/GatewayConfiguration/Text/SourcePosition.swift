// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A place in a document.
struct SourcePosition: Hashable, Comparable, Sendable {
    /// The line, counted from 1; LF, CRLF and a lone CR end one.
    var line: Int
    /// The column, counted from 1 in Unicode scalars.
    var column: Int

    static let start = SourcePosition(line: 1, column: 1)

    static func < (one: SourcePosition, other: SourcePosition) -> Bool {
        (one.line, one.column) < (other.line, other.column)
    }

    /// Moves over one byte of valid UTF-8; `next` is the byte after it.
    mutating func advance(over byte: UInt8, next: UInt8?) {
        switch byte {
        case UInt8(ascii: "\n"):
            self = SourcePosition(line: self.line + 1, column: 1)
        case UInt8(ascii: "\r"):
            if next != UInt8(ascii: "\n") { self = SourcePosition(line: self.line + 1, column: 1) }
        case 0x80..<0xc0:
            break
        default:
            self.column += 1
        }
    }
}
