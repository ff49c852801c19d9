// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import GatewayModel
import GatewayRuntime
import GatewayWire
import Logging

extension Logger {
    /// Says what there is to say about a configuration.
    func log(_ findings: [Finding], of sourceName: String) {
        for finding in findings {
            var metadata: Logger.Metadata = [
                "code": "\(finding.code.rawValue)", "file": "\(sourceName)", "path": "\(finding.path)",
                "line": "\(finding.line)", "column": "\(finding.column)", "detail": "\(finding.message)",
            ]
            if let suggestion = finding.suggestion { metadata["suggestion"] = "\(suggestion)" }
            let level: Logger.Level =
                switch finding.severity {
                case .info: .info
                case .warning: .warning
                case .error: .error
                }
            self.log(level: level, "configuration", metadata: metadata)
        }
    }

    /// Says where callers reach the servers of these names, or all.
    ///
    /// `port` is that of the listener, for a base URL that was made of its address before the system chose one.
    func announce(_ endpoints: Endpoints, port: Int, only names: [String]? = nil) {
        let listener = endpoints.listener
        let base = listener.baseOrigin
        let origin =
            base.port != 0
            ? base
            : WebOrigin(scheme: base.scheme, host: base.host, isIPv6Literal: base.isIPv6Literal, port: port)
        // Every server has both transports; the one that `type` names comes first.
        let isSSE = listener.advertisedTransport == .sse
        for endpoint in endpoints.all where names?.contains(endpoint.name) ?? true {
            let route = "\(origin)\(listener.basePath)/\(endpoint.route)"
            self.info(
                "serving",
                metadata: [
                    "upstream": "\(endpoint.name)", "url": "\(route)/\(isSSE ? "sse" : "mcp")",
                    "also": "\(route)/\(isSSE ? "mcp" : "sse")",
                ]
            )
        }
    }
}
