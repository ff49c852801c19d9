// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why a text is not JSON that the gateway takes: its grammar, its UTF-8 or its nesting (RFC 8259).
package struct JSONError: Error, Hashable, Sendable {
    /// Where it was noticed, in bytes from the start.
    package let offset: Int
    /// What is wrong, a constant text without anything of the input.
    package let reason: String

    package init(offset: Int, reason: String) {
        self.offset = offset
        self.reason = reason
    }
}

/// Where a JSON value stands, and its type.
package struct JSONValue: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case object
        case array
        case string(JSONString)
        /// A number without fraction and exponent.
        case integer
        /// Any other number.
        case fraction
        case boolean
        case null
    }

    package let kind: Kind
    package let range: Range<Int>

    /// The string, if this is one.
    package var string: JSONString? {
        if case .string(let string) = self.kind { string } else { nil }
    }

    /// The value of an integer; nil for any other value, and for one that does not fit 64 bits.
    package func integer(in bytes: Span<UInt8>) -> Int64? {
        guard self.kind == .integer else { return nil }
        var index = self.range.lowerBound
        let isNegative = bytes[index] == UInt8(ascii: "-")
        if isNegative { index += 1 }
        guard self.range.upperBound - index <= 19 else { return nil }
        var magnitude: UInt64 = 0
        while index < self.range.upperBound {
            // 19 digits stay below 10¹⁹, which fits.
            magnitude = magnitude &* 10 &+ UInt64(bytes[index] &- UInt8(ascii: "0"))
            index += 1
        }
        guard magnitude <= UInt64(Int64.max) else {
            return isNegative && magnitude == UInt64(Int64.max) + 1 ? .min : nil
        }
        return isNegative ? -Int64(magnitude) : Int64(magnitude)
    }
}

/// Walks over JSON text once, from left to right, and checks all of it (RFC 8259): grammar, also of what is skipped,
/// UTF-8 in strings (RFC 3629), and nesting.
///
/// A cursor: the reader calls it in the order of the text, and every call is given the same bytes. It never recurses,
/// and allocates only below 64 levels of a skipped value. Escaped lone surrogates pass, since JavaScript writes them;
/// there is no byte order mark and no other encoding. After an error the cursor is of no more use.
package struct JSONScanner: Sendable {
    /// Where the next byte is read.
    package private(set) var index: Int
    private let depthLimit: Int
    private var depth = 0

    /// A cursor at `index`.
    ///
    /// - Parameter depthLimit: how many objects and arrays may be open inside one another.
    package init(at index: Int = 0, depthLimit: Int = 64) {
        self.index = index
        self.depthLimit = depthLimit
    }

    // MARK: Members and elements

    /// Steps over an object's opening brace; false if the object is empty, which is stepped over as a whole.
    @inline(__always)
    package mutating func beginObject(in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        try self.begin(UInt8(ascii: "{"), closing: UInt8(ascii: "}"), in: bytes)
    }

    /// Steps over an array's opening bracket; false if the array is empty, which is stepped over as a whole.
    @inline(__always)
    package mutating func beginArray(in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        try self.begin(UInt8(ascii: "["), closing: UInt8(ascii: "]"), in: bytes)
    }

    /// Reads a member's key and steps over the colon; what follows is its value.
    @inline(__always)
    package mutating func key(in bytes: Span<UInt8>) throws(JSONError) -> JSONString {
        guard self.peek(in: bytes) == UInt8(ascii: "\"") else { throw self.unexpected(in: bytes) }
        let key = try self.string(in: bytes)
        self.skipWhiteSpace(in: bytes)
        guard self.peek(in: bytes) == UInt8(ascii: ":") else { throw self.unexpected(in: bytes) }
        self.index += 1
        self.skipWhiteSpace(in: bytes)
        return key
    }

    /// After a member's value: true if another member follows, false if the object is over.
    @inline(__always)
    package mutating func nextMember(in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        try self.next(closing: UInt8(ascii: "}"), in: bytes)
    }

    /// After an element: true if another element follows, false if the array is over.
    @inline(__always)
    package mutating func nextElement(in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        try self.next(closing: UInt8(ascii: "]"), in: bytes)
    }

    /// The byte at the cursor; nil at the end.
    @inline(__always)
    package func peek(in bytes: Span<UInt8>) -> UInt8? {
        self.index < bytes.count ? bytes[self.index] : nil
    }

    /// Steps over space, tab, line feed and carriage return.
    @inline(__always)
    package mutating func skipWhiteSpace(in bytes: Span<UInt8>) {
        while self.index < bytes.count {
            switch bytes[self.index] {
            case 0x20, 0x0a, 0x0d, 0x09: self.index += 1
            default: return
            }
        }
    }

    /// Checks that only white space is left.
    package mutating func finish(in bytes: Span<UInt8>) throws(JSONError) {
        self.skipWhiteSpace(in: bytes)
        guard self.index == bytes.count else { throw self.error("bytes after the end of the JSON text") }
    }

    // MARK: Values

    /// Steps over one value, whatever it is, and says what and where it was; the cursor must stand on its first byte.
    package mutating func value(in bytes: Span<UInt8>) throws(JSONError) -> JSONValue {
        let start = self.index
        let kind: JSONValue.Kind
        guard let byte = self.peek(in: bytes) else { throw self.unexpected(in: bytes) }
        switch byte {
        case UInt8(ascii: "\""):
            kind = .string(try self.string(in: bytes))
        case UInt8(ascii: "{"):
            try self.skipContainer(in: bytes)
            kind = .object
        case UInt8(ascii: "["):
            try self.skipContainer(in: bytes)
            kind = .array
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            kind = try self.number(in: bytes) ? .integer : .fraction
        case UInt8(ascii: "n"):
            try self.literal("null", in: bytes)
            kind = .null
        case UInt8(ascii: "t"):
            try self.literal("true", in: bytes)
            kind = .boolean
        case UInt8(ascii: "f"):
            try self.literal("false", in: bytes)
            kind = .boolean
        default:
            throw self.unexpected(in: bytes)
        }
        return JSONValue(kind: kind, range: start..<self.index)
    }

    /// Steps over an object or array without recursion.
    private mutating func skipContainer(in bytes: Span<UInt8>) throws(JSONError) {
        let outerDepth = self.depth
        var nesting = Nesting()
        // The cursor stands where a value begins.
        while true {
            guard let byte = self.peek(in: bytes) else { throw self.unexpected(in: bytes) }
            switch byte {
            case UInt8(ascii: "\""):
                _ = try self.string(in: bytes)
            case UInt8(ascii: "{"):
                if try self.beginObject(in: bytes) {
                    nesting.push(isObject: true)
                    _ = try self.key(in: bytes)
                    continue
                }
            case UInt8(ascii: "["):
                if try self.beginArray(in: bytes) {
                    nesting.push(isObject: false)
                    continue
                }
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                _ = try self.number(in: bytes)
            case UInt8(ascii: "n"):
                try self.literal("null", in: bytes)
            case UInt8(ascii: "t"):
                try self.literal("true", in: bytes)
            case UInt8(ascii: "f"):
                try self.literal("false", in: bytes)
            default:
                throw self.unexpected(in: bytes)
            }
            // A value is over: close what ends here, up to the comma before the next one.
            while true {
                if self.depth == outerDepth { return }
                if nesting.isObject {
                    if try self.nextMember(in: bytes) {
                        _ = try self.key(in: bytes)
                        break
                    }
                } else if try self.nextElement(in: bytes) {
                    break
                }
                nesting.pop()
            }
        }
    }

    /// Steps over a string; the cursor must stand on its opening quote.
    @inline(__always)
    private mutating func string(in bytes: Span<UInt8>) throws(JSONError) -> JSONString {
        let start = self.index + 1
        var position = start
        var isEscaped = false
        while position < bytes.count {
            let byte = bytes[position]
            if byte == UInt8(ascii: "\"") {
                self.index = position + 1
                return JSONString(content: start..<position, isEscaped: isEscaped)
            }
            if byte == UInt8(ascii: "\\") {
                isEscaped = true
                position = try self.afterEscape(at: position, in: bytes)
            } else if byte >= 0x80 {
                position = try self.afterMultibyte(at: position, in: bytes)
            } else if byte >= 0x20 {
                position += 1
            } else {
                throw JSONError(offset: position, reason: "control character in a string")
            }
        }
        throw JSONError(offset: bytes.count, reason: "the JSON text ends too early")
    }

    /// Checks the escape whose backslash is at `position` (RFC 8259 §7); returns where it ends.
    private func afterEscape(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        guard position + 1 < bytes.count else {
            throw JSONError(offset: bytes.count, reason: "the JSON text ends too early")
        }
        switch bytes[position + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            return position + 2
        case UInt8(ascii: "u"):
            guard position + 6 <= bytes.count else {
                throw JSONError(offset: bytes.count, reason: "the JSON text ends too early")
            }
            for index in position + 2..<position + 6 where hexDigitValue(bytes[index]) == nil {
                throw JSONError(offset: index, reason: "broken escape in a string")
            }
            return position + 6
        default:
            throw JSONError(offset: position + 1, reason: "broken escape in a string")
        }
    }

    /// Checks the UTF-8 form of the scalar that begins at `position` (RFC 3629 §4); returns where it ends.
    private func afterMultibyte(at position: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        let lead = bytes[position]
        let length: Int
        // The range of the second byte keeps out overlong forms, surrogates and what lies beyond U+10FFFF.
        var second: ClosedRange<UInt8> = 0x80...0xbf
        switch lead {
        case 0xc2...0xdf: length = 2
        case 0xe0...0xef:
            length = 3
            if lead == 0xe0 { second = 0xa0...0xbf }
            if lead == 0xed { second = 0x80...0x9f }
        case 0xf0...0xf4:
            length = 4
            if lead == 0xf0 { second = 0x90...0xbf }
            if lead == 0xf4 { second = 0x80...0x8f }
        default: throw JSONError(offset: position, reason: "not UTF-8")
        }
        let end = position + length
        guard end <= bytes.count else { throw JSONError(offset: bytes.count, reason: "the JSON text ends too early") }
        guard second.contains(bytes[position + 1]) else { throw JSONError(offset: position, reason: "not UTF-8") }
        var index = position + 2
        while index < end {
            guard bytes[index] & 0xc0 == 0x80 else { throw JSONError(offset: position, reason: "not UTF-8") }
            index += 1
        }
        return end
    }

    /// Steps over a number (RFC 8259 §6); true if it is an integer.
    private mutating func number(in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        if self.peek(in: bytes) == UInt8(ascii: "-") { self.index += 1 }
        if self.peek(in: bytes) == UInt8(ascii: "0") {
            self.index += 1
        } else {
            try self.digits(in: bytes)
        }
        var isInteger = true
        if self.peek(in: bytes) == UInt8(ascii: ".") {
            isInteger = false
            self.index += 1
            try self.digits(in: bytes)
        }
        if let byte = self.peek(in: bytes), byte | 0x20 == UInt8(ascii: "e") {
            isInteger = false
            self.index += 1
            if let sign = self.peek(in: bytes), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") {
                self.index += 1
            }
            try self.digits(in: bytes)
        }
        return isInteger
    }

    /// Steps over one digit or more.
    @inline(__always)
    private mutating func digits(in bytes: Span<UInt8>) throws(JSONError) {
        let start = self.index
        while self.index < bytes.count, bytes[self.index] &- UInt8(ascii: "0") < 10 { self.index += 1 }
        guard self.index > start else { throw self.unexpected(in: bytes) }
    }

    private mutating func literal(_ text: StaticString, in bytes: Span<UInt8>) throws(JSONError) {
        for offset in 0..<text.utf8CodeUnitCount {
            // The pointer of a static string is valid for the life of the process and `offset` is below its count.
            guard self.peek(in: bytes) == text.utf8Start[offset] else { throw self.unexpected(in: bytes) }
            self.index += 1
        }
    }

    // MARK: Containers and errors

    @inline(__always)
    private mutating func begin(_ opening: UInt8, closing: UInt8, in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        guard self.peek(in: bytes) == opening else { throw self.unexpected(in: bytes) }
        guard self.depth < self.depthLimit else { throw self.error("nested too deeply") }
        self.index += 1
        self.skipWhiteSpace(in: bytes)
        if self.peek(in: bytes) == closing {
            self.index += 1
            return false
        }
        self.depth += 1
        return true
    }

    @inline(__always)
    private mutating func next(closing: UInt8, in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        self.skipWhiteSpace(in: bytes)
        switch self.peek(in: bytes) {
        case UInt8(ascii: ","):
            self.index += 1
            self.skipWhiteSpace(in: bytes)
            return true
        case closing:
            self.index += 1
            self.depth -= 1
            return false
        default:
            throw self.unexpected(in: bytes)
        }
    }

    private func error(_ reason: String) -> JSONError { JSONError(offset: self.index, reason: reason) }

    @inline(never)
    private func unexpected(in bytes: Span<UInt8>) -> JSONError {
        if self.index >= bytes.count { return self.error("the JSON text ends too early") }
        if self.index == 0, bytes[0] == 0xef { return self.error("a byte order mark, or not UTF-8") }
        return self.error(bytes[self.index] >= 0x80 ? "not UTF-8, or not JSON" : "not JSON")
    }

    /// Which of the open containers are objects: one bit each, in words of 64.
    private struct Nesting {
        private var word: UInt64 = 0
        private var bits = 0
        private var fullWords: [UInt64] = []

        /// Whether the innermost container is an object.
        var isObject: Bool { self.word & 1 == 1 }

        mutating func push(isObject: Bool) {
            if self.bits == 64 {
                self.fullWords.append(self.word)
                self.bits = 0
            }
            self.word = self.word << 1 | (isObject ? 1 : 0)
            self.bits += 1
        }

        mutating func pop() {
            self.word >>= 1
            self.bits -= 1
            if self.bits == 0, let word = self.fullWords.popLast() {
                self.word = word
                self.bits = 64
            }
        }
    }
}
