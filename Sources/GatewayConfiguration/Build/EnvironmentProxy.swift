// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// Whether the environment names an outbound proxy for a target, as far as a warning needs to know it
/// (credentials.md §3.2).
enum EnvironmentProxy {
    /// The variable whose proxy the target would take; nil for a direct connection.
    static func variable(for origin: WebOrigin, environment: [String: String]) -> String? {
        guard !origin.isLoopback, !Self.isExempt(origin, environment: environment) else { return nil }
        let own = origin.scheme == .https ? ["https_proxy", "HTTPS_PROXY"] : ["http_proxy", "HTTP_PROXY"]
        return (own + ["all_proxy", "ALL_PROXY"])
            .first { name in
                // A CGI server turns a caller's `Proxy` header into this variable (httpoxy, CVE-2016-5386).
                if name == "HTTP_PROXY", environment["REQUEST_METHOD"]?.isEmpty == false { return false }
                return Self.value(name, environment) != nil
            }
    }

    private static func isExempt(_ origin: WebOrigin, environment: [String: String]) -> Bool {
        guard let list = Self.value("no_proxy", environment) ?? Self.value("NO_PROXY", environment) else {
            return false
        }
        return list.lowercased().split { $0 == "," || $0.isWhitespace }
            .contains { entry in
                if entry == "*" { return true }
                guard let rule = HostPort(entry.drop { $0 == "." || $0 == "*" }) else {
                    return origin.isIPv6Literal && entry == origin.host
                }
                if let port = rule.port, port != origin.port { return false }
                return origin.host == rule.host && !entry.hasPrefix("*.") || origin.host.hasSuffix(".\(rule.host)")
            }
    }

    /// A variable's text; nil if it is unset or blank.
    private static func value(_ name: String, _ environment: [String: String]) -> String? {
        guard let text = environment[name] else { return nil }
        let trimmed = TokenText.trimmed(text[...])
        return trimmed.isEmpty ? nil : trimmed
    }
}
