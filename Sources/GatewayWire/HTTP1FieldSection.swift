// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The field lines of a head, parsed in one pass and wherever the bytes may be cut (RFC 9112 §5).
///
/// Requests and responses share it. It keeps the capacity of its array from one message to the next.
struct HTTP1FieldSection: Sendable {
    /// What the next byte is part of.
    private enum State: UInt8 {
        case lineStart
        case name
        /// White space after the colon.
        case beforeValue
        case value
        /// The line feed that ends a line.
        case lineEnd
        /// The line feed of the empty line.
        case sectionEnd
    }

    private(set) var fields: [HTTP1Field] = []
    /// One bit for each name that occurred, and for each that occurred again.
    private(set) var seen: UInt64 = 0
    private(set) var repeated: UInt64 = 0
    private var state = State.lineStart
    private var nameStart = 0
    private var nameEnd = 0
    private var valueStart = 0

    mutating func reset() {
        self.fields.removeAll(keepingCapacity: true)
        self.seen = 0
        self.repeated = 0
        self.state = .lineStart
    }

    func contains(_ name: HTTP1FieldName) -> Bool { self.seen & Self.bit(name) != 0 }

    func isRepeated(_ name: HTTP1FieldName) -> Bool { self.repeated & Self.bit(name) != 0 }

    func firstIndex(of name: HTTP1FieldName) -> Int? {
        guard self.contains(name) else { return nil }
        return self.fields.firstIndex { $0.name == name }
    }

    func count(of name: HTTP1FieldName) -> Int {
        guard self.isRepeated(name) else { return self.contains(name) ? 1 : 0 }
        return self.fields.count { $0.name == name }
    }

    /// Goes on from `position` to at most `end` and moves `position` behind what was read.
    ///
    /// - Returns: whether the empty line was reached; `position` is then behind it.
    /// - Throws: at the first byte that breaks a rule, and for the field after the last that `limit` allows.
    mutating func parse(
        _ bytes: Span<UInt8>,
        at position: inout Int,
        to end: Int,
        limit: Int
    ) throws(HTTP1Error) -> Bool {
        var index = position
        while index < end {
            switch self.state {
            case .lineStart:
                let byte = bytes[index]
                switch byte {
                case HTTP1Bytes.carriageReturn:
                    self.state = .sectionEnd
                    index &+= 1
                case HTTP1Bytes.lineFeed:
                    throw HTTP1Error(.bareLF)
                case HTTP1Bytes.space, HTTP1Bytes.tab:
                    throw HTTP1Error(.obsFold)
                default:
                    guard self.fields.count < limit else { throw HTTP1Error(.tooManyFields) }
                    self.nameStart = index
                    self.state = .name
                }
            case .name:
                while index < end, HTTP1Bytes.isToken(bytes[index]) { index &+= 1 }
                guard index < end else { break }
                guard bytes[index] == UInt8(ascii: ":"), index > self.nameStart else {
                    throw Self.nameError(bytes[index])
                }
                self.nameEnd = index
                self.state = .beforeValue
                index &+= 1
            case .beforeValue:
                while index < end, HTTP1Bytes.isOptionalWhitespace(bytes[index]) { index &+= 1 }
                guard index < end else { break }
                self.valueStart = index
                self.state = .value
            case .value:
                index = HTTP1Bytes.firstControl(bytes, from: index, to: end)
                guard index < end else { break }
                switch bytes[index] {
                case HTTP1Bytes.tab:
                    index &+= 1
                case HTTP1Bytes.carriageReturn:
                    self.appendField(bytes, valueEnd: index)
                    self.state = .lineEnd
                    index &+= 1
                case HTTP1Bytes.lineFeed:
                    throw HTTP1Error(.bareLF)
                default:
                    throw HTTP1Error(.fieldValue)
                }
            case .lineEnd:
                guard bytes[index] == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
                self.state = .lineStart
                index &+= 1
            case .sectionEnd:
                guard bytes[index] == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
                position = index &+ 1
                return true
            }
        }
        position = index
        return false
    }

    private static func nameError(_ byte: UInt8) -> HTTP1Error {
        switch byte {
        case HTTP1Bytes.space, HTTP1Bytes.tab: HTTP1Error(.spaceBeforeColon)
        case HTTP1Bytes.lineFeed: HTTP1Error(.bareLF)
        default: HTTP1Error(.fieldName)
        }
    }

    @inline(__always)
    private mutating func appendField(_ bytes: Span<UInt8>, valueEnd lineEnd: Int) {
        var valueEnd = lineEnd
        while valueEnd > self.valueStart, HTTP1Bytes.isOptionalWhitespace(bytes[valueEnd &- 1]) { valueEnd &-= 1 }
        let name = HTTP1FieldName(token: bytes.extracting(self.nameStart..<self.nameEnd))
        self.repeated |= self.seen & Self.bit(name)
        self.seen |= Self.bit(name)
        // A head has at most 1 GiB (HTTP1HeadLimits), so its offsets fit.
        self.fields.append(
            HTTP1Field(
                nameStart: Int32(truncatingIfNeeded: self.nameStart),
                nameEnd: Int32(truncatingIfNeeded: self.nameEnd),
                valueStart: Int32(truncatingIfNeeded: self.valueStart),
                valueEnd: Int32(truncatingIfNeeded: valueEnd),
                name: name
            )
        )
    }

    @inline(__always)
    private static func bit(_ name: HTTP1FieldName) -> UInt64 { 1 &<< UInt64(name.rawValue) }
}
