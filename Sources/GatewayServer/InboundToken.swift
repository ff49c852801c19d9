// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayRuntime
import GatewayWire
import NIOCore

/// Who a caller is, by the token it presents (contract §3, faults S3).
enum InboundToken {
    enum Verdict: Equatable {
        case known(TokenDigest)
        case missing
        case wrong
    }

    /// Bytes of a header value that is compared at all; a longer one is no token.
    private static let limit = 4 * 1024

    static func check(_ request: InboundRequest, against tokens: InboundTokens) -> Verdict {
        guard let field = request.parser.value(of: .authorization) else { return .missing }
        let head = request.head
        let value = head.readableBytesUInt8Span.extracting(field)
        guard value.count <= Self.limit else { return .wrong }
        let start = Self.tokenStart(value)
        let presented = value.extracting(start..<value.count)
        return tokens.digest(of: presented).map(Verdict.known) ?? .wrong
    }

    /// Where the token begins: behind `Bearer` and its spaces, or at the start for a bare token, which the Go program
    /// takes as well.
    private static func tokenStart(_ value: Span<UInt8>) -> Int {
        let scheme = 6
        guard value.count > scheme, value[scheme] == UInt8(ascii: " "),
            HTTP1Text.equalsIgnoringCase(value.extracting(0..<scheme), "bearer")
        else { return 0 }
        var start = scheme
        while start < value.count, value[start] == UInt8(ascii: " ") { start += 1 }
        return start
    }
}
