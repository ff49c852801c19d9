// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// The end of the process and the end of its pipes come in any order, and neither tells of the other: a process that is
// gone may have left a pipe to a grandchild, and one that closed its output may go on living. The process decides. Its
// end is the end of the child, whoever still holds a pipe: all that it wrote is in the pipes then. A pipe that
// closes first is most often the beginning of an exit, and gets a moment to become one; a process that then still lives
// can neither be asked nor answer, and is killed (faults F90).
//
//     idle ─ start ─▶ starting ─ spawned ─▶ running ─ pipeClosed ─▶ closing
//                        │                   │  │                     │
//                        │ notSpawned        │  └ stop ─▶ stopping ───┤ timerFired, kill, lineTooLong
//                        ▼                   │ exited      │ exited   ▼
//                      ended ◀─ drained ─ draining ◀───────┴────── killed

extension StdioChild {
    /// How a process ended.
    enum ExitStatus: Hashable, Sendable {
        case exited(code: Int)
        case signalled(Int)
    }

    /// The life of one child: which events mean what, and when it is over.
    struct StateMachine: ~Copyable {
        enum Action: Hashable, Sendable {
            case none
            case spawn
            /// Tell the owner that the process runs, and read.
            case announce
            /// Call `timerFired` after this time.
            case wait(Duration)
            /// Close standard input, and call `timerFired` after this time.
            case closeInput(thenWait: Duration)
            /// Send SIGTERM to the process group, and call `timerFired` after this time.
            case terminate(thenWait: Duration)
            /// Send SIGKILL to the process group, and call `timerFired` after this time.
            case kill(thenWait: Duration)
            /// Read what is in the pipes, and call `drained`.
            case drain
            /// Release everything and tell the owner.
            case end(Ending)
        }

        private enum State {
            case idle
            /// `isStopped`: its owner stopped it before the process ran.
            case starting(isStopped: Bool)
            case running
            /// A pipe is closed and the process not known to be gone.
            case closing
            case stopping(isTerminated: Bool)
            /// SIGKILL is on its way.
            case killed(Ending)
            /// The process is gone, and what it left in its pipes is being read.
            case draining(Ending, deliversLines: Bool)
            case ended
        }

        /// How long a start may go on that nobody wants any more: starting a file hangs where its file system hangs.
        static let startGrace = Duration.seconds(5)
        /// How long a process that closed a pipe has to end by itself.
        static let exitGrace = Duration.milliseconds(250)
        /// From the end of input to SIGTERM, and from there to SIGKILL (MCP, Lifecycle, Shutdown; faults S12.5).
        static let inputGrace = Duration.seconds(2)
        static let terminationGrace = Duration.seconds(3)
        /// How long the system has to end a process that was killed; after that nobody waits for it.
        static let killGrace = Duration.seconds(5)

        private var state = State.idle

        /// Whether lines of the child go to its owner.
        var deliversLines: Bool {
            switch self.state {
            case .running, .closing, .stopping: true
            case .draining(_, let deliversLines): deliversLines
            // A child that is killed because it closed a pipe wrote proper lines before; they go to the owner.
            case .killed(let ending): ending == .closedOutput
            case .idle, .starting, .ended: false
            }
        }

        /// Whether bytes of the child are kept for later, because its start is still to be announced.
        var keepsBytes: Bool {
            if case .starting = self.state { true } else { false }
        }

        /// Whether lines for the child are taken.
        var takesLines: Bool {
            switch self.state {
            case .running, .closing: true
            case .idle, .starting, .stopping, .killed, .draining, .ended: false
            }
        }

        var hasEnded: Bool {
            if case .ended = self.state { true } else { false }
        }

        mutating func start() -> Action {
            guard case .idle = self.state else { return .none }
            self.state = .starting(isStopped: false)
            return .spawn
        }

        mutating func spawned() -> Action {
            switch self.state {
            case .starting(isStopped: false):
                self.state = .running
                return .announce
            case .starting(isStopped: true):
                return self.kill(.stopped)
            case .ended:
                // Nobody waits for the start any more.
                return .kill(thenWait: Self.killGrace)
            case .idle, .running, .closing, .stopping, .killed, .draining:
                return .none
            }
        }

        /// No process was started; `reason` says why.
        mutating func notSpawned(_ reason: String) -> Action { self.notSpawned(.notStarted(reason)) }

        /// No process was started, because this process had no descriptors for it.
        mutating func noDescriptors() -> Action { self.notSpawned(.noDescriptors) }

        private mutating func notSpawned(_ ending: Ending) -> Action {
            guard case .starting(let isStopped) = self.state else { return .none }
            return self.end(isStopped ? .stopped : ending)
        }

        /// The owner wants it to end in order.
        mutating func stop() -> Action {
            switch self.state {
            case .idle:
                return self.end(.stopped)
            case .starting(isStopped: false):
                self.state = .starting(isStopped: true)
                return .wait(Self.startGrace)
            case .running, .closing:
                self.state = .stopping(isTerminated: false)
                return .closeInput(thenWait: Self.inputGrace)
            case .starting, .stopping, .killed, .draining, .ended:
                return .none
            }
        }

        /// The owner wants it to end at once.
        mutating func kill() -> Action {
            switch self.state {
            case .idle, .starting: self.stop()
            case .running, .closing, .stopping: self.kill(.stopped)
            case .killed, .draining, .ended: .none
            }
        }

        mutating func lineTooLong() -> Action {
            switch self.state {
            case .running, .closing:
                return self.kill(.lineTooLong)
            case .stopping:
                return self.kill(.stopped)
            case .draining(let ending, _):
                return self.end(ending)
            case .idle, .starting, .killed, .ended:
                return .none
            }
        }

        /// Standard input or output is closed at the other end.
        mutating func pipeClosed() -> Action {
            guard case .running = self.state else { return .none }
            self.state = .closing
            return .wait(Self.exitGrace)
        }

        /// The process is gone.
        mutating func exited(_ status: ExitStatus) -> Action {
            let own: Ending =
                switch status {
                case .exited(let code): .exited(code: code)
                case .signalled(let signal): .signalled(signal)
                }
            switch self.state {
            case .running, .closing:
                self.state = .draining(own, deliversLines: true)
            case .killed(.closedOutput):
                // It may have ended by itself just before our SIGKILL: then its own status counts.
                let isOurs = status == .signalled(Int(SystemCalls.sigkill))
                self.state = .draining(isOurs ? .closedOutput : own, deliversLines: true)
            case .stopping:
                self.state = .draining(.stopped, deliversLines: true)
            case .killed(let ending):
                // What it still said on standard error is for the log; its lines are not wanted any more.
                self.state = .draining(ending, deliversLines: false)
            case .idle, .starting, .draining, .ended:
                return .none
            }
            return .drain
        }

        /// There is nothing more in the pipes.
        mutating func drained() -> Action {
            guard case .draining(let ending, _) = self.state else { return .none }
            return self.end(ending)
        }

        mutating func timerFired() -> Action {
            switch self.state {
            case .starting(isStopped: true):
                return self.end(.stopped)
            case .closing:
                return self.kill(.closedOutput)
            case .stopping(isTerminated: false):
                self.state = .stopping(isTerminated: true)
                return .terminate(thenWait: Self.terminationGrace)
            case .stopping(isTerminated: true):
                return self.kill(.stopped)
            case .killed(let ending):
                return self.end(ending)
            case .idle, .starting, .running, .draining, .ended:
                return .none
            }
        }

        private mutating func kill(_ ending: Ending) -> Action {
            self.state = .killed(ending)
            return .kill(thenWait: Self.killGrace)
        }

        private mutating func end(_ ending: Ending) -> Action {
            self.state = .ended
            return .end(ending)
        }
    }
}
