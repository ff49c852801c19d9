// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The rules that a POST follows.
package enum Era: Hashable, Sendable {
    /// Up to 2025-11-25, with the revision of the header; nil without header.
    case handshake(ProtocolRevision?)
    /// The 2026-07-28 revision, or nil for a version that the gateway does not know but that header and body agree on.
    ///
    /// The unknown version is passed on: the upstream may speak it, and answers -32022 itself if not.
    case stateless(ProtocolRevision?)
}

/// Which of the two ways of speaking a caller uses (protocol §1).
package enum CallerEra: Hashable, Sendable {
    /// Up to 2025-11-25: `initialize` comes first.
    case handshake
    /// From 2026-07-28 on: each request stands alone.
    case stateless
}

/// Why a POST is refused before anything is sent upstream.
package struct EraRejection: Error, Hashable, Sendable {
    package enum Code: Int, Hashable, Sendable {
        case headerMismatch = -32_020
        case unsupportedVersion = -32_022
        case invalidRequest = -32_600
        case methodNotFound = -32_601
        case invalidParams = -32_602
    }

    package let code: Code
    /// What is wrong, a constant text without anything of the request.
    package let message: String
    /// The version asked for, in the body, for the `data` of `unsupportedVersion`; nil with every other code.
    package let requested: JSONString?
    /// The era that the server does not speak at all; nil if it is the version alone that is refused.
    package let refusedEra: CallerEra?

    package init(_ code: Code, _ message: String, requested: JSONString? = nil, refusedEra: CallerEra? = nil) {
        self.code = code
        self.message = message
        self.requested = requested
        self.refusedEra = refusedEra
    }

    /// The HTTP status of the answer: 404 for an unknown method, else 400 (protocol §1.2).
    package var status: Int { self.code == .methodNotFound ? 404 : 400 }
}

/// Decides which era a POST belongs to, and for the stateless era that its headers say what its body says
/// (protocol §1.2 and S2 to S4, faults S6.4).
///
/// The body is the truth. A version header that comes twice is refused. A handshake version or none, without a version
/// in `_meta`, is the handshake era, where `Mcp-Method` and `Mcp-Name` mean nothing. Any other version header, of a
/// version known or not, is the stateless era: there a request needs its envelope, then headers equal to the body, and
/// `initialize` does not exist; a notification needs neither envelope nor headers, but those that it has must be equal;
/// a response is refused. A version in `_meta` without a version header, or under another one, is a mismatch, and a
/// handshake version in both places is not supported there.
package enum EraClassifier {
    /// The era of the message `envelope` of `body` with `headers`, which stand in `head`.
    ///
    /// - Throws: ``EraRejection``, to be answered with its status and code.
    package static func classify(
        _ envelope: Envelope,
        in body: Span<UInt8>,
        headers: RoutingHeaders,
        in head: Span<UInt8>
    ) throws(EraRejection) -> Era {
        switch headers.version {
        case .repeated:
            throw EraRejection(.headerMismatch, "MCP-Protocol-Version came more than once")
        case .absent:
            guard !envelope.hasStatelessEnvelope else {
                throw EraRejection(.headerMismatch, "MCP-Protocol-Version is missing")
            }
            return .handshake(nil)
        case .one(let field):
            let version = HeaderNameValue.trimmed(field, in: head)
            let revision = ProtocolRevision(head.extracting(version))
            if let revision, !revision.isStateless {
                guard envelope.hasStatelessEnvelope else { return .handshake(revision) }
                let requested = try self.version(of: envelope, equalTo: version, in: body, head)
                throw EraRejection(.unsupportedVersion, "Unsupported protocol version", requested: requested)
            }
            try self.checkStateless(envelope, version, in: body, headers, in: head)
            return .stateless(revision)
        }
    }

    private static func checkStateless(
        _ envelope: Envelope,
        _ version: Range<Int>,
        in body: Span<UInt8>,
        _ headers: RoutingHeaders,
        in head: Span<UInt8>
    ) throws(EraRejection) {
        let isRequest = envelope.kind == .request
        guard let method = envelope.method, let methodName = envelope.methodName else {
            throw EraRejection(.invalidRequest, "Responses are not accepted in this protocol version")
        }
        if isRequest || envelope.hasStatelessEnvelope {
            guard envelope.hasStatelessEnvelope else {
                throw EraRejection(.invalidParams, "params._meta lacks io.modelcontextprotocol/protocolVersion")
            }
            guard envelope.hasClientCapabilities || !isRequest else {
                throw EraRejection(.invalidParams, "params._meta lacks io.modelcontextprotocol/clientCapabilities")
            }
            _ = try self.version(of: envelope, equalTo: version, in: body, head)
        }
        switch headers.method {
        case .repeated:
            throw EraRejection(.headerMismatch, "Mcp-Method came more than once")
        case .absent:
            if isRequest { throw EraRejection(.headerMismatch, "Mcp-Method is missing") }
        case .one(let field):
            let value = HeaderNameValue.trimmed(field, in: head)
            guard methodName.equals(head.extracting(value), in: body) else {
                throw EraRejection(.headerMismatch, "Mcp-Method is not the method of the body")
            }
        }
        try self.checkName(envelope, method, in: body, headers.name, in: head)
        if method == .initialize { throw EraRejection(.methodNotFound, "Method not found") }
    }

    private static func checkName(
        _ envelope: Envelope,
        _ method: MCPMethod,
        in body: Span<UInt8>,
        _ header: HeaderField,
        in head: Span<UInt8>
    ) throws(EraRejection) {
        switch header {
        case .repeated:
            throw EraRejection(.headerMismatch, "Mcp-Name came more than once")
        case .absent:
            if method.hasNameHeader { throw EraRejection(.headerMismatch, "Mcp-Name is missing") }
        case .one(let field):
            guard method.hasNameHeader else { return }
            guard let name = envelope.name, HeaderNameValue.stands(field, in: head, for: name, in: body) else {
                throw EraRejection(.headerMismatch, "Mcp-Name is not the name in the body")
            }
        }
    }

    /// The version in the envelope, if it is a string and the one of the header.
    private static func version(
        of envelope: Envelope,
        equalTo header: Range<Int>,
        in body: Span<UInt8>,
        _ head: Span<UInt8>
    ) throws(EraRejection) -> JSONString {
        guard let version = envelope.statelessVersion else {
            throw EraRejection(.invalidParams, "io.modelcontextprotocol/protocolVersion is not a string")
        }
        guard version.equals(head.extracting(header), in: body) else {
            throw EraRejection(.headerMismatch, "MCP-Protocol-Version is not the version of the body")
        }
        return version
    }
}
