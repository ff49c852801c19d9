// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Reads one message: first all of its text, then the rules, so that broken JSON is always `parse` and a broken rule
/// is answered with the id wherever that stands.
struct EnvelopeReader {
    private let source: EnvelopeScanner.Source
    private var range = 0..<0
    private var members = EnvelopeMembers()
    /// The first broken rule.
    private var fault: (offset: Int, reason: StaticString)?

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
            try self.readMessage(&scanner, in: bytes)
        } else {
            _ = try scanner.value(in: bytes)
            self.report("not a JSON-RPC message", at: start)
        }
        self.range = start..<scanner.index
    }

    private mutating func readMessage(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        var names = MemberNames()
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            let member = EnvelopeMember(message: key, in: bytes)
            self.check(key, member, &names, in: bytes)
            if member == nil, EnvelopeMember.isLikeOne(message: key, in: bytes) { self.reportLike(key) }
            let start = scanner.index
            let byte = scanner.peek(in: bytes)
            if member == .params, byte == UInt8(ascii: "{") {
                try self.readParams(&scanner, in: bytes)
                self.members[.params] = JSONValue(kind: .object, range: start..<scanner.index)
            } else if member == .error, byte == UInt8(ascii: "{") {
                try self.readError(&scanner, in: bytes)
                self.members[.error] = JSONValue(kind: .object, range: start..<scanner.index)
            } else {
                let value = try scanner.value(in: bytes)
                guard let member else {
                    hasMember = try scanner.nextMember(in: bytes)
                    continue
                }
                // A message with two ids has none that an answer could name.
                if member == .id { self.id = self.members[.id] == nil ? MessageID(value, in: bytes) : nil }
                self.members[member] = value
            }
            hasMember = try scanner.nextMember(in: bytes)
        }
    }

    private mutating func readParams(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        var names = MemberNames()
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            let member = EnvelopeMember(params: key, in: bytes)
            self.check(key, member, &names, in: bytes)
            if member == nil, self.source == .downstream, EnvelopeMember.isLikeOne(params: key, in: bytes) {
                self.reportLike(key)
            }
            if member == .meta, scanner.peek(in: bytes) == UInt8(ascii: "{") {
                let start = scanner.index
                try self.readMeta(&scanner, in: bytes)
                self.members[.meta] = JSONValue(kind: .object, range: start..<scanner.index)
            } else {
                let value = try scanner.value(in: bytes)
                if let member { self.members[member] = value }
            }
            hasMember = try scanner.nextMember(in: bytes)
        }
    }

    private mutating func readMeta(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        var names = MemberNames()
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            let member = EnvelopeMember(meta: key, in: bytes)
            self.check(key, member, &names, in: bytes)
            if member == nil, self.source == .downstream, EnvelopeMember.isLikeOne(meta: key, in: bytes) {
                self.reportLike(key)
            }
            let value = try scanner.value(in: bytes)
            if let member { self.members[member] = value }
            hasMember = try scanner.nextMember(in: bytes)
        }
    }

    private mutating func readError(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) {
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let key = try scanner.key(in: bytes)
            let value = try scanner.value(in: bytes)
            if key.equals("code", in: bytes) {
                if self.members[.errorCode] != nil { self.report("error.code comes twice", at: value.range.lowerBound) }
                self.members[.errorCode] = value
            } else if self.source == .downstream, key.folds(to: "code", in: bytes) {
                self.reportLike(key)
            }
            hasMember = try scanner.nextMember(in: bytes)
        }
    }

    /// Checks that a key of the message, of `params` or of `_meta` is written plainly and is the first of its name.
    @inline(__always)
    private mutating func check(
        _ key: JSONString,
        _ member: EnvelopeMember?,
        _ names: inout MemberNames,
        in bytes: Span<UInt8>
    ) {
        if key.isEscaped, !key.hasOnlyEscapedSlashes(in: bytes) {
            self.report("a key is written with escapes", at: key.literal.lowerBound)
        }
        let isNew = if let member { self.members[member] == nil } else { names.insert(key, in: bytes) }
        if !isNew { self.report("a key comes twice", at: key.literal.lowerBound) }
    }

    private mutating func reportLike(_ key: JSONString) {
        self.report("a key differs only by case from one that decides", at: key.literal.lowerBound)
    }

    private mutating func report(_ reason: StaticString, at offset: Int) {
        if self.fault == nil { self.fault = (offset, reason) }
    }

    // MARK: The rules

    /// The envelope of the message that was read.
    @inline(__always)
    func envelope(in bytes: Span<UInt8>) throws(EnvelopeError) -> Envelope {
        if let fault = self.fault { throw self.invalid(fault.reason, at: fault.offset) }
        guard let jsonrpc = self.members[.jsonrpc]?.string, jsonrpc.equals("2.0", in: bytes) else {
            throw self.invalid("jsonrpc is not \"2.0\"", at: self.members[.jsonrpc])
        }
        if let value = self.members[.id], value.kind != .null, self.id == nil {
            throw self.invalid("id is no string of up to 256 bytes and no integer", at: value)
        }
        if let params = self.members[.params], params.kind != .object, params.kind != .null {
            throw self.invalid("params is not an object", at: params)
        }
        if let meta = self.members[.meta], meta.kind != .object, meta.kind != .null {
            throw self.invalid("params._meta is not an object", at: meta)
        }
        return self.members[.method] == nil ? try self.response(in: bytes) : try self.call(in: bytes)
    }

    @inline(__always)
    private func call(in bytes: Span<UInt8>) throws(EnvelopeError) -> Envelope {
        guard let name = self.members[.method]?.string else {
            throw self.invalid("method is not a string", at: self.members[.method])
        }
        guard self.members[.result] == nil, self.members[.error] == nil else {
            throw self.invalid("a message with a method and a result or an error", at: nil)
        }
        if let value = self.members[.id], value.kind == .null { throw self.invalid("id of a call is null", at: value) }
        var envelope = Envelope(kind: self.id == nil ? .notification : .request, range: self.range)
        let method = MCPMethod(name, in: bytes)
        envelope.id = self.id
        envelope.method = method
        envelope.methodName = name
        if let params = self.members[.params], params.kind == .object { envelope.payload = params }
        switch method.nameParameter {
        case .name: envelope.name = self.members[.name]?.string
        case .uri: envelope.name = self.members[.uri]?.string
        case .taskID: envelope.name = self.members[.taskID]?.string
        case nil: break
        }
        let isProgress = method == .progressNotification
        envelope.progressToken = try self.token(
            isProgress ? self.members[.reportedToken] : self.members[.metaToken],
            in: bytes
        )
        if method == .cancelledNotification {
            envelope.cancelledID = try self.token(self.members[.requestID], in: bytes)
        }
        if method == .initialize { envelope.initializeVersion = self.members[.protocolVersion]?.string }
        envelope.requestState = self.members[.requestState]?.string
        envelope.hasStatelessEnvelope = self.members[.metaVersion] != nil
        envelope.statelessVersion = self.members[.metaVersion]?.string
        envelope.hasClientCapabilities = self.members[.metaCapabilities]?.kind == .object
        if let value = self.members[.metaSubscription] { envelope.subscriptionID = MessageID(value, in: bytes) }
        return envelope
    }

    @inline(__always)
    private func response(in bytes: Span<UInt8>) throws(EnvelopeError) -> Envelope {
        var result = self.members[.result]
        var error = self.members[.error]
        if self.source == .upstream, let bothResult = result, let bothError = error {
            if bothError.kind == .null {
                error = nil
            } else if bothResult.kind == .null {
                result = nil
            }
        }
        if result == nil, error == nil { throw self.invalid("no method, result or error", at: nil) }
        if result != nil, error != nil { throw self.invalid("both a result and an error", at: nil) }
        var envelope = Envelope(kind: error == nil ? .result : .error, range: self.range)
        envelope.id = self.id
        envelope.payload = error ?? result
        if error != nil, let code = self.members[.errorCode]?.integer(in: bytes) { envelope.errorCode = Int(code) }
        return envelope
    }

    /// A progress token or request id in `params`; nil if absent or null.
    private func token(_ value: JSONValue?, in bytes: Span<UInt8>) throws(EnvelopeError) -> MessageID? {
        guard let value, value.kind != .null else { return nil }
        guard let token = MessageID(value, in: bytes) else {
            throw self.invalid("a token or id in params is no string of up to 256 bytes and no integer", at: value)
        }
        return token
    }

    private func invalid(_ reason: StaticString, at value: JSONValue?) -> EnvelopeError {
        self.invalid(reason, at: value?.range.lowerBound ?? self.range.lowerBound)
    }

    private func invalid(_ reason: StaticString, at offset: Int) -> EnvelopeError {
        EnvelopeError(code: .invalidRequest, offset: offset, reason: reason.description, id: self.id)
    }
}
