// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// The program: which command, with what, and with which exit code it ends (contract §1).
struct CommandLineTool: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mcp-proxy",
        abstract: "One HTTP server in front of many MCP servers.",
        discussion: """
            Without a command it serves: mcp-proxy --config config.json
            Exit codes: 0 fine, 1 could not run, 2 the configuration or the arguments are wrong.
            """,
        version: "mcp-proxy \(Version.current)",
        subcommands: [
            ServeCommand.self, CheckCommand.self, ReloadCommand.self, DoctorCommand.self, ExplainCommand.self,
            SchemaCommand.self,
            DemoCommand.self,
        ],
        defaultSubcommand: ServeCommand.self
    )

    /// The names of the commands that there are.
    static var commandNames: [String] {
        Self.configuration.subcommands.compactMap { $0.configuration.commandName }
    }

    private static func end(_ code: Int32) -> Never {
        #if canImport(Glibc)
        Glibc.exit(code)
        #else
        Darwin.exit(code)
        #endif
    }

    /// Runs and ends the process.
    static func main(_ arguments: [String]) async {
        do {
            var command = try Self.parseAsRoot(GoSpelling.translate(arguments))
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
            Self.end(0)
        } catch let end as CommandEnd {
            if let message = end.message { Output.error(message) }
            Self.end(end.code)
        } catch {
            // The parser's own: help and version are asked for, everything else is a wrong argument.
            let text = Self.fullMessage(for: error)
            guard Self.exitCode(for: error) != .success else {
                Output.print(text)
                Self.end(0)
            }
            Output.error(ForeignArguments.advice(on: arguments, commands: Self.commandNames) ?? text)
            Self.end(CommandEnd.wrongConfiguration.code)
        }
    }
}

/// How a command ends if not well.
struct CommandEnd: Error {
    let code: Int32
    let message: String?

    /// The message is out already.
    static let wrongConfiguration = CommandEnd(code: 2, message: nil)

    static func wrongConfiguration(_ message: String) -> CommandEnd { CommandEnd(code: 2, message: message) }

    static func cannotRun(_ message: String) -> CommandEnd { CommandEnd(code: 1, message: message) }
}

/// Text for people: answers on standard output, complaints on standard error.
enum Output {
    static func print(_ text: String) { self.write(text, to: 1) }

    static func error(_ text: String) { self.write(text, to: 2) }

    private static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array((text.hasSuffix("\n") ? text : text + "\n").utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            bytes = bytes.dropFirst(count)
        }
    }
}
