// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Parses the head of an HTTP/1.1 request in one pass, wherever its bytes may be cut (RFC 9112 §2 to §6).
///
/// One parser serves a connection: ``parse(_:)`` until it gives a length, then the properties, then ``reset()`` for the
/// next request. It allocates nothing once its array of fields has grown to what the connection sends.
///
/// Strict: what two recipients could read in two ways is refused. The order of the verdicts is the same however the
/// bytes arrive:
///
/// 1. The first byte, in the order of the wire, that breaks the grammar or a limit decides (400, 414, 431), also an
///    unsupported version (505) and an HTTP/0.9 request line (505).
/// 2. At the end of the request line: a method that is not registered, or CONNECT (501); then a target whose form does
///    not fit (400).
/// 3. At the end of the head: framing, Host, repeated Authorization or Content-Type (400), Expect (417).
///
/// Methods that are registered but served nowhere are left to the router (405).
package struct HTTP1RequestParser: ~Copyable, Sendable {
    private enum Phase: UInt8 {
        case start
        /// The line feed of an empty line before the request line.
        case emptyLineEnd
        case method
        case target
        case version
        case lineEnd
        case fields
        case complete
    }

    package let limits: HTTP1HeadLimits
    package private(set) var method = HTTP1Method.other
    /// The request target as it stands in the request line.
    package private(set) var target = 0..<0
    package private(set) var targetForm = HTTP1TargetForm.origin
    /// The path, undecoded, without the query.
    ///
    /// Empty for `*` and for an absolute form without a path, which means `/`.
    package private(set) var path = 0..<0
    /// What follows the first `?` of the target; nil if there is none.
    package private(set) var query: Range<Int>?
    /// Whom the request is for, valid by ``HostPort/Layout``: the value of `Host`, else the authority of an absolute
    /// form; nil only for HTTP/1.0 with neither.
    package private(set) var host: Range<Int>?
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    package private(set) var minorVersion = 1
    /// Never `.untilClose`.
    package private(set) var framing = HTTP1BodyFraming.none
    /// Whether the caller wants to go on using the connection.
    package private(set) var keepsAlive = true
    /// Whether a body is announced that is sent only after a 100.
    package private(set) var expectsContinue = false

    private var section = HTTP1FieldSection()
    private var phase = Phase.start
    /// Everything before it was read and need not be looked at again.
    private var position = 0
    /// Where the element that is being read begins.
    private var mark = 0
    private var headLength = 0
    private var failure: HTTP1Error?

    package init(limits: HTTP1HeadLimits = .request) {
        self.limits = limits
    }

    /// The fields in the order of the wire, as offsets into the bytes given to ``parse(_:)``.
    package var fields: [HTTP1Field] { self.section.fields }

    /// Whether there is an `Upgrade` field, which is never followed (faults S6.2).
    package var hasUpgrade: Bool { self.section.contains(.upgrade) }

    /// The index in ``fields`` of the first field of this name; nil if there is none.
    package func firstIndex(of name: HTTP1FieldName) -> Int? { self.section.firstIndex(of: name) }

    /// How many fields have this name.
    package func count(of name: HTTP1FieldName) -> Int { self.section.count(of: name) }

    /// Where the value of the first field of this name stands; nil if there is none.
    package func value(of name: HTTP1FieldName) -> Range<Int>? {
        self.section.firstIndex(of: name).map { self.section.fields[$0].valueRange }
    }

    /// Forgets the message; the capacity stays.
    package mutating func reset() {
        self.section.reset()
        self.phase = .start
        self.position = 0
        self.failure = nil
    }

    /// Reads on in the bytes of a message, all of which are given again, from its first byte, each time.
    ///
    /// - Returns: the length of the whole head, an empty line before it included; nil if more bytes are needed. Once
    ///   there is a length, it is returned again until ``reset()``.
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
            try self.parseRequestLine(bytes, to: end)
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

    private mutating func parseRequestLine(_ bytes: Span<UInt8>, to end: Int) throws(HTTP1Error) {
        var index = self.position
        defer { self.position = index }
        while index < end {
            switch self.phase {
            case .start:
                if bytes[index] == HTTP1Bytes.carriageReturn, index == 0 {
                    self.phase = .emptyLineEnd
                    index &+= 1
                } else {
                    self.mark = index
                    self.phase = .method
                }
            case .emptyLineEnd:
                guard bytes[index] == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
                self.phase = .start
                index &+= 1
            case .method:
                while index < end, HTTP1Bytes.isToken(bytes[index]) { index &+= 1 }
                guard index < end else { return }
                guard bytes[index] == HTTP1Bytes.space, index > self.mark else {
                    throw Self.requestLineError(bytes[index], .requestLine)
                }
                self.method = HTTP1Method(bytes.extracting(self.mark..<index))
                index &+= 1
                self.mark = index
                self.phase = .target
            case .target:
                let limit = min(end, self.mark &+ self.limits.targetBytes)
                while index < limit, Self.isTarget(bytes[index]) { index &+= 1 }
                guard index < end else { return }
                try self.endTarget(bytes, at: index)
                index &+= 1
                self.mark = index
                self.phase = .version
            case .version:
                guard try self.parseVersion(bytes, to: end) else { return }
                index = self.mark &+ 8
                guard index < end else { return }
                guard bytes[index] == HTTP1Bytes.carriageReturn else {
                    throw Self.requestLineError(bytes[index], .requestLine)
                }
                index &+= 1
                self.phase = .lineEnd
            case .lineEnd:
                guard bytes[index] == HTTP1Bytes.lineFeed else { throw HTTP1Error(.bareCR) }
                index &+= 1
                if self.method == .connect || self.method == .other { throw HTTP1Error(.method) }
                try self.splitTarget(bytes)
                self.phase = .fields
                return
            case .fields, .complete:
                return
            }
        }
    }

    /// Visible ASCII without `#`: a fragment has no place in a request (RFC 9112 §3.2).
    @inline(__always)
    private static func isTarget(_ byte: UInt8) -> Bool {
        byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "#")
    }

    private static func requestLineError(_ byte: UInt8, _ reason: HTTP1Error.Reason) -> HTTP1Error {
        byte == HTTP1Bytes.lineFeed ? HTTP1Error(.bareLF) : HTTP1Error(reason)
    }

    /// Takes the bytes up to `end`, which is no byte of a target, or one too many, as the target.
    private mutating func endTarget(_ bytes: Span<UInt8>, at end: Int) throws(HTTP1Error) {
        let byte = bytes[end]
        guard byte == HTTP1Bytes.space, end > self.mark else {
            if Self.isTarget(byte) { throw HTTP1Error(.targetTooLong) }
            switch byte {
            case HTTP1Bytes.space:
                throw HTTP1Error(.requestLine)
            case HTTP1Bytes.carriageReturn:
                // `GET /path` and nothing behind it is what HTTP/0.9 looks like (RFC 1945 §4.1).
                throw HTTP1Error(self.method == .get && end > self.mark ? .version : .requestLine)
            default:
                throw Self.requestLineError(byte, .target)
            }
        }
        self.target = self.mark..<end
    }

    /// Reads `HTTP/1.0` or `HTTP/1.1`.
    ///
    /// - Returns: whether all eight bytes are there. Looks at those eight again for each byte that arrives.
    private mutating func parseVersion(_ bytes: Span<UInt8>, to end: Int) throws(HTTP1Error) -> Bool {
        let pattern = HTTP1Bytes.word("HTTP/d.d")
        let count = min(8, end &- self.mark)
        for offset in 0..<count {
            let byte = bytes[self.mark &+ offset]
            let expected = UInt8(truncatingIfNeeded: pattern &>> UInt64(8 &* offset))
            let isExpected = expected == UInt8(ascii: "d") ? HTTP1Bytes.isDigit(byte) : byte == expected
            guard isExpected else { throw Self.requestLineError(byte, .requestLine) }
        }
        guard count == 8 else { return false }
        let minor = bytes[self.mark &+ 7] &- UInt8(ascii: "0")
        guard bytes[self.mark &+ 5] == UInt8(ascii: "1"), minor <= 1 else { throw HTTP1Error(.version) }
        self.minorVersion = Int(minor)
        return true
    }
}

extension HTTP1RequestParser {
    /// Tells the form of the target and splits it into authority, path and query.
    private mutating func splitTarget(_ bytes: Span<UInt8>) throws(HTTP1Error) {
        self.host = nil
        self.query = nil
        self.targetForm = .origin
        var start = self.target.lowerBound
        if bytes[start] != UInt8(ascii: "/") {
            if self.target.count == 1, bytes[start] == UInt8(ascii: "*"), self.method == .options {
                self.targetForm = .asterisk
                self.path = start..<start
                return
            }
            start = try self.readAuthority(bytes)
        }
        var index = start
        while index < self.target.upperBound, bytes[index] != UInt8(ascii: "?") { index &+= 1 }
        self.path = start..<index
        if index < self.target.upperBound { self.query = (index &+ 1)..<self.target.upperBound }
    }

    /// Reads scheme and authority of an absolute form into `host`.
    ///
    /// - Returns: where the authority ends.
    private mutating func readAuthority(_ bytes: Span<UInt8>) throws(HTTP1Error) -> Int {
        let start = self.target.lowerBound
        let schemeLength =
            if Self.hasPrefix(bytes.extracting(self.target), "http://") {
                7
            } else if Self.hasPrefix(bytes.extracting(self.target), "https://") {
                8
            } else {
                throw HTTP1Error(.target)
            }
        var index = start &+ schemeLength
        authority: while index < self.target.upperBound {
            switch bytes[index] {
            case UInt8(ascii: "/"), UInt8(ascii: "?"): break authority
            default: index &+= 1
            }
        }
        let authority = (start &+ schemeLength)..<index
        guard HostPort.Layout(bytes.extracting(authority)) != nil else { throw HTTP1Error(.target) }
        self.targetForm = .absolute
        self.host = authority
        return index
    }

    private static func hasPrefix(_ bytes: Span<UInt8>, _ prefix: StaticString) -> Bool {
        let count = prefix.utf8CodeUnitCount
        return bytes.count >= count && HTTP1Bytes.equalsIgnoringCase(bytes.extracting(0..<count), prefix)
    }

    /// The rules that need the whole head.
    private mutating func applyRules(_ bytes: Span<UInt8>) throws(HTTP1Error) {
        self.framing = try self.section.framing(of: bytes, minorVersion: self.minorVersion) ?? .none
        try self.applyHostRules(bytes)
        if self.section.isRepeated(.authorization) { throw HTTP1Error(.duplicateAuthorization) }
        if self.section.isRepeated(.contentType) { throw HTTP1Error(.duplicateContentType) }
        self.expectsContinue = false
        if self.section.contains(.expect) {
            guard !self.section.isRepeated(.expect), let value = self.value(of: .expect),
                HTTP1Bytes.equalsIgnoringCase(bytes.extracting(value), "100-continue")
            else { throw HTTP1Error(.expectation) }
            let hasBody = self.framing != .none && self.framing != .length(0)
            // An HTTP/1.0 caller does not know what a 100 is (RFC 9110 §10.1.1).
            self.expectsContinue = hasBody && self.minorVersion >= 1
        }
        self.keepsAlive = self.section.keepsAlive(bytes, minorVersion: self.minorVersion)
    }

    /// Exactly one valid Host in HTTP/1.1, at most one in HTTP/1.0, and the same as in an absolute form
    /// (RFC 9112 §3.2, faults S6.1).
    private mutating func applyHostRules(_ bytes: Span<UInt8>) throws(HTTP1Error) {
        guard let value = self.value(of: .host) else {
            if self.minorVersion >= 1 { throw HTTP1Error(.missingHost) }
            return
        }
        if self.section.isRepeated(.host) { throw HTTP1Error(.duplicateHost) }
        guard let layout = HostPort.Layout(bytes.extracting(value)) else { throw HTTP1Error(.host) }
        if let authority = self.host {
            let isTLS = bytes[self.target.lowerBound &+ 4] != UInt8(ascii: ":")
            guard let named = HostPort.Layout(bytes.extracting(authority)),
                HTTP1Bytes.equalsIgnoringCase(
                    bytes.extracting(authority).extracting(named.host),
                    bytes.extracting(value).extracting(layout.host)
                ),
                (named.port ?? (isTLS ? 443 : 80)) == (layout.port ?? (isTLS ? 443 : 80))
            else { throw HTTP1Error(.hostMismatch) }
        }
        self.host = value
    }
}
