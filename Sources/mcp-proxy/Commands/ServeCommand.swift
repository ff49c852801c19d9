// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration
import GatewayModel
import GatewayObservability
import Logging
import NIOCore
import UnixSignals

/// `mcp-proxy serve`, and `mcp-proxy` without a command.
struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve the configured MCP servers (the default)."
    )

    @OptionGroup var options: ConfigurationOptions
    @OptionGroup var log: LogOptions

    @Option(
        name: .long,
        help: "Where to listen (HOST:PORT, or :PORT for every interface), whatever the configuration says."
    )
    var addr: String?

    @Flag(name: .long, help: "As the command check.")
    var checkConfig = false

    @Flag(name: .long, help: "As the command doctor.")
    var doctor = false

    @Option(name: .long, help: "Event loop threads; by default one per core.")
    var threads: Int?

    @Option(
        name: .long,
        help:
            "Whether changes of the configuration are looked for: auto (files), off, or how often a URL is asked (60s)."
    )
    var watch = "auto"

    func validate() throws {
        if let addr, ListenAddress(text: addr) == nil {
            throw ValidationError("--addr takes HOST:PORT, or :PORT for every interface")
        }
        if let threads, !(1...1024).contains(threads) { throw ValidationError("--threads takes 1 to 1024") }
        guard let watch = WatchSetting(self.watch) else {
            throw ValidationError("--watch takes \(WatchSetting.accepted)")
        }
        if case .every = watch, !self.options.isURL {
            throw ValidationError("--watch \(self.watch): a file is looked at without an interval; use --watch auto")
        }
    }

    func run() async throws {
        if self.checkConfig { return try await CheckCommand.run(self.options, isStrict: false) }
        if self.doctor { throw CommandEnd.cannotRun("doctor: not built yet; use check") }
        // From here on SIGHUP waits to be looked at, whatever the start takes.
        let hangups = await UnixSignalsSequence(trapping: .sighup)
        let chosen = self.addr.flatMap { ListenAddress(text: $0) }
        let loaded = try await self.options.loadForThisMachine(self.options.environment(), listeningAt: chosen)
        let result = loaded.result
        guard let snapshot = result.snapshot else {
            for finding in result.findings { Output.error(finding.rendered(sourceName: result.sourceName)) }
            throw CommandEnd.wrongConfiguration
        }
        // Nobody has to write an address: then there is an option to choose another.
        let address = chosen == nil ? result.address : nil
        let place = address.map { "\(result.sourceName):\($0.line):\($0.column): \($0.path): " } ?? ""
        let process = GatewayProcess(
            snapshot,
            addressSetting: GatewayProcess.AddressSetting(place: place, key: address?.path ?? "--addr"),
            format: LogFormat(rawValue: self.log.logFormat) ?? .automatic(for: 2),
            level: Logger.Level(rawValue: self.log.logLevel) ?? .info,
            threads: self.threads ?? System.coreCount
        )
        process.log(result.findings, of: result.sourceName)
        try await process.run(
            GatewayProcess.Reloading(
                options: self.options,
                loaded: loaded,
                address: chosen,
                watch: WatchSetting(self.watch) ?? .automatic,
                hangups: hangups
            )
        )
    }
}
