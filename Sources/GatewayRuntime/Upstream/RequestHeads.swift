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

    /// `token` is the bearer token that is sent; nil: none, but what `headers` may have.
    init(_ http: HTTPUpstreamConfiguration, token: Secret?, agent: String) {
        var fields = "Host: \(http.url.origin.authority)\r\nUser-Agent: \(Self.token(agent))\r\n"
        fields += "Accept-Encoding: identity\r\n"
        for header in http.headers { fields += "\(header.name): \(header.value.reveal())\r\n" }
        // RFC 6750 §2.1.
        if let token { fields += "Authorization: Bearer \(token.reveal())\r\n" }
        let accept = "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        self.post = Self.prefix("POST", http.url.target, fields + accept)
        self.get = Self.prefix("GET", http.url.target, fields + "Accept: text/event-stream\r\n")
        self.delete = Self.prefix("DELETE", http.url.target, fields)
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
        buffer.writeString(" \(target) HTTP/1.1\r\n")
        buffer.writeBytes(prefix[lineEnd...])
    }

    private static func prefix(_ method: String, _ target: String, _ fields: String) -> [UInt8] {
        Array("\(method) \(target) HTTP/1.1\r\n\(fields)".utf8)
    }

    /// The configured name and version may hold anything; a header may not.
    private static func token(_ text: String) -> String {
        String(decoding: text.utf8.map { (0x21...0x7e).contains($0) ? $0 : UInt8(ascii: "-") }, as: UTF8.self)
    }
}

extension InboundRequest {
    /// Appends the caller's fields that concern the message, as they were written.
    ///
    /// `initialize` carries no version header: it is what is being negotiated (protocol §2 C19). `Last-Event-ID` names an
    /// event of ours and stays here. Returns whether a version was there.
    func appendMessageFields(isInitialize: Bool, to buffer: inout ByteBuffer) -> Bool {
        var hasVersion = isInitialize
        for field in self.parser.fields {
            switch field.name {
            case .mcpMethod, .mcpName, .mcpParam: break
            case .mcpProtocolVersion where !isInitialize: hasVersion = true
            default: continue
            }
            self.append(field, to: &buffer)
        }
        return hasVersion
    }

    /// Appends the fields whose lower-case names are in `names`.
    func appendForwarded(_ names: [String], to buffer: inout ByteBuffer) {
        guard !names.isEmpty else { return }
        for field in self.parser.fields {
            guard let name = self.bytes(field.nameRange) else { continue }
            let lowered = String(decoding: name, as: UTF8.self).lowercased()
            if names.contains(lowered) { self.append(field, to: &buffer) }
        }
    }

    private func append(_ field: HTTP1Field, to buffer: inout ByteBuffer) {
        guard let name = self.bytes(field.nameRange), let value = self.bytes(field.valueRange) else { return }
        buffer.writeBytes(name)
        buffer.writeStaticString(": ")
        buffer.writeBytes(value)
        buffer.writeStaticString("\r\n")
    }
}
