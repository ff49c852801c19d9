// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// Finds what will fail on this machine before anything is started or dialled (contract U19).
///
/// A file of `tls` that cannot be used ends the start, so it is an error. A program that cannot be started takes one server
/// away and may be there later, so it is a warning.
struct MachineCheck<Looked: Machine> {
    private static var proxyVariables: [String] {
        ["https_proxy", "http_proxy", "all_proxy", "no_proxy"]
    }
    /// Where people have programs that are in the PATH of their shell and not in that of a service.
    private static var usualDirectories: [String] {
        [
            "/usr/local/bin", "/opt/homebrew/bin", "/snap/bin", "~/.local/bin", "~/bin", "~/.cargo/bin", "~/.bun/bin",
            "~/.volta/bin", "~/.asdf/shims", "~/.local/share/mise/shims",
        ]
    }

    let machine: Looked
    let environment: [String: String]
    private(set) var findings: [Finding] = []

    init(_ machine: Looked, environment: [String: String]) {
        self.machine = machine
        self.environment = environment
    }

    mutating func check(_ mentions: Mentions) {
        for tls in mentions.tls { self.check(tls) }
        for program in mentions.programs { self.check(program) }
        self.checkProxyVariables(of: mentions.programs)
    }

    // MARK: TLS

    private mutating func check(_ tls: Mentions.TLS) {
        guard let fault = self.machine.fault(in: tls.settings) else { return }
        let file = ["caFile": tls.settings.caFile, "certFile": tls.settings.certFile, "keyFile": tls.settings.keyFile][
            fault.key
        ]
        let shown = (file ?? nil).map { "\(ConfigurationSummary.shown($0)) " } ?? ""
        let place = tls.places[fault.key] ?? tls.place
        self.findings.append(
            place.finding(.unusableFile, "\(shown)\(fault.reason)\(Self.tildeAdvice(file ?? nil))")
        )
    }

    private static func tildeAdvice(_ path: String?) -> String {
        path?.hasPrefix("~") == true ? "; ~ is not expanded, write the whole path or ${HOME}/…" : ""
    }

    // MARK: Programs

    private mutating func check(_ program: Mentions.Program) {
        let configuration = program.configuration
        if let directory = configuration.workingDirectory, let place = program.directory {
            let shown = ConfigurationSummary.shown(directory)
            let reason: String? =
                switch self.machine.entry(at: directory) {
                case .nothing: "there is no directory \(shown)\(Self.tildeAdvice(directory))"
                case .file: "\(shown) is no directory"
                case .directory:
                    self.machine.canEnter(directory) ? nil : "this user may not enter the directory \(shown)"
                }
            if let reason {
                self.findings.append(
                    place.finding(.unusableDirectory, "\(reason); the program cannot be started there")
                )
            }
        }
        for (argument, place) in zip(configuration.arguments, program.arguments) where argument.hasPrefix("~/") {
            self.findings.append(
                place.finding(
                    .tildeNotExpanded,
                    "the program gets this ~ as it stands, since there is no shell; ${HOME}/… is expanded"
                )
            )
        }
        if let reason = self.reasonNotToStart(configuration) {
            self.findings.append(program.command.finding(.unusableProgram, reason))
        }
    }

    /// Why a program cannot be started; nil if it can, as far as one can see.
    private func reasonNotToStart(_ program: StdioUpstreamConfiguration) -> String? {
        let variables = ChildEnvironment.variables(for: program, from: self.environment)
        let directories = Self.directories(of: variables)
        let isPath = program.command.contains("/")
        let candidates =
            isPath
            ? [self.path(program.command, in: program.workingDirectory)]
            : directories.map { "\($0)/\(program.command)" }
        let shown = ConfigurationSummary.shown(program.command)
        let entries = candidates.map { self.machine.entry(at: $0) }
        guard let index = entries.firstIndex(of: .file(isExecutable: true)) else {
            if let index = entries.firstIndex(of: .file(isExecutable: false)) {
                return
                    "\(ConfigurationSummary.shown(candidates[index])) is not executable for this user; chmod +x makes it so"
            }
            guard !isPath else {
                let what = entries.first == .directory ? "\(shown) is a directory" : "there is no program \(shown)"
                return what + Self.tildeAdvice(program.command)
            }
            return self.reasonNotFound(program, variables, directories)
        }
        return self.reasonWithoutInterpreter(candidates[index], directories, in: program.workingDirectory)
    }

    private func reasonNotFound(
        _ program: StdioUpstreamConfiguration,
        _ variables: [String: String],
        _ directories: [String]
    ) -> String {
        let shown = ConfigurationSummary.shown(program.command)
        let isOwn = program.environment.contains { $0.name == "PATH" }
        let path =
            isOwn
            ? "the PATH that env gives it"
            : "the program's PATH (\(ConfigurationSummary.escaped(directories.joined(separator: ":"))))"
        let home = self.environment["HOME"]
        let elsewhere =
            (isOwn ? Self.directories(of: self.environment) : [])
            + Self.usualDirectories.compactMap { directory in
                guard directory.hasPrefix("~") else { return directory }
                return home.map { $0 + directory.dropFirst() }
            }
        let found = elsewhere.map { "\($0)/\(program.command)" }
            .first { self.machine.entry(at: $0) == .file(isExecutable: true) }
        guard let found else { return "\(shown) is not in \(path); install it, or write its whole path" }
        return
            "\(shown) is not in \(path); write \(ConfigurationSummary.shown(found)), or add its directory to env.PATH"
    }

    private func reasonWithoutInterpreter(_ path: String, _ directories: [String], in working: String?) -> String? {
        guard let line = self.machine.interpreter(of: path) else { return nil }
        let words = line.split { $0 == " " || $0 == "\t" }.map(String.init)
        guard let interpreter = words.first else { return nil }
        let shown = ConfigurationSummary.shown(path)
        guard self.machine.entry(at: self.path(interpreter, in: working)) == .file(isExecutable: true) else {
            return "the first line of \(shown) names \(ConfigurationSummary.shown(interpreter)), which is not there;"
                + " install it, or correct that line"
        }
        guard interpreter.hasSuffix("/env"), let name = words.dropFirst().first(where: { !$0.hasPrefix("-") }),
            !name.contains("/"), !name.contains("=")
        else { return nil }
        let isThere = directories.contains { self.machine.entry(at: "\($0)/\(name)") == .file(isExecutable: true) }
        guard !isThere else { return nil }
        return
            "the first line of \(shown) wants \(ConfigurationSummary.shown(name)), which is not in the program's PATH;"
            + " install it, or add its directory to env.PATH"
    }

    /// A path as the program sees it, whose working directory counts.
    private func path(_ path: String, in directory: String?) -> String {
        guard let directory, !path.hasPrefix("/") else { return path }
        return "\(directory)/\(path)"
    }

    /// The directories in which a name is looked for: relative ones are not.
    private static func directories(of variables: [String: String]) -> [String] {
        (variables["PATH"] ?? "/bin:/usr/bin").split(separator: ":").map(String.init).filter { $0.hasPrefix("/") }
    }

    // MARK: Variables

    /// Programs get no proxy settings unless they are given some, and then dial past the proxy or fail.
    private mutating func checkProxyVariables(of programs: [Mentions.Program]) {
        let ours = Self.proxyVariables.compactMap { name in
            self.environment.keys.sorted().first { $0.lowercased() == name && self.environment[$0]?.isEmpty == false }
        }
        guard !ours.isEmpty else { return }
        var without: [(program: Mentions.Program, missing: [String])] = []
        for program in programs {
            let variables = ChildEnvironment.variables(for: program.configuration, from: self.environment)
            let given = Set(variables.keys.map { $0.lowercased() })
            let missing = ours.filter { !given.contains($0.lowercased()) }
            if !missing.isEmpty { without.append((program, missing)) }
        }
        guard let first = without.first else { return }
        let missing = ours.filter { name in without.contains { $0.missing.contains(name) } }
        let servers = without.prefix(10).map { ConfigurationSummary.escaped($0.program.server) }.joined(separator: ", ")
        let more = without.count > 10 ? " and \(without.count - 10) more" : ""
        let names = missing.map { "\"\($0)\"" }.joined(separator: ", ")
        self.findings.append(
            first.program.command.finding(
                .proxyNotPassed,
                "\(missing.joined(separator: ", ")) \(missing.count == 1 ? "is" : "are") set here and not passed to the"
                    + " program of \(servers)\(more); \"inheritEnv\": [\(names)] passes \(missing.count == 1 ? "it" : "them")"
            )
        )
    }
}
