// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The members that an envelope is read from, wherever they stand in the message.
enum EnvelopeMember: Int {
    case jsonrpc
    case id
    case method
    case params
    case result
    case error
    case errorCode
    case meta
    case name
    case uri
    case taskID
    case requestID
    case requestState
    case protocolVersion
    case reportedToken
    case metaToken
    case metaVersion
    case metaCapabilities
    case metaSubscription

    /// A member of the message itself; nil for any other key.
    @inline(__always)
    init?(message key: JSONString, in bytes: Span<UInt8>) {
        if key.equals("id", in: bytes) {
            self = .id
        } else if key.equals("jsonrpc", in: bytes) {
            self = .jsonrpc
        } else if key.equals("method", in: bytes) {
            self = .method
        } else if key.equals("params", in: bytes) {
            self = .params
        } else if key.equals("result", in: bytes) {
            self = .result
        } else if key.equals("error", in: bytes) {
            self = .error
        } else {
            return nil
        }
    }

    /// A member of `params`; nil for any other key.
    @inline(__always)
    init?(params key: JSONString, in bytes: Span<UInt8>) {
        if key.equals("name", in: bytes) {
            self = .name
        } else if key.equals("_meta", in: bytes) {
            self = .meta
        } else if key.equals("uri", in: bytes) {
            self = .uri
        } else if key.equals("taskId", in: bytes) {
            self = .taskID
        } else if key.equals("requestId", in: bytes) {
            self = .requestID
        } else if key.equals("requestState", in: bytes) {
            self = .requestState
        } else if key.equals("protocolVersion", in: bytes) {
            self = .protocolVersion
        } else if key.equals("progressToken", in: bytes) {
            self = .reportedToken
        } else {
            return nil
        }
    }

    /// A member of `params._meta` (2026-07-28, `basic/index`); nil for any other key.
    @inline(__always)
    init?(meta key: JSONString, in bytes: Span<UInt8>) {
        if key.equals("progressToken", in: bytes) {
            self = .metaToken
        } else if key.equals("io.modelcontextprotocol/protocolVersion", in: bytes) {
            self = .metaVersion
        } else if key.equals("io.modelcontextprotocol/clientCapabilities", in: bytes) {
            self = .metaCapabilities
        } else if key.equals("io.modelcontextprotocol/subscriptionId", in: bytes) {
            self = .metaSubscription
        } else {
            return nil
        }
    }
}

/// The values of those members.
struct EnvelopeMembers {
    private var values = InlineArray<19, JSONValue?>(repeating: nil)

    @inline(__always)
    subscript(member: EnvelopeMember) -> JSONValue? {
        get { self.values[member.rawValue] }
        set { self.values[member.rawValue] = newValue }
    }
}
