// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration
import GatewayModel
import GatewayTransport
import GatewayWire
import Logging

/// Where the configuration is and how it is read.
struct ConfigurationOptions: ParsableArguments {
    @Option(name: .long, help: "The configuration: a path or a URL.")
    var config = MissingConfiguration.usualName

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
    /// `isAgain`: the process runs, and nothing may hold it up.
    ///
    /// - Throws: `CommandEnd` if the file cannot be read.
    func environment(isAgain: Bool = false) throws(CommandEnd) -> [String: String] {
        guard let envFile else { return ProcessSetup.environment }
        let bytes = try ConfigurationSource.readFile(
            envFile,
            option: "--env-file",
            limit: EnvironmentFile.sizeLimit,
            isAgain: isAgain
        )
        do {
            return try EnvironmentFile(bytes).merged(below: ProcessSetup.environment)
        } catch {
            throw .wrongConfiguration(error.rendered(sourceName: envFile))
        }
    }

    /// Reads and validates, and looks at what the configuration names on this machine; the result may have errors in it.
    ///
    /// `environment` is ``environment()``; `address` is where the gateway listens whatever the configuration says.
    ///
    /// - Throws: `CommandEnd` if there is nothing to read.
    func loadForThisMachine(
        _ environment: [String: String],
        listeningAt address: ListenAddress? = nil
    ) async throws(CommandEnd) -> LoadedConfiguration {
        let source = try ConfigurationSource(self, environment: environment)
        let first = EarlierLoad(address: address)
        guard let loaded = try await self.load(source, environment, after: first, isAgain: false) else {
            throw .wrongConfiguration("\(source.name): the server sent nothing")
        }
        return loaded
    }

    /// The same while the process runs; nil if the server of a configuration URL says that nothing changed since.
    func loadAgain(after last: EarlierLoad) async throws(CommandEnd) -> LoadedConfiguration? {
        let environment = try self.environment(isAgain: true)
        let source = try ConfigurationSource(self, environment: environment)
        return try await self.load(source, environment, after: last, isAgain: true)
    }

    private func load(
        _ source: ConfigurationSource,
        _ environment: [String: String],
        after last: EarlierLoad,
        isAgain: Bool
    ) async throws(CommandEnd) -> LoadedConfiguration? {
        // What changes after this is another change.
        let before = await self.contents(of: last.files)
        let answer = try await source.read(unlessStill: last.validators, isAgain: isAgain)
        guard case .version(let bytes, let validators) = answer else { return nil }
        // What programs inherit is looked at here, and that is the environment of the process.
        let result = self.load(bytes, source, environment, after: last)
            .checked(on: ThisMachine(), environment: ProcessSetup.environment)
        let named = Set(
            result.secretFiles.paths + result.certificateFiles + result.variableFiles + self.ownFiles
        )
        let files = await self.contents(of: named.subtracting(before.keys).sorted())
            .merging(before.filter { named.contains($0.key) || $0.key == self.config }) { _, earlier in earlier }
        return LoadedConfiguration(result: result, validators: validators, files: files)
    }

    /// Reads and validates, whatever there is on this machine; the result may have errors in it.
    ///
    /// `environment` is ``environment()``.
    ///
    /// - Throws: `CommandEnd` if there is nothing to read.
    func load(_ environment: [String: String]) async throws(CommandEnd) -> LoadResult {
        let source = try ConfigurationSource(self, environment: environment)
        guard case .version(let bytes, _) = try await source.read() else {
            throw .wrongConfiguration("\(source.name): the server sent nothing")
        }
        return self.load(bytes, source, environment, after: EarlierLoad())
    }

    /// Whether the configuration is fetched.
    var isURL: Bool { ["http://", "https://"].contains { self.config.hasPrefix($0) } }

    /// The files that the command line names.
    private var ownFiles: [String] { (self.isURL ? [] : [self.config]) + (self.envFile.map { [$0] } ?? []) }

    /// What stands at these paths, and in the files that the command line names.
    ///
    /// A URL has no path: whether there is another configuration is for its server to say.
    func contents(of paths: [String]) async -> [String: ConfigurationWatch.Content] {
        var contents = await WatchedFiles.contents(of: paths.filter { $0 != self.config } + self.ownFiles)
        if self.isURL { contents[self.config] = ConfigurationWatch.Content(bytes: []) }
        return contents
    }

    private func load(
        _ bytes: [UInt8],
        _ source: ConfigurationSource,
        _ environment: [String: String],
        after last: EarlierLoad
    ) -> LoadResult {
        let result = ConfigurationLoader.load(
            bytes: bytes,
            sourceName: source.name,
            environment: environment,
            options: LoadOptions(
                expandsEnvironment: self.expandEnv,
                secretFiles: SecretFiles(
                    directory: source.directory,
                    reader: SecretFilesOnDisk(),
                    memory: last.secretFiles
                ),
                gateway: GatewayDefaults(
                    address: last.address,
                    hostName: ThisMachine.name,
                    version: Version.current
                )
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

/// A configuration as it was read.
struct LoadedConfiguration: Sendable {
    /// What is to run, or why it cannot.
    let result: LoadResult
    /// What the server of a configuration URL said of this version.
    let validators: HTTPValidators
    /// What stood where it was read from, by path: in the configuration itself, and in the files that it names.
    let files: [String: ConfigurationWatch.Content]

    /// What stood in the files with certificates, keys and authorities.
    var certificates: [String: ConfigurationWatch.Content] {
        let names = Set(self.result.certificateFiles)
        return self.files.filter { names.contains($0.key) }
    }
}

/// What a load goes by besides the configuration: what was given at the start, and what earlier loads found.
struct EarlierLoad: Sendable {
    /// Where the gateway listens, whatever the configuration says.
    var address: ListenAddress?
    /// The files that the configuration was read from.
    var files: [String] = []
    /// What secret files gave to the configuration that runs.
    var secretFiles = SecretFileMemory()
    /// None: the configuration is wanted whatever its server thinks of it.
    var validators = HTTPValidators()
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
