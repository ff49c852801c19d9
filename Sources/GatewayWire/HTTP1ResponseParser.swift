// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Parses the head of an HTTP/1.x response in one pass, wherever its bytes may be cut (RFC 9112 §4 to §6).
///
/// Used like ``HTTP1RequestParser``. Lenient where RFC 9112 asks recipients to be (a missing reason phrase, a minor
/// version above 1), strict wherever two recipients could see two message boundaries. Anything that does not begin like
/// a status line is refused at its first wrong byte, so that HTTP/0.9 and other protocols are not buffered.
///
/// A 1xx head is a head like any other: the caller drops it, calls ``reset()`` and counts (faults S5.10).
package struct HTTP1ResponseParser: ~Copyable, Sendable {
    private enum Phase: UInt8 {
        case status
        case reason
        case lineEnd
        case fields
        case complete
    }

    package let limits: HTTP1HeadLimits
    /// The method that is being answered: the answers to HEAD, and those of 2xx to CONNECT, have no body.
    package private(set) var requestMethod: HTTP1Method
    /// 100...999.
    package private(set) var status = 0
    /// 0 for HTTP/1.0, 1 for every later HTTP/1.
    package private(set) var minorVersion = 1
    package private(set) var framing = HTTP1BodyFraming.none
    /// Whether another response can follow on the connection, as far as the head says.
    ///
    /// Never where the body lasts until the end of the connection, nor where a status without body announces one.
    package private(set) var keepsAlive = true

    private var section = HTTP1FieldSection()
    private var phase = Phase.status
    /// Everything before it was read and need not be looked at again.
    private var position = 0
    private var headLength = 0
    private var failure: HTTP1Error?

    package init(limits: HTTP1HeadLimits = .response, requestMethod: HTTP1Method = .post) {
        self.limits = limits
        self.requestMethod = requestMethod
    }

    /// The fields in the order of the wire, as offsets into the bytes given to ``parse(_:)``.
    package var fields: [HTTP1Field] { self.section.fields }

    /// Whether this is a 1xx, behind which another head follows (101 excepted).
    package var isInformational: Bool { self.status < 200 }

    /// Whether there is an `Upgrade` field.
    package var hasUpgrade: Bool { self.section.contains(.upgrade) }

    /// Whether there is a `Content-Encoding` field.
    package var hasContentEncoding: Bool { self.section.contains(.contentEncoding) }

    /// The index in ``fields`` of the first field of this name; nil if there is none.
    package func firstIndex(of name: HTTP1FieldName) -> Int? { self.section.firstIndex(of: name) }

    /// How many fields have this name.
    package func count(of name: HTTP1FieldName) -> Int { self.section.count(of: name) }

    /// Where the value of the first field of this name stands; nil if there is none.
    package func value(of name: HTTP1FieldName) -> Range<Int>? {
        self.section.firstIndex(of: name).map { self.section.fields[$0].valueRange }
    }

    /// Forgets the message; the capacity and the method that is being answered stay.
    package mutating func reset() {
        self.section.reset()
        self.phase = .status
        self.position = 0
        self.failure = nil
    }

    /// Forgets the message and makes ready for the answer to a request of this method.
    package mutating func reset(requestMethod: HTTP1Method) {
        self.reset()
        self.requestMethod = requestMethod
    }

    /// Reads on in the bytes of a message, all of which are given again, from its first byte, each time.
    ///
    /// - Returns: the length of the whole head; nil if more bytes are needed. Once there is a length, it is returned
    ///   again until ``reset()``.
    /// - Throws: an ``HTTP1Error``, and the same again until ``reset()``; the connection has to be closed.
    package mutating func parse(_ bytes: Span<UInt8>) throws(HTTP1Error) -> Int? {
        if let failure = self.failure { throw failure }
        do throws(HTTP1Error) {
            return try self.parseHead(bytes)
        } catch {
            self.failure = error
            throw error
        }
    }

    private mutating func parseHead(_ bytes: Span<UInt8>) throws(HTTP1Error) -> Int? {
        let end = min(bytes.count, self.limits.headBytes)
        if self.phase.rawValue < Phase.fields.rawValue {
            try self.parseStatusLine(bytes, to: end)
        }
        if self.phase == .fields,
            try self.section.parse(bytes, at: &self.position, to: end, limit: self.limits.fields)
        {
            try self.applyRules(bytes)
            self.headLength = self.position
            self.phase = .complete
        }
        if self.phase == .complete { return self.headLength }
        if end == self.limits.headBytes { throw HTTP1Error(.headTooLarge) }
        return nil
    }

    private mutating func parseStatusLine(_ bytes: Span<UInt8>, to end: Int) throws(HTTP1Error) {
        var index = self.position
        defer { self.position = index }
        while index < end {
            let byte = bytes[index]
            switch self.phase {
            case .status:
                try self.takeStatusByte(byte, at: index)
                index &+= 1
            case .reason:
                index = HTTP1Bytes.firstControl(bytes, from: index, to: end)
                guard index < end else { return }
                switch bytes[index] {
                case HTTP1Bytes.tab: break
                case HTTP1Bytes.carriageReturn: self.phase = .lineEnd
                case HTTP1Bytes.lineFeed: throw HTTP1Error(.bareLF)
                default: throw HTTP1Error(.statusLine)
                }
                index &+= 1
            case .lineEnd:
                guard byte == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
                index &+= 1
                self.phase = .fields
                return
            case .fields, .complete:
                return
            }
        }
    }

    /// Takes the byte at `index` of `HTTP/1.x NNN`, and the space or line end behind it.
    private mutating func takeStatusByte(_ byte: UInt8, at index: Int) throws(HTTP1Error) {
        switch index {
        case 0..<7:
            let expected = UInt8(truncatingIfNeeded: HTTP1Bytes.word("HTTP/1.") &>> UInt64(8 &* index))
            guard byte == expected else {
                // `HTTP/2` is a version we do not speak; anything else is not HTTP at all.
                throw HTTP1Error(index == 5 && HTTP1Bytes.isDigit(byte) ? .version : .statusLine)
            }
        case 7:
            guard HTTP1Bytes.isDigit(byte) else { throw HTTP1Error(.statusLine) }
            self.minorVersion = byte == UInt8(ascii: "0") ? 0 : 1
        case 8:
            guard byte == HTTP1Bytes.space else { throw HTTP1Error(.statusLine) }
            self.status = 0
        case 9..<12:
            guard HTTP1Bytes.isDigit(byte) else { throw HTTP1Error(.statusLine) }
            self.status = self.status &* 10 &+ Int(byte &- UInt8(ascii: "0"))
        default:
            guard self.status >= 100 else { throw HTTP1Error(.statusLine) }
            switch byte {
            case HTTP1Bytes.space: self.phase = .reason
            case HTTP1Bytes.carriageReturn: self.phase = .lineEnd
            case HTTP1Bytes.lineFeed: throw HTTP1Error(.bareLF)
            default: throw HTTP1Error(.statusLine)
            }
        }
    }

    /// The rules that need the whole head (RFC 9112 §6.3, in its order).
    private mutating func applyRules(_ bytes: Span<UInt8>) throws(HTTP1Error) {
        let isKeptAlive = self.section.keepsAlive(bytes, minorVersion: self.minorVersion)
        if self.requestMethod == .connect, (200..<300).contains(self.status) {
            // The tunnel begins behind the head whatever it says about a body.
            self.framing = .none
            self.keepsAlive = isKeptAlive
            return
        }
        let framing = try self.section.framing(of: bytes, minorVersion: self.minorVersion)
        if self.requestMethod == .head || self.status == 304 {
            self.framing = .none
            self.keepsAlive = isKeptAlive
        } else if self.isInformational || self.status == 204 {
            self.framing = .none
            // A peer that announces a body here may also send one.
            self.keepsAlive = isKeptAlive && (framing == nil || framing == .length(0))
        } else {
            self.framing = framing ?? .untilClose
            self.keepsAlive = isKeptAlive && framing != nil
        }
    }
}
