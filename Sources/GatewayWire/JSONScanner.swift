// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Walks over JSON text once, from left to right, and checks all of it (RFC 8259): grammar, also of what is skipped,
/// UTF-8 in strings (RFC 3629), and nesting.
///
/// A cursor: the reader calls it in the order of the text, and every call is given the same bytes. It never recurses,
/// and allocates only beyond 64 levels of a skipped value. Escaped lone surrogates pass, since JavaScript writes them;
/// there is no byte order mark and no other encoding. After an error the cursor is of no more use.
package struct JSONScanner: Sendable {
    /// Where the next byte is read.
    package private(set) var index: Int
    private let depthLimit: Int
    private var depth = 0

    /// A cursor at `index`; `depthLimit` is how many objects and arrays may be open inside one another.
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
        let start = self.index
        let end = try JSONGrammar.afterString(at: start, in: bytes)
        self.index = try JSONGrammar.afterColon(at: end.position, in: bytes)
        return JSONString(content: start + 1..<end.position - 1, isEscaped: end.isEscaped)
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
        self.index = JSONGrammar.afterWhiteSpace(at: self.index, in: bytes)
    }

    /// Checks that only white space is left.
    package mutating func finish(in bytes: Span<UInt8>) throws(JSONError) {
        self.skipWhiteSpace(in: bytes)
        guard self.index == bytes.count else { throw JSONError(.trailingBytes, at: self.index) }
    }

    // MARK: Values

    /// Steps over one value, whatever it is, and says what and where it was; the cursor must stand on its first byte.
    package mutating func value(in bytes: Span<UInt8>) throws(JSONError) -> JSONValue {
        let start = self.index
        guard bytes.count <= Int(Int32.max) else { throw JSONError(.tooLong, at: start) }
        guard start < bytes.count else { throw JSONGrammar.unexpected(at: start, in: bytes) }
        let kind: JSONValue.Kind
        switch bytes[start] {
        case UInt8(ascii: "\""):
            let end = try JSONGrammar.afterString(at: start, in: bytes)
            self.index = end.position
            kind = end.isEscaped ? .escapedString : .string
        case UInt8(ascii: "{"):
            self.index = try self.afterContainer(at: start, in: bytes)
            kind = .object
        case UInt8(ascii: "["):
            self.index = try self.afterContainer(at: start, in: bytes)
            kind = .array
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
            let end = try JSONGrammar.afterNumber(at: start, in: bytes)
            self.index = end.position
            kind = end.isInteger ? .integer : .fraction
        default:
            self.index = try JSONGrammar.afterWord(at: start, in: bytes)
            kind = bytes[start] == UInt8(ascii: "n") ? .null : .boolean
        }
        return JSONValue(kind: kind, range: start..<self.index)
    }

    /// Where the object or array that begins at `start` ends; without recursion.
    private func afterContainer(at start: Int, in bytes: Span<UInt8>) throws(JSONError) -> Int {
        var nesting = JSONNesting()
        var position = start
        // The position is where a value begins.
        while true {
            guard position < bytes.count else { throw JSONGrammar.unexpected(at: position, in: bytes) }
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                position = try JSONGrammar.afterString(at: position, in: bytes).position
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                guard self.depth + nesting.count < self.depthLimit else { throw JSONError(.tooDeep, at: position) }
                position = JSONGrammar.afterWhiteSpace(at: position + 1, in: bytes)
                // The closing byte of both kinds is its opening byte and two.
                guard position < bytes.count, bytes[position] == byte + 2 else {
                    nesting.push(isObject: byte == UInt8(ascii: "{"))
                    if nesting.isObject { position = try JSONGrammar.afterKey(at: position, in: bytes) }
                    continue
                }
                position += 1
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                position = try JSONGrammar.afterNumber(at: position, in: bytes).position
            default:
                position = try JSONGrammar.afterWord(at: position, in: bytes)
            }
            // A value is over: close what ends here, up to the comma before the next one.
            while true {
                if nesting.count == 0 { return position }
                position = JSONGrammar.afterWhiteSpace(at: position, in: bytes)
                guard position < bytes.count else { throw JSONGrammar.unexpected(at: position, in: bytes) }
                let byte = bytes[position]
                if byte == UInt8(ascii: ",") {
                    position = JSONGrammar.afterWhiteSpace(at: position + 1, in: bytes)
                    if nesting.isObject { position = try JSONGrammar.afterKey(at: position, in: bytes) }
                    break
                }
                guard byte == (nesting.isObject ? UInt8(ascii: "}") : UInt8(ascii: "]")) else {
                    throw JSONGrammar.unexpected(at: position, in: bytes)
                }
                nesting.pop()
                position += 1
            }
        }
    }

    @inline(__always)
    private mutating func begin(_ opening: UInt8, closing: UInt8, in bytes: Span<UInt8>) throws(JSONError) -> Bool {
        guard self.peek(in: bytes) == opening else { throw JSONGrammar.unexpected(at: self.index, in: bytes) }
        guard self.depth < self.depthLimit else { throw JSONError(.tooDeep, at: self.index) }
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
            throw JSONGrammar.unexpected(at: self.index, in: bytes)
        }
    }
}

/// Which of the open containers are objects: one bit each, in words of 64.
private struct JSONNesting {
    private(set) var count = 0
    private var word: UInt64 = 0
    private var fullWords: [UInt64] = []

    /// Whether the innermost container is an object.
    var isObject: Bool { self.word & 1 == 1 }

    @inline(__always)
    mutating func push(isObject: Bool) {
        if self.count & 63 == 0, self.count > 0 { self.fullWords.append(self.word) }
        self.word = self.word << 1 | (isObject ? 1 : 0)
        self.count += 1
    }

    @inline(__always)
    mutating func pop() {
        self.word >>= 1
        self.count -= 1
        if self.count & 63 == 0, let word = self.fullWords.popLast() { self.word = word }
    }
}
