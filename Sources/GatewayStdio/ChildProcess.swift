// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Subprocess

#if canImport(System)
import System
#else
import SystemPackage
#endif

/// Starts the process of a child and waits for its end.
struct ChildProcess: Sendable {
    enum Outcome: Sendable {
        case ended(StdioChild.ExitStatus)
        /// No process was started; the text says why, and shows no value of the configuration.
        case notSpawned(String)
        /// No process was started, because this process can open no more files.
        case noDescriptors
    }

    /// The child's ends of its three pipes; whoever starts the process closes ours of them.
    struct Streams: Sendable {
        var input: Int32
        var output: Int32
        var error: Int32
    }

    let command: String
    /// The name that the program finds as its own, in `argv[0]`.
    let calledName: String
    let arguments: [String]
    let environment: [String: String]
    let workingDirectory: String?

    init(_ configuration: StdioUpstreamConfiguration, environment ours: [String: String]) {
        self.command = configuration.command
        self.calledName = configuration.command
        self.arguments = configuration.arguments
        self.environment = ChildEnvironment.variables(for: configuration, from: ours)
        self.workingDirectory = configuration.workingDirectory
    }

    init(command: String, called name: String, arguments: [String], environment: [String: String]) {
        self.command = command
        self.calledName = name
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = nil
    }

    /// Returns when the process is gone; `onSpawn` is called with its id, which is that of its group and session too.
    ///
    /// The command is a file, or a name that is looked for in PATH; its arguments reach it as they are, through no
    /// shell (faults S12.1). What is left of the group is killed.
    func run(_ streams: Streams, onSpawn: (Int32) -> Void) async -> Outcome {
        let texts = [self.command] + self.arguments + [self.workingDirectory ?? ""]
        guard !texts.contains(where: { $0.utf8.contains(0) }), self.environment.allSatisfy({ Self.isValid($0) }) else {
            for end in [streams.input, streams.output, streams.error] { SystemCalls.close(end) }
            return .notSpawned("the command, an argument or a variable has a character that none can have")
        }
        var options = PlatformOptions()
        options.createSession = true
        let configuration = Configuration(
            executable: self.command.contains("/") ? .path(FilePath(self.command)) : .name(self.command),
            arguments: Arguments(executablePathOverride: self.calledName, remainingValues: self.arguments),
            environment: .custom(self.environmentByKey),
            workingDirectory: self.workingDirectory.map { FilePath($0) },
            platformOptions: options
        )
        var group: Int32?
        defer { if let group { SystemCalls.signal(SystemCalls.sigkill, group: group) } }
        do {
            let result = try await Subprocess.run(
                configuration,
                input: .fileDescriptor(FileDescriptor(rawValue: streams.input), closeAfterSpawningProcess: true),
                output: .fileDescriptor(FileDescriptor(rawValue: streams.output), closeAfterSpawningProcess: true),
                error: .fileDescriptor(FileDescriptor(rawValue: streams.error), closeAfterSpawningProcess: true)
            ) { execution in
                let processID = execution.processIdentifier.value
                group = processID
                onSpawn(processID)
            }
            switch result.terminationStatus {
            case .exited(let code): return .ended(.exited(code: Int(code)))
            case .signaled(let signal): return .ended(.signalled(Int(signal)))
            }
        } catch {
            // Once it runs, only the wait for it can fail; it is killed then.
            if group != nil { return .ended(.signalled(Int(SystemCalls.sigkill))) }
            let cause = (error as? SubprocessError)?.underlyingError as? Errno
            if cause == .tooManyOpenFiles || cause == .tooManyOpenFilesInSystem { return .noDescriptors }
            return .notSpawned(self.reason(error))
        }
    }

    private var environmentByKey: [Environment.Key: String] {
        var variables: [Environment.Key: String] = [:]
        for (name, value) in self.environment { variables[Environment.Key(stringLiteral: name)] = value }
        return variables
    }

    private static func isValid(_ variable: (key: String, value: String)) -> Bool {
        let name = variable.key.utf8
        return !name.isEmpty && !name.contains(UInt8(ascii: "=")) && !name.contains(0)
            && !variable.value.utf8.contains(0)
    }

    private func reason(_ error: any Error) -> String {
        guard let error = error as? SubprocessError else { return "the process could not be created" }
        if error.code == .failedToChangeWorkingDirectory { return "the working directory cannot be entered" }
        if error.code == .executableNotFound { return self.reasonNotFound }
        // What the operating system says about this error number.
        let cause = error.underlyingError.map { ": \($0)" } ?? ""
        return "the process could not be created\(cause)"
    }

    /// The system says the same of a command that is missing, that must not be executed, and that needs an interpreter
    /// which is missing.
    private var reasonNotFound: String {
        let directories = (self.environment["PATH"] ?? "").split(separator: ":")
        let paths =
            self.command.contains("/") ? [self.command] : directories.map { $0 + "/" + self.command }
        let found = paths.map(SystemCalls.exists)
        if found.contains(where: { $0.executable }) { return "the interpreter of the command was not found" }
        return found.contains(where: { $0.file }) ? "the command is not executable" : "the command was not found"
    }
}
