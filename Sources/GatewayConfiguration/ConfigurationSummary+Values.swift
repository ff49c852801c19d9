// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

extension ConfigurationSummary {
    /// A text in quotes, with what would disturb a terminal escaped.
    static func shown(_ text: String) -> String { "\"\(Self.escaped(text))\"" }

    /// A text without control characters and quotes of its own.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            default: result += scalar.isVisible ? "\(scalar)" : "\\u{\(String(scalar.value, radix: 16))}"
            }
        }
        return result
    }

    /// A URL without its query; segments of the path that look like tokens are masked.
    static func shown(_ url: HTTPURL) -> String {
        let segments = url.path.split(separator: "/", omittingEmptySubsequences: false)
        let path = segments.map { SecretText.isTokenLike($0) ? Secret.mask : String($0) }.joined(separator: "/")
        return "\(url.origin)\(path)\(url.target.contains("?") ? "?\(Secret.mask)" : "")"
    }

    /// The proxy that an upstream takes, without user and password (credentials §3.5), and what decided it.
    static func outboundProxy(of http: HTTPUpstreamConfiguration, environment: [String: String]) -> String {
        switch OutboundProxySelection(http.proxy, to: http.url.origin, environment: environment).outcome {
        case .direct(.noProxyNamed): return "none"
        case .direct(let rule): return "none (\(rule))"
        case .unusable(let unusable): return "NOT USABLE (\(unusable.variable))"
        case .proxy(let proxy, _):
            var text = "\(proxy) (\(proxy.setting))"
            if proxy.tunnel != .auto { text += ", tunnel \(proxy.tunnel.rawValue)" }
            if case .explicit(_, let exemptions) = http.proxy {
                if !exemptions.entries.isEmpty {
                    text += ", not for \(exemptions.entries.map(NoProxyList.shown).joined(separator: ", "))"
                }
                if exemptions.includesEnvironment { text += ", nor for NO_PROXY" }
            }
            if proxy.kind == .https { text += ", tls \(Self.shown(proxy.tls))" }
            return text
        }
    }

    static func shown(_ tls: TLSClientConfiguration) -> String {
        var parts = [tls.isInsecure ? "NOT VERIFIED" : "verified"]
        if let file = tls.caFile { parts.append("also by \(Self.shown(file))") }
        if let file = tls.certFile { parts.append("client certificate \(Self.shown(file))") }
        return parts.joined(separator: ", ")
    }

    static func tokens(_ tokens: [Secret], none: String) -> String {
        tokens.isEmpty ? none : tokens.count == 1 ? "1 token" : "\(tokens.count) tokens"
    }

    static func orOff(_ duration: Duration) -> String {
        duration == .zero ? "off" : DurationText.describe(duration)
    }

    static func list(_ texts: [String], none: String) -> String {
        texts.isEmpty ? none : texts.map(Self.escaped).joined(separator: ", ")
    }
}

extension Limits {
    /// The limits that are not at their default, as `key=value`, in the order of the table.
    var differences: [String] {
        let own = self.described
        let standard = Limits().described
        return KeyTable.limits.keys.compactMap { key in
            own[key.name] == standard[key.name] ? nil : own[key.name].map { "\(key.name)=\($0)" }
        }
    }

    /// Every limit as the configuration would write it.
    var described: [String: String] {
        var values: [String: String] = [:]
        for (key, field) in Self.sizeFields { values[key] = SizeText.describe(self[keyPath: field]) }
        for (key, field) in Self.countFields { values[key] = String(self[keyPath: field]) }
        for (key, field) in Self.durationFields { values[key] = DurationText.describe(self[keyPath: field]) }
        values["connectionsPerAddress"] = String(self.connectionsPerAddress ?? 0)
        return values
    }
}
