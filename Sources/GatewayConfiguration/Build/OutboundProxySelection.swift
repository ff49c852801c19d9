// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayWire

/// Which outbound proxy a target takes, and what decided it (credentials §3.1 to §3.3).
///
/// A pure function of the configuration, the environment as it was at the start, and the target. Whatever is wrong with a
/// variable that a target needs, the answer is never less than what was asked for: an error, not a direct connection.
package struct OutboundProxySelection: Sendable {
    /// What is selected.
    package enum Outcome: Sendable {
        case direct(Rule)
        case proxy(OutboundProxy, Rule)
        /// The variable that decides is not a usable proxy.
        case unusable(UnusableVariable)
    }

    /// What decided.
    package enum Rule: Hashable, Sendable {
        /// `options.proxy` says that the connection is direct.
        case proxyOption
        /// `options.proxy` names the proxy.
        case proxyURL
        case variable(String)
        /// An entry of a list of targets without a proxy; `number` counts from 1.
        case noProxy(NoProxySource, number: Int, text: String)
        /// The target is this machine, and the proxy of the variable is not.
        case loopback(variable: String)
        /// Neither the configuration nor the environment names a proxy.
        case noProxyNamed
    }

    /// Where a list of targets without a proxy stands.
    package enum NoProxySource: Hashable, Sendable {
        /// `noProxy` beside the `url` of the proxy.
        case option
        case variable(String)
    }

    /// Why a variable cannot be used; its value is nowhere in it.
    package struct UnusableVariable: Error, Hashable, Sendable {
        package let variable: String
        package let reason: String
    }

    /// What is worth a warning, whatever was selected.
    package enum Notice: Hashable, Sendable {
        /// The variable may come from a caller's `Proxy` header, so it was not used.
        case ignoredInCGI(variable: String)
        /// The variable names an HTTP proxy without a port.
        case defaultPort(variable: String)
        /// The entry, as far as it is shown, cannot be used and matches nothing.
        case unusableEntry(NoProxySource, number: Int, text: String)
    }

    package let outcome: Outcome
    package let notices: [Notice]

    /// The proxy that is taken; nil for a direct connection, and where the variable that decides is not usable.
    package var proxy: OutboundProxy? {
        if case .proxy(let proxy, _) = self.outcome { proxy } else { nil }
    }

    /// Selects for one target; `environment` has all variables by their names.
    package init(
        _ configuration: OutboundProxyConfiguration,
        to target: WebOrigin,
        environment: [String: String]
    ) {
        var selector = Selector(target: target, environment: environment)
        switch configuration {
        case .direct: self.outcome = .direct(.proxyOption)
        case .explicit(let proxy, let exemptions): self.outcome = selector.select(proxy, but: exemptions)
        case .environment: self.outcome = selector.selectFromEnvironment()
        }
        self.notices = selector.notices
    }
}

extension OutboundProxySelection {
    private struct Selector {
        let target: WebOrigin
        let host: ComparableHost
        let environment: [String: String]
        var notices: [Notice] = []

        init(target: WebOrigin, environment: [String: String]) {
            self.target = target
            self.host = ComparableHost(target: target.host, isIPv6Literal: target.isIPv6Literal)
            self.environment = environment
        }

        mutating func select(
            _ proxy: OutboundProxy,
            but exemptions: OutboundProxyConfiguration.Exemptions
        ) -> Outcome {
            if let rule = self.exemption(in: NoProxyList(exemptions.entries), of: .option) { return .direct(rule) }
            if exemptions.includesEnvironment, let rule = self.environmentExemption() { return .direct(rule) }
            return .proxy(proxy, .proxyURL)
        }

        mutating func selectFromEnvironment() -> Outcome {
            guard let (variable, text) = self.proxyVariable() else { return .direct(.noProxyNamed) }
            if let rule = self.environmentExemption() { return .direct(rule) }
            do {
                let url = try OutboundProxyURL(text)
                let proxy = try Self.proxy(url, of: variable)
                // With a proxy elsewhere the token would leave the machine, towards a target that only this machine
                // reaches; a proxy on this machine is there to be used.
                if self.host.isLoopback, !proxy.isOnThisMachine { return .direct(.loopback(variable: variable)) }
                if proxy.kind == .http, url.hostPort.port == nil {
                    self.notices.append(.defaultPort(variable: variable))
                }
                return .proxy(proxy, .variable(variable))
            } catch {
                return .unusable(UnusableVariable(variable: variable, reason: error.reason))
            }
        }

        private mutating func proxyVariable() -> (name: String, value: String)? {
            let own =
                switch self.target.scheme {
                case .https: ["https_proxy", "HTTPS_PROXY"]
                case .http: ["http_proxy", "HTTP_PROXY"]
                }
            for name in own + ["all_proxy", "ALL_PROXY"] {
                guard let value = self.value(name) else { continue }
                // A CGI server turns a caller's `Proxy` header into this variable (httpoxy, CVE-2016-5386).
                if name == "HTTP_PROXY", self.environment["REQUEST_METHOD"]?.isEmpty == false {
                    self.notices.append(.ignoredInCGI(variable: name))
                    continue
                }
                return (name, value)
            }
            return nil
        }

        private mutating func environmentExemption() -> Rule? {
            for name in ["no_proxy", "NO_PROXY"] {
                guard let text = self.value(name) else { continue }
                return self.exemption(in: NoProxyList(text), of: .variable(name))
            }
            return nil
        }

        private mutating func exemption(in list: NoProxyList, of source: NoProxySource) -> Rule? {
            self.notices += list.unusable.map {
                .unusableEntry(source, number: $0.number, text: NoProxyList.shown($0.text))
            }
            return list.entry(matching: self.host, port: self.target.port)
                .map { .noProxy(source, number: $0.number, text: NoProxyList.shown($0.text)) }
        }

        /// A variable's text; nil if it is unset or blank.
        private func value(_ name: String) -> String? {
            guard let text = self.environment[name] else { return nil }
            let trimmed = TokenText.trimmed(text[...])
            return trimmed.isEmpty ? nil : trimmed
        }

        private static func proxy(
            _ url: OutboundProxyURL,
            of variable: String
        ) throws(OutboundProxyURL.Refusal) -> OutboundProxy {
            let kind = url.kind ?? .http
            if let username = url.username {
                guard !username.isEmpty else {
                    throw OutboundProxyURL.Refusal(reason: "the user name for the proxy is empty")
                }
                if let reason = kind.refusal(ofUsername: username, password: url.password ?? "") {
                    throw OutboundProxyURL.Refusal(reason: reason)
                }
            }
            return OutboundProxy(
                kind: kind,
                host: url.hostPort.host,
                isIPv6Literal: url.hostPort.isIPv6Literal,
                port: url.hostPort.port ?? kind.defaultPort,
                username: url.username.map { Secret($0) },
                password: url.password.map { Secret($0) },
                setting: variable
            )
        }
    }
}

extension OutboundProxy {
    /// Whether what passes through the proxy has not left this machine.
    var isOnThisMachine: Bool {
        ComparableHost(target: self.host, isIPv6Literal: self.isIPv6Literal).isLoopback
    }
}
