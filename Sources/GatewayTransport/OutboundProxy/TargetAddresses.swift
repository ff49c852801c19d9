// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore

/// The addresses of an upstream that a SOCKS proxy is told of.
enum TargetAddresses {
    /// A proxy that cannot reach one address is asked for another, up to so many (credentials §3.4).
    static let limit = 3

    /// An upstream whose host is written as an address; nil for a name.
    static func literal(_ origin: WebOrigin) -> SOCKSHandshake.Address? {
        let host = Array(origin.host.utf8)
        if origin.isIPv6Literal { return IPv6Address(host.span).map { .ipv6($0.value) } }
        return IPv6Address.dottedQuad(host.span).map { .ipv4($0) }
    }

    /// The first of the addresses that the name of an upstream has.
    static func first(of addresses: [SocketAddress]) -> [SOCKSHandshake.Address] {
        Array(addresses.lazy.compactMap(Self.address).prefix(Self.limit))
    }

    private static func address(_ address: SocketAddress) -> SOCKSHandshake.Address? {
        let text = Array((address.ipAddress ?? "").utf8)
        return IPv6Address.dottedQuad(text.span).map { .ipv4($0) } ?? IPv6Address(text.span).map { .ipv6($0.value) }
    }
}
