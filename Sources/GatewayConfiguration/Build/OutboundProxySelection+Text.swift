// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

extension OutboundProxySelection.Rule: CustomStringConvertible {
    /// The rule as an operator knows it: by the name of a field or variable.
    package var description: String {
        switch self {
        case .proxyOption: "options.proxy"
        case .proxyURL: "options.proxy.url"
        case .variable(let name): name
        case .noProxy(let source, let number, let text): "\(source) entry \(number) (\(text))"
        case .loopback(let variable): "the target is this machine, and the proxy in \(variable) is not"
        case .noProxyNamed: "no proxy is configured, and no variable names one"
        }
    }
}

extension OutboundProxySelection.NoProxySource: CustomStringConvertible {
    /// The name of the field or variable.
    package var description: String {
        switch self {
        case .option: "options.proxy.noProxy"
        case .variable(let name): name
        }
    }
}

extension OutboundProxySelection.UnusableVariable {
    /// What an operator is told whose server needs the variable.
    package func message(forServer name: String) -> String {
        let setting = DocumentPath.root.appending(key: "mcpServers").appending(key: name).appending(key: "options")
            .appending(key: "proxy")
        return self.message(
            neededBy: "upstream \(ConfigurationSummary.shown(name))",
            remedy: "set \(setting) to false"
        )
    }

    /// What an operator is told whose URL, of no server, needs the variable.
    package func message(for target: WebOrigin) -> String {
        self.message(neededBy: "\(target)", remedy: "name the host in NO_PROXY")
    }

    private func message(neededBy subject: String, remedy: String) -> String {
        "environment variable \(self.variable) is not a usable proxy URL (value withheld); \(subject) needs it."
            + " Fix it or \(remedy) (\(self.reason))"
    }
}

extension OutboundProxySelection.Notice: CustomStringConvertible {
    /// What an operator is told, with the name of the variable or field.
    package var description: String {
        switch self {
        case .ignoredInCGI(let variable):
            "environment variable \(variable) is ignored because REQUEST_METHOD is set: in a CGI process a caller's"
                + " Proxy header ends up in it; http_proxy is not affected"
        case .defaultPort(let variable):
            "environment variable \(variable) names a proxy without a port, so it is 80 (curl would take 1080)"
        case .unusableEntry(let source, let number, let text):
            "\(source) entry \(number) (\(text)) cannot be used and matches nothing; accepted are *, host, .host,"
                + " *.host, an IP address or CIDR block, and host:port"
        }
    }

    /// The finding that it makes where no server is concerned.
    package var finding: Finding { Finding(code: self.code, path: "", line: 1, column: 1, message: self.description) }

    /// The kind of finding that it makes.
    package var code: Finding.Code {
        switch self {
        case .ignoredInCGI: .environmentProxyDiscarded
        case .defaultPort: .proxyDefaultPort
        case .unusableEntry: .noProxyEntryIgnored
        }
    }
}
