// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration
import GatewayModel
import Logging

/// Where the configuration is and how it is read.
struct ConfigurationOptions: ParsableArguments {
    @Option(name: .long, help: "The configuration: a path or a URL.")
    var config = "config.json"

    @Option(name: .long, help: "Whether ${VAR} and ${file:PATH} in values are replaced.")
    var expandEnv = true

    @Option(name: .long, help: "A file of NAME=VALUE lines: variables that the environment does not have.")
    var envFile: String?

    @Flag(name: .long, help: "Do not verify the TLS certificate of a configuration URL.")
    var insecure = false

    @Option(name: .long, help: "Headers for a configuration URL: 'K:V;K2:V2'.")
    var httpHeaders = ""

    @Option(name: .long, help: "Time limit for a configuration URL, in seconds or as 10s.")
    var httpTimeout = "10"

    /// What the configuration is read with: the environment of the process, and below it what `--env-file` names.
    ///
    /// The file is read anew at each call. Programs get none of it: they inherit from the process alone.
    ///
    /// - Throws: `CommandEnd` if the file cannot be read.
    func environment() throws(CommandEnd) -> [String: String] {
        guard let envFile else { return ProcessSetup.environment }
        let bytes = try ConfigurationSource.readFile(envFile, option: "--env-file", limit: EnvironmentFile.sizeLimit)
        do {
            return try EnvironmentFile(bytes).merged(below: ProcessSetup.environment)
        } catch {
            throw .wrongConfiguration(error.rendered(sourceName: envFile))
        }
    }

    /// Reads and validates, and looks at what the configuration names on this machine; the result may have errors in it.
    ///
    /// `environment` is ``environment()``.
    ///
    /// - Throws: `CommandEnd` if there is nothing to read.
    func loadForThisMachine(_ environment: [String: String]) async throws -> LoadResult {
        // What programs inherit is looked at here, and that is the environment of the process.
        try await self.load(environment).checked(on: ThisMachine(), environment: ProcessSetup.environment)
    }

    /// Reads and validates; the result may have errors in it.
    ///
    /// `environment` is ``environment()``.
    ///
    /// - Throws: `CommandEnd` if there is nothing to read.
    func load(_ environment: [String: String]) async throws -> LoadResult {
        let source = try ConfigurationSource(self, environment: environment)
        let bytes = try await source.read()
        let result = ConfigurationLoader.load(
            bytes: bytes,
            sourceName: source.name,
            environment: environment,
            options: LoadOptions(
                expandsEnvironment: self.expandEnv,
                secretFiles: SecretFiles(directory: source.directory, reader: SecretFilesOnDisk())
            )
        )
        // What the environment says wrongly may concern the source and servers.
        let said = Set(source.findings.map(\.message))
        let others = result.findings.filter { !said.contains($0.message) }
        let secret = source.isReadableByOthers ? result.literalSecret : nil
        return result.with(
            findings: source.findings + others + (secret.map { [.fileReadableByOthers(secret: $0)] } ?? [])
        )
    }
}

/// How much is logged, and in which form.
struct LogOptions: ParsableArguments {
    @Option(name: .long, help: "trace, debug, info, notice, warning, error or critical.")
    var logLevel = "info"

    @Option(name: .long, help: "auto, text or json.")
    var logFormat = "auto"

    func validate() throws {
        guard Logger.Level(rawValue: self.logLevel) != nil else {
            let levels = Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")
            throw ValidationError("--log-level takes \(levels)")
        }
        guard ["auto", "text", "json"].contains(self.logFormat) else {
            throw ValidationError("--log-format takes auto, text or json")
        }
    }
}
