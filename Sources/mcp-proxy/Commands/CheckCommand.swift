// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration

/// `mcp-proxy check`: loads, validates and prints what was understood.
struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Load and validate the configuration, and print what was understood."
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(name: .long, help: "Fail on warnings, too.")
    var strict = false

    func run() async throws {
        try await Self.run(self.options, isStrict: self.strict)
    }

    static func run(_ options: ConfigurationOptions, isStrict: Bool) async throws {
        let environment = try options.environment()
        let result = try await options.loadForThisMachine(environment).result
        if let snapshot = result.understood {
            Output.print(ConfigurationSummary(snapshot, environment: environment).text)
        }
        for finding in result.findings { Output.print(finding.rendered(sourceName: result.sourceName)) }
        let limit: Finding.Severity = isStrict ? .warning : .error
        if let gravest = result.gravest, gravest >= limit { throw CommandEnd.wrongConfiguration }
        Output.print("ok")
    }
}

/// `mcp-proxy schema`: the JSON Schema of the configuration, for editors.
struct SchemaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "schema",
        abstract: "Print the JSON Schema of the configuration."
    )

    func run() { Output.print(ConfigurationSchema.text) }
}

/// `mcp-proxy doctor`.
struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Check, then dial every upstream (not built yet)."
    )

    @OptionGroup var options: ConfigurationOptions

    func run() async throws { throw CommandEnd.cannotRun("doctor: not built yet; use check") }
}
