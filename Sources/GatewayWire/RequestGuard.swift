// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Decides whether a request's Host and Origin may use this gateway: the protection against DNS rebinding and against
/// web pages (contract §3, faults S4).
///
/// A page that a browser loads from elsewhere can reach a gateway on the same machine under a name of its own that
/// resolves to a loopback address. What it cannot do is send another Host than its own name or leave its Origin out.
/// So on a connection whose local address is loopback the Host must be one of the names that can only mean this gateway:
/// a loopback name, the host of `baseURL`, or one that the operator added. On other addresses any name may be right,
/// and the Host is checked only if the operator listed some. An Origin, where there is one, is always checked, and never
/// against the Host of the request, which the same page chose.
package struct RequestGuard: Sendable {
    /// What to do with a request.
    package enum Verdict: Hashable, Sendable {
        case admitted
        /// The value is not well formed.
        case malformed
        /// A Host that is not ours.
        case misdirected
        /// An Origin that may not use us.
        case forbidden

        /// The status of the answer; nil if the request is admitted.
        package var status: Int? {
            switch self {
            case .admitted: nil
            case .malformed: 400
            case .misdirected: 421
            case .forbidden: 403
            }
        }
    }

    /// A host that is admitted, ready to be compared with bytes.
    private struct HostPattern: Sendable {
        /// In lower case.
        let name: [UInt8]
        /// Set for an IPv6 literal.
        let address: IPv6Address?
        /// nil: any port.
        let port: Int?

        init(_ host: HostPort, port: Int?) {
            let name = Array(host.host.utf8)
            self.name = name
            self.address = host.isIPv6Literal ? IPv6Address(name.span) : nil
            self.port = port
        }
    }

    private let hosts: [HostPattern]
    private let checksEveryHost: Bool
    private let defaultPort: Int
    private let origins: Set<WebOrigin>
    /// The admitted origins of http and https as browsers write them.
    private let originTexts: [[UInt8]]
    /// Those of other schemes, which are compared byte for byte.
    private let otherOrigins: [[UInt8]]

    /// - Parameters:
    ///   - baseOrigin: the origin of `baseURL`; its host is admitted with every port.
    ///   - allowedHosts: hosts to admit besides; one without a port is admitted with every port.
    ///   - allowedOrigins: origins to admit besides that of `baseURL`.
    package init(baseOrigin: WebOrigin, allowedHosts: [HostPort], allowedOrigins: [AllowedOrigin]) {
        self.hosts =
            [HostPattern(baseOrigin.hostPort, port: nil)] + allowedHosts.map { HostPattern($0, port: $0.port) }
        self.checksEveryHost = !allowedHosts.isEmpty
        self.defaultPort = baseOrigin.scheme.defaultPort
        var web = [baseOrigin]
        var others: [[UInt8]] = []
        for origin in allowedOrigins {
            switch origin {
            case .web(let origin): web.append(origin)
            case .other(let text): others.append(Array(text.utf8))
            }
        }
        self.origins = Set(web)
        self.originTexts = web.map { Array($0.description.utf8) }
        self.otherOrigins = others
    }

    /// The verdict on the value of the one `Host` field, or on the authority of an absolute form that stands for it.
    ///
    /// A Host without a port means the default port of the scheme of `baseURL`. `isLocalAddressLoopback` says whether
    /// the connection's local address is a loopback address.
    package func admitsHost(_ value: Span<UInt8>, isLocalAddressLoopback: Bool) -> Verdict {
        guard let layout = HostPort.Layout(value) else { return .malformed }
        guard isLocalAddressLoopback || self.checksEveryHost else { return .admitted }
        let host = value.extracting(layout.host)
        if HostPort.isLoopback(host, isIPv6Literal: layout.isIPv6Literal) { return .admitted }
        let address = layout.isIPv6Literal ? IPv6Address(host) : nil
        for pattern in self.hosts {
            if let port = pattern.port, port != layout.port ?? self.defaultPort { continue }
            if pattern.address != address { continue }
            if address != nil || HTTP1Bytes.equalsIgnoringCase(host, pattern.name.span) { return .admitted }
        }
        return .misdirected
    }

    /// The verdict on an HTTP/1.0 request that names no host: one that has to be checked is not ours.
    package func admitsMissingHost(isLocalAddressLoopback: Bool) -> Verdict {
        isLocalAddressLoopback || self.checksEveryHost ? .misdirected : .admitted
    }

    /// The verdict on an `Origin` value; a request without one is not asked about.
    ///
    /// `count` says how many `Origin` fields the request has: two are never admitted.
    package func admitsOrigin(_ value: Span<UInt8>, count: Int = 1, isLocalAddressLoopback: Bool) -> Verdict {
        guard count == 1, value.count <= 512 else { return .forbidden }
        for text in self.originTexts where HTTP1Bytes.equalsIgnoringCase(value, text.span) { return .admitted }
        for text in self.otherOrigins where Self.equals(value, text) { return .admitted }
        var text: [UInt8] = []
        text.reserveCapacity(value.count)
        for index in value.indices { text.append(value[index]) }
        guard let origin = WebOrigin(String(decoding: text, as: UTF8.self)) else { return .forbidden }
        if self.origins.contains(origin) || (isLocalAddressLoopback && origin.isLoopback) { return .admitted }
        return .forbidden
    }

    private static func equals(_ value: Span<UInt8>, _ text: [UInt8]) -> Bool {
        guard value.count == text.count else { return false }
        for index in value.indices where value[index] != text[index] { return false }
        return true
    }
}
