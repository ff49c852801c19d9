// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration

/// `mcp-proxy explain`: says what was decided and why.
struct ExplainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Say what is decided, and why.",
        subcommands: [ExplainProxyCommand.self]
    )
}

/// `mcp-proxy explain proxy`: which outbound proxy a URL would take.
struct ExplainProxyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy",
        abstract: "Say which outbound proxy a URL would take, and why.",
        discussion: "Without --server the environment decides, and no configuration is read."
    )

    @Argument(help: "An http or https URL.")
    var url: String

    @Option(name: .long, help: "The server whose options.proxy counts.")
    var server: String?

    @OptionGroup var options: ConfigurationOptions

    func run() async throws {
        let environment = try self.options.environment()
        do {
            let explanation =
                if let server {
                    try await OutboundProxyExplanation(
                        of: self.url,
                        server: server,
                        in: self.options.load(environment),
                        environment: environment
                    )
                } else {
                    try OutboundProxyExplanation(of: self.url, environment: environment)
                }
            Output.print(explanation.text)
        } catch let refusal as OutboundProxyExplanation.Refusal {
            throw CommandEnd.wrongConfiguration(refusal.message)
        }
    }
}
