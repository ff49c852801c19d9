// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Reads one message: first all of its text, then the rules, so that broken JSON is always `parse` and a broken rule
/// is answered with the id wherever that stands.
struct EnvelopeReader {
    private let source: EnvelopeScanner.Source
    private var range = 0..<0
    /// The first broken rule.
    private var fault: (offset: Int, reason: String)?

    private var jsonrpc: JSONValue?
    private var idValue: JSONValue?
    private var method: JSONValue?
    private var params: JSONValue?
    private var result: JSONValue?
    private var error: JSONValue?
    private var errorCode: JSONValue?
    private var parameters = Parameters()

    init(source: EnvelopeScanner.Source) {
        self.source = source
    }

    /// The id if one valid id was read so far.
    private(set) var id: MessageID?

    // MARK: The text

    /// Reads the value at the cursor, which should be a message, to its end.
    mutating func read(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        let start = scanner.index
        if scanner.peek(in: bytes) == UInt8(ascii: "{") {
            try self.readMembers(&scanner, in: bytes)
        } else {
            _ = try scanner.value(in: bytes)
            self.report("not a JSON-RPC message", at: start)
        }
        self.range = start..<scanner.index
    }

    private mutating func readMembers(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        var names = MemberNames()
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            let isNew = self.check(key, isNewIn: &names, in: bytes)
            if key.equals("id", in: bytes) {
                let value = try scanner.value(in: bytes)
                self.idValue = value
                // Two ids are as good as none.
                self.id = isNew ? MessageID(value, in: bytes) : nil
            } else if key.equals("method", in: bytes) {
                self.method = try scanner.value(in: bytes)
            } else if key.equals("params", in: bytes) {
                self.params = try self.readParams(&scanner, in: bytes)
            } else if key.equals("jsonrpc", in: bytes) {
                self.jsonrpc = try scanner.value(in: bytes)
            } else if key.equals("result", in: bytes) {
                self.result = try scanner.value(in: bytes)
            } else if key.equals("error", in: bytes) {
                self.error = try self.readError(&scanner, in: bytes)
            } else {
                _ = try scanner.value(in: bytes)
            }
            hasMember = try scanner.nextMember(in: bytes)
        }
    }

    private mutating func readParams(
        _ scanner: inout JSONScanner,
        in bytes: Span<UInt8>
    ) throws(JSONError) -> JSONValue {
        let start = scanner.index
        guard scanner.peek(in: bytes) == UInt8(ascii: "{") else {
            let value = try scanner.value(in: bytes)
            if value.kind != .null { self.report("params is not an object", at: start) }
            return value
        }
        var names = MemberNames()
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            self.check(key, isNewIn: &names, in: bytes)
            if key.equals("_meta", in: bytes) {
                try self.readMeta(&scanner, in: bytes)
            } else {
                let value = try scanner.value(in: bytes)
                self.parameters.take(value, for: key, in: bytes)
            }
            hasMember = try scanner.nextMember(in: bytes)
        }
        return JSONValue(kind: .object, range: start..<scanner.index)
    }

    private mutating func readMeta(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        guard scanner.peek(in: bytes) == UInt8(ascii: "{") else {
            let value = try scanner.value(in: bytes)
            if value.kind != .null { self.report("params._meta is not an object", at: value.range.lowerBound) }
            return
        }
        var names = MemberNames()
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            self.check(key, isNewIn: &names, in: bytes)
            let value = try scanner.value(in: bytes)
            self.parameters.takeMeta(value, for: key, in: bytes)
            hasMember = try scanner.nextMember(in: bytes)
        }
    }

    private mutating func readError(
        _ scanner: inout JSONScanner,
        in bytes: Span<UInt8>
    ) throws(JSONError) -> JSONValue {
        guard scanner.peek(in: bytes) == UInt8(ascii: "{") else { return try scanner.value(in: bytes) }
        let start = scanner.index
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            let value = try scanner.value(in: bytes)
            if key.equals("code", in: bytes) {
                if self.errorCode != nil { self.report("error.code comes twice", at: value.range.lowerBound) }
                self.errorCode = value
            }
            hasMember = try scanner.nextMember(in: bytes)
        }
        return JSONValue(kind: .object, range: start..<scanner.index)
    }

    /// Checks a key of the message, of `params` or of `_meta`; false if it is there twice.
    @inline(__always)
    @discardableResult
    private mutating func check(
        _ key: JSONString,
        isNewIn names: inout MemberNames,
        in bytes: Span<UInt8>
    ) -> Bool {
        if key.isEscaped, !key.hasOnlyEscapedSlashes(in: bytes) {
            self.report("a key is written with escapes", at: key.literal.lowerBound)
        }
        if names.insert(key, in: bytes) { return true }
        self.report("a key comes twice", at: key.literal.lowerBound)
        return false
    }

    private mutating func report(_ reason: String, at offset: Int) {
        if self.fault == nil { self.fault = (offset, reason) }
    }

    // MARK: The rules

    /// The envelope of the message that was read.
    func envelope(in bytes: Span<UInt8>) throws(EnvelopeError) -> Envelope {
        if let fault = self.fault { throw self.invalid(fault.reason, at: fault.offset) }
        guard let jsonrpc = self.jsonrpc?.string, jsonrpc.equals("2.0", in: bytes) else {
            throw self.invalid("jsonrpc is not \"2.0\"", at: self.jsonrpc?.range.lowerBound)
        }
        if let value = self.idValue, value.kind != .null, self.id == nil {
            throw self.invalid("id is no string of up to 256 bytes and no integer", at: value.range.lowerBound)
        }
        return self.method == nil ? try self.response(in: bytes) : try self.call(in: bytes)
    }

    private func call(in bytes: Span<UInt8>) throws(EnvelopeError) -> Envelope {
        guard let name = self.method?.string else {
            throw self.invalid("method is not a string", at: self.method?.range.lowerBound)
        }
        guard self.result == nil, self.error == nil else {
            throw self.invalid("a message with a method and a result or an error")
        }
        if let value = self.idValue, value.kind == .null {
            throw self.invalid("id of a request is null", at: value.range.lowerBound)
        }
        var envelope = Envelope(kind: self.id == nil ? .notification : .request, range: self.range)
        let method = MCPMethod(name, in: bytes)
        envelope.id = self.id
        envelope.method = method
        envelope.methodName = name
        if let params = self.params, params.kind == .object { envelope.params = params.range }
        if let offset = self.parameters.fill(&envelope, method: method, in: bytes) {
            throw self.invalid("a token or id in params is no string of up to 256 bytes and no integer", at: offset)
        }
        return envelope
    }

    private func response(in bytes: Span<UInt8>) throws(EnvelopeError) -> Envelope {
        var result = self.result
        var error = self.error
        if self.source == .upstream, let bothResult = result, let bothError = error {
            if bothError.kind == .null {
                error = nil
            } else if bothResult.kind == .null {
                result = nil
            }
        }
        guard (result == nil) != (error == nil) else {
            throw self.invalid(result == nil ? "no method, result or error" : "both a result and an error")
        }
        var envelope = Envelope(kind: error == nil ? .result : .error, range: self.range)
        envelope.id = self.id
        envelope.result = result?.range
        envelope.error = error?.range
        envelope.errorCode = self.errorCode.flatMap { $0.integer(in: bytes) }.map { Int($0) }
        return envelope
    }

    private func invalid(_ reason: String, at offset: Int? = nil) -> EnvelopeError {
        EnvelopeError(
            code: .invalidRequest,
            offset: offset ?? self.range.lowerBound,
            reason: reason,
            id: self.id
        )
    }
}
