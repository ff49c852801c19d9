// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Which header fields the configuration may name, and for what.
enum HeaderName {
    /// Whether the text is a field name: one or more token characters (RFC 9110 §5.6.2).
    static func isValid(_ name: String) -> Bool {
        !name.isEmpty
            && name.utf8.allSatisfy { byte in
                JSONCReader.isWordByte(byte) || "!#$%&'*+-.^`|~".utf8.contains(byte)
            }
    }

    /// Whether the text can be a field value: no control byte (RFC 9110 §5.5).
    static func isValidValue(_ value: String) -> Bool {
        value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }

    /// Whether a field belongs to one connection or to the framing of a message, so that nobody but the gateway sets
    /// it (RFC 9110 §7.6.1, RFC 9112 §6); the name in lower case.
    static func isConnectionField(_ name: String) -> Bool {
        name.hasPrefix("proxy-") || Self.connectionFields.contains(name)
    }

    /// Whether the gateway sets this field itself on every request, so that a value of the configuration is ignored.
    static func isSetByGateway(_ name: String) -> Bool {
        name.hasPrefix("mcp-param-") || Self.gatewayFields.contains(name)
    }

    /// Why a caller's field of this name is never passed on (contract §2, `forwardHeaders`); nil if it may be.
    static func reasonNotToForward(_ name: String) -> String? {
        if Self.isConnectionField(name) { return "it belongs to one connection or to the framing of a message" }
        if name == "origin" || name == "cookie" { return "it belongs to the caller and this gateway" }
        if name.hasPrefix("mcp-") { return "it belongs to the protocol" }
        if name == "forwarded" || name.hasPrefix("x-forwarded-") { return "it describes the way to this gateway" }
        if Self.gatewayFields.contains(name) { return "the gateway sets it itself" }
        return nil
    }

    private static let connectionFields: Set<String> = [
        "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host", "expect",
    ]

    private static let gatewayFields: Set<String> = [
        "accept", "accept-encoding", "content-type", "content-encoding", "last-event-id", "mcp-session-id",
        "mcp-protocol-version", "mcp-method", "mcp-name",
    ]
}
