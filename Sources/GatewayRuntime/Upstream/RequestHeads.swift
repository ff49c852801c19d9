// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import NIOCore

/// The parts of our request heads that are the same for every request to one upstream, written once.
///
/// Callers' headers go up by allow-list only (faults S3.6): what is not named in `appendCallerFields` or in the
/// upstream's `forwardHeaders` stays with us, so no inbound token, cookie or `Forwarded` can get through.
struct RequestHeads: Sendable {
    private let post: [UInt8]
    private let get: [UInt8]
    private let delete: [UInt8]

    /// What stands before a target in absolute form: `http://host:port`; empty where none does.
    private let origin: String

    /// Writes the parts for one credential.
    ///
    /// `token` is the bearer token that is sent; nil: none, but what `headers` may have. `proxy` is the HTTP proxy that gets
    /// the requests in absolute form, with its own login (RFC 9112 §3.2.2); nil: they go to the upstream.
    init(_ http: HTTPUpstreamConfiguration, token: Secret?, agent: String, forwardedBy proxy: OutboundProxy? = nil) {
        self.origin = proxy == nil ? "" : http.url.origin.description
        var fields = "Host: \(http.url.origin.authority)\r\nUser-Agent: \(agent)\r\n"
        fields += "Accept-Encoding: identity\r\n"
        for header in http.headers { fields += "\(header.name): \(header.value.reveal())\r\n" }
        // RFC 6750 §2.1.
        if let token { fields += "Authorization: Bearer \(token.reveal())\r\n" }
        // RFC 9110 §11.7.2: for the proxy alone, which keeps it.
        if let login = proxy?.authorization { fields += "Proxy-Authorization: \(login.reveal())\r\n" }
        let target = self.origin + http.url.target
        let accept = "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        self.post = Self.prefix("POST", target, fields + accept)
        self.get = Self.prefix("GET", target, fields + "Accept: text/event-stream\r\n")
        self.delete = Self.prefix("DELETE", target, fields)
    }

    /// The methods that the transport uses.
    enum Method {
        case post
        case get
        case delete
    }

    /// Starts a head with request line and fixed fields; `target` replaces the configured one after a redirect.
    func begin(_ method: Method, target: String?, into buffer: inout ByteBuffer) {
        let prefix =
            switch method {
            case .post: self.post
            case .get: self.get
            case .delete: self.delete
            }
        guard let target else {
            buffer.writeBytes(prefix)
            return
        }
        let lineEnd = (prefix.firstIndex(of: UInt8(ascii: "\n")) ?? -1) + 1
        let verb = prefix.prefix { $0 != UInt8(ascii: " ") }
        buffer.writeBytes(verb)
        buffer.writeString(" \(self.origin)\(target) HTTP/1.1\r\n")
        buffer.writeBytes(prefix[lineEnd...])
    }

    private static func prefix(_ method: String, _ target: String, _ fields: String) -> [UInt8] {
        Array("\(method) \(target) HTTP/1.1\r\n\(fields)".utf8)
    }

    /// What the gateway calls itself; the configured name and version may hold anything, a header may not.
    static func agent(of listener: ListenerConfiguration) -> String {
        let text = "\(listener.name)/\(listener.version)"
        return String(decoding: text.utf8.map { (0x21...0x7e).contains($0) ? $0 : UInt8(ascii: "-") }, as: UTF8.self)
    }
}
