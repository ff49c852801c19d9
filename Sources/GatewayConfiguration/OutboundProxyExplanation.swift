// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire

/// Which outbound proxy a URL takes and what decided it, as text for `explain proxy` (contract §1).
///
/// The proxy is shown without user and password, and no variable with its value.
package struct OutboundProxyExplanation: Sendable {
    /// Why there is no answer, for standard error.
    package struct Refusal: Error, Hashable, Sendable {
        package let message: String
    }

    /// A line with the decision, one with the rule, and one for each thing that is doubtful.
    package let text: String

    /// Explains what the environment alone decides.
    ///
    /// - Throws: `Refusal` for a text that is no URL, and if the variable that decides is not usable.
    package init(of url: String, environment: [String: String]) throws(Refusal) {
        try self.init(of: url, by: .environment, server: nil, environment: environment)
    }

    /// Explains what the `options.proxy` of a server decides for a URL, its own or the inherited one.
    ///
    /// - Throws: `Refusal` as above, for a server that is unknown or a child process, and for a configuration with errors
    ///   other than variables that its servers cannot use.
    package init(
        of url: String,
        server name: String,
        in result: LoadResult,
        environment: [String: String]
    ) throws(Refusal) {
        let isSound = result.findings.allSatisfy { $0.severity < .error || $0.code == .environmentProxyInvalid }
        guard isSound, let snapshot = result.understood else {
            let errors = result.findings.filter { $0.severity == .error }
            throw Refusal(message: errors.map { $0.rendered(sourceName: result.sourceName) }.joined(separator: "\n"))
        }
        guard let upstream = snapshot.upstreams.first(where: { $0.name == name }) else {
            let known = snapshot.upstreams.map { ConfigurationSummary.shown($0.name) }.joined(separator: ", ")
            throw Refusal(
                message: "--server: there is no server \(ConfigurationSummary.shown(name)); known are"
                    + " \(known.isEmpty ? "none" : known)"
            )
        }
        guard case .http(let http) = upstream.transport else {
            throw Refusal(
                message: "--server: \(ConfigurationSummary.shown(name)) is a child process, which no proxy is for;"
                    + " it has the proxy variables that env or inheritEnv give it"
            )
        }
        try self.init(of: url, by: http.proxy, server: name, environment: environment)
    }

    private init(
        of text: String,
        by configuration: OutboundProxyConfiguration,
        server name: String?,
        environment: [String: String]
    ) throws(Refusal) {
        guard let url = HTTPURL(written: text) else {
            throw Refusal(
                message: "this is no absolute http or https URL; a host that is not understood is written in the"
                    + " xn-- form"
            )
        }
        let target = url.origin
        let selection = OutboundProxySelection(configuration, to: target, environment: environment)
        let decision: String
        let decider: String
        switch selection.outcome {
        case .direct(let rule):
            decision = "direct"
            decider = "\(rule)"
        case .proxy(let proxy, _):
            decision = "through \(proxy)"
            decider = proxy.setting
        case .unusable(let variable):
            throw Refusal(message: name.map(variable.message(forServer:)) ?? variable.message(for: target))
        }
        let lines =
            ["\(target.scheme.rawValue)://\(target.hostPort.authority): \(decision)", "rule: \(decider)"]
            + selection.notices.map { "\($0.code.severity.rawValue): \($0)" }
        self.text = lines.map { $0 + "\n" }.joined()
    }
}
