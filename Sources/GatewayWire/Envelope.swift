// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the gateway knows of one JSON-RPC message: where things stand in its bytes, never their decoded values.
///
/// Every range is an offset into the bytes that ``EnvelopeScanner`` was given, also for a message of a batch; the
/// struct is useless without them.
package struct Envelope: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        /// A method with an id.
        case request
        /// A method without an id.
        case notification
        /// A response with a `result`.
        case result
        /// A response with an `error`.
        case error
    }

    package let kind: Kind
    private let start: UInt32
    private let end: UInt32
    /// The id; nil for a notification and for a response whose id is null or absent, as SDKs send with errors.
    package internal(set) var id: MessageID?
    /// The method; nil for a response.
    package internal(set) var method: MCPMethod?
    /// The method's name as written; nil for a response.
    package internal(set) var methodName: JSONString?
    /// The value of `params`, `result` or `error`.
    var payload: JSONValue?
    /// `error.code`; nil if there is none, or none that is an integer of 64 bits.
    package internal(set) var errorCode: Int?

    /// What the message is about: `params.name`, `params.uri` or `params.taskId`, as ``MCPMethod/nameParameter`` says;
    /// nil if the method has none, or if it is absent or no string.
    ///
    /// A policy on names has to refuse a method that has one and a message that lacks it.
    package internal(set) var name: JSONString?
    /// `params._meta.progressToken`, or for `notifications/progress` the `params.progressToken` that it reports on;
    /// nil if absent or null.
    package internal(set) var progressToken: MessageID?
    /// `params.requestId` of `notifications/cancelled`; nil for every other method, and if absent.
    package internal(set) var cancelledID: MessageID?
    /// `params.protocolVersion` of `initialize`; nil for every other method, and if absent or no string.
    package internal(set) var initializeVersion: JSONString?
    /// `params.requestState`, which binds a request to the credential that made the state (credentials §2.9).
    package internal(set) var requestState: JSONString?

    /// Whether `params._meta` has `io.modelcontextprotocol/protocolVersion`, whatever its value: the mark of the
    /// stateless era (2026-07-28, `_meta`).
    package internal(set) var hasStatelessEnvelope = false
    /// `params._meta["io.modelcontextprotocol/protocolVersion"]`; nil if absent or no string.
    package internal(set) var statelessVersion: JSONString?
    /// Whether `params._meta["io.modelcontextprotocol/clientCapabilities"]` is there and an object.
    package internal(set) var hasClientCapabilities = false
    /// `params._meta["io.modelcontextprotocol/subscriptionId"]` of a notification on a listen stream: the id of the
    /// `subscriptions/listen` request; nil if absent or no id.
    package internal(set) var subscriptionID: MessageID?

    init(kind: Kind, range: Range<Int>) {
        self.kind = kind
        self.start = UInt32(clamping: range.lowerBound)
        self.end = UInt32(clamping: range.upperBound)
    }

    /// The message itself, without the white space around it.
    package var range: Range<Int> { Int(self.start)..<max(Int(self.start), Int(self.end)) }

    /// The value of `params`, an object; nil for a response, and if absent or null.
    package var params: Range<Int>? { self.isResponse ? nil : self.payload?.range }

    /// The value of `result`; nil unless `kind` is `result`.
    package var result: Range<Int>? { self.kind == .result ? self.payload?.range : nil }

    /// The value of `error`; nil unless `kind` is `error`.
    package var error: Range<Int>? { self.kind == .error ? self.payload?.range : nil }

    /// Whether this is a result or an error.
    package var isResponse: Bool { self.kind == .result || self.kind == .error }

    /// Whether this is a response to the request with `requestID`, which was sent as it stands in `requestBytes`: same
    /// type and same value after decoding.
    ///
    /// `bytes` are those of this message.
    package func isResponse(to requestID: MessageID, in requestBytes: Span<UInt8>, own bytes: Span<UInt8>) -> Bool {
        guard self.isResponse, let id = self.id else { return false }
        return id.equals(requestID, in: requestBytes, own: bytes)
    }
}

/// Why bytes are not a JSON-RPC message that the gateway takes (JSON-RPC 2.0 §5.1).
package struct EnvelopeError: Error, Hashable, Sendable {
    package enum Code: Int, Hashable, Sendable {
        /// Not JSON, not UTF-8, or nested too deeply.
        case parse = -32_700
        /// JSON, but not a message: a rule of JSON-RPC, of MCP or of faults S6.3 is broken.
        case invalidRequest = -32_600
    }

    package let code: Code
    /// Where it was noticed, in bytes from the start.
    package let offset: Int
    /// What is wrong, a constant text without anything of the message.
    package let reason: String
    /// The id of the message if one valid id had been read by then, for the answer.
    package let id: MessageID?

    package init(code: Code, offset: Int, reason: String, id: MessageID? = nil) {
        self.code = code
        self.offset = offset
        self.reason = reason
        self.id = id
    }
}
