// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore
import NIOPosix

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// The addresses of an upstream that a SOCKS proxy is told of.
enum TargetAddresses {
    /// A proxy that cannot reach one address is asked for another, up to so many (credentials.md §3.4).
    static let limit = 3

    /// An upstream whose host is written as an address; nil for a name.
    static func literal(_ origin: WebOrigin) -> SOCKSHandshake.Address? {
        let host = Array(origin.host.utf8)
        if origin.isIPv6Literal { return IPv6Address(host.span).map { .ipv6($0.value) } }
        return IPv6Address.dottedQuad(host.span).map { .ipv4($0) }
    }

    /// Looks a name up as this machine does; empty if it has no address.
    ///
    /// Runs on threads of its own, since the system's resolver blocks.
    static func resolve(_ host: String, on eventLoop: any EventLoop) -> EventLoopFuture<[SOCKSHandshake.Address]> {
        Self.threads.runIfActive(eventLoop: eventLoop) { Self.lookUp(host) }
    }

    /// So many that some are left when a name server does not answer (faults F46).
    private static let threads = {
        let threads = NIOThreadPool(numberOfThreads: 4)
        threads.start()
        return threads
    }()

    private static func lookUp(_ host: String) -> [SOCKSHandshake.Address] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var addresses: [SOCKSHandshake.Address] = []
        var next = list
        while let entry = next, addresses.count < Self.limit {
            if let address = Self.address(entry.pointee), !addresses.contains(address) { addresses.append(address) }
            next = entry.pointee.ai_next
        }
        return addresses
    }

    private static func address(_ entry: addrinfo) -> SOCKSHandshake.Address? {
        guard let raw = UnsafeRawPointer(entry.ai_addr) else { return nil }
        switch entry.ai_family {
        case AF_INET:
            let text = SocketAddress(raw.loadUnaligned(as: sockaddr_in.self)).ipAddress ?? ""
            return IPv6Address.dottedQuad(Array(text.utf8).span).map { .ipv4($0) }
        case AF_INET6:
            let text = SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self)).ipAddress ?? ""
            return IPv6Address(Array(text.utf8).span).map { .ipv6($0.value) }
        default:
            return nil
        }
    }
}
