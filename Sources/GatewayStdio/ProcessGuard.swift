// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import Logging
import Synchronization

// Children must not outlive us, and nothing of ours runs after SIGKILL. On Linux the system could tell a child that its
// parent died, but only the child itself, and npx and uvx start the real server as a grandchild. So a second process
// of this program does nothing but read a pipe from us with the groups of our children: the end of that pipe is our
// end, however it came, and then it kills what is left of them (faults S12.6).

/// The process that kills our children's process groups if we die.
///
/// Nothing here blocks. Where the guard cannot be started the gateway runs without it, and the log says so.
package final class ProcessGuard: Sendable {
    /// The first argument of this program that makes it a guard, before it is anything else.
    package static let subcommand = "guard"

    private struct State {
        /// Our end of the pipe; nil: it does not run.
        var descriptor: Int32?
        /// The groups that live, and the groups that the guard was told of and not yet told that they are gone.
        var groups: Set<Int32> = []
        var known: Set<Int32> = []
        var restartsLeft = 1
        var isFailureLogged = false
        var hasStarted = false
        var isStopped = false
        var processID: Int32?

        /// Tells the guard what it does not know yet; returns why that failed, nil if it did not or if no guard runs.
        mutating func tell() -> String? {
            guard let descriptor = self.descriptor else { return nil }
            let news =
                self.known.subtracting(self.groups).map { GuardLine.removed($0) }
                + self.groups.subtracting(self.known).map { GuardLine.added($0) }
            for line in news {
                switch SystemCalls.write(line.text, to: descriptor) {
                case .written: self.known.formSymmetricDifference([line.group])
                case .full: return "it does not read"
                case .failed: return "it is gone"
                }
            }
            return nil
        }
    }

    private let executable: String
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameters:
    ///   - executable: this program; nil: the file that this process was started from.
    ///   - logger: where it is logged that it does not run.
    package init(executable: String? = nil, logger: Logger) {
        self.executable = executable ?? SystemCalls.ownExecutable
        self.logger = logger
    }

    /// The guard's own process, while it runs.
    package var processID: Int32? { self.state.withLock { $0.processID } }

    /// Starts the process.
    package func start() {
        SystemCalls.ignoreBrokenPipes()
        guard let null = SystemCalls.openNull() else { return self.logNotStarted() }
        guard let pipe = SystemCalls.makePipe() else {
            SystemCalls.close(null)
            return self.logNotStarted()
        }
        SystemCalls.setNonBlocking(pipe.write)
        let isWanted = self.state.withLock { state in
            state.hasStarted = true
            guard state.descriptor == nil, !state.isStopped else { return false }
            state.descriptor = pipe.write
            state.known = []
            return true
        }
        guard isWanted else {
            for descriptor in [null, pipe.read, pipe.write] { SystemCalls.close(descriptor) }
            return
        }
        self.tell { _ in }
        let process = ChildProcess(
            command: self.executable,
            called: "mcp-proxy",
            arguments: [Self.subcommand],
            environment: SystemCalls.libraryPath
        )
        // The one task of this process: it waits for its end, and ends with it.
        Task {
            let streams = ChildProcess.Streams(input: pipe.read, output: null, error: null)
            let outcome = await process.run(streams) { processID in
                self.state.withLock { $0.processID = processID }
            }
            self.ended(outcome, descriptor: pipe.write)
        }
    }

    /// Tells it of a group that is to be killed if we die; starts it for the first group, unless that was done before.
    package func add(_ group: Int32) {
        if !self.state.withLock(\.hasStarted) { self.start() }
        self.tell { $0.groups.insert(group) }
    }

    /// Tells it that the group is gone.
    package func remove(_ group: Int32) {
        self.tell { $0.groups.remove(group) }
    }

    /// Ends the guard as our death would: it kills what is left of the groups, and exits.
    package func stop() {
        let descriptor: Int32? = self.state.withLock { state in
            state.isStopped = true
            defer { state.descriptor = nil }
            return state.descriptor
        }
        if let descriptor { SystemCalls.close(descriptor) }
    }

    private func logNotStarted() {
        self.logger.error("process guard cannot be started", metadata: ["reason": "no descriptors are left"])
    }

    private func tell(_ change: (inout State) -> Void) {
        let failure: String? = self.state.withLock { state in
            change(&state)
            guard let failure = state.tell(), !state.isFailureLogged else { return nil }
            state.isFailureLogged = true
            return failure
        }
        guard let failure else { return }
        self.logger.error("process guard cannot be told", metadata: ["reason": "\(failure)"])
    }

    /// The guard's process has ended, or was never started.
    private func ended(_ outcome: ChildProcess.Outcome, descriptor: Int32) {
        let next: (isStopped: Bool, restarts: Bool) = self.state.withLock { state in
            state.processID = nil
            guard state.descriptor == descriptor else { return (state.isStopped, false) }
            state.descriptor = nil
            SystemCalls.close(descriptor)
            guard state.restartsLeft > 0 else { return (false, false) }
            state.restartsLeft -= 1
            state.isFailureLogged = false
            return (false, true)
        }
        guard !next.isStopped else { return }
        let reason: Logger.MetadataValue
        switch outcome {
        case .notSpawned(let text): reason = "\(text)"
        case .noDescriptors: reason = "no more files can be opened"
        case .ended(.exited(let code)): reason = "exit code \(code)"
        case .ended(.signalled(let signal)): reason = "signal \(signal)"
        }
        if next.restarts {
            self.logger.warning("process guard ended and is started again", metadata: ["reason": reason])
            self.start()
        } else {
            self.logger.error("process guard ended; children may outlive a crash", metadata: ["reason": reason])
        }
    }
}
