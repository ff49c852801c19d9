// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
package import GatewayObservability
import GatewayWire
package import Logging
package import NIOCore

/// One child process as a stream of lines both ways.
///
/// Confined to its event loop, on which its three pipes are watched too. It lives once: whoever wants the process again
/// makes another child.
package final class StdioChild {
    /// How a child ended.
    package enum Ending: Hashable, Sendable {
        /// No process was started; the text says why, for a log, without a value of the configuration.
        case notStarted(String)
        /// No process was started, because the gateway had no descriptors for its pipes: no fault of the program.
        case noDescriptors
        /// The process ended by itself.
        case exited(code: Int)
        /// The process was ended by a signal that is not ours.
        case signalled(Int)
        /// It was killed for a line above the limit.
        case lineTooLong
        /// It was killed because it closed its output, or its input, and went on living.
        case closedOutput
        /// Its owner wanted it to end, by `stop` or by `kill`.
        case stopped
    }

    let configuration: StdioUpstreamConfiguration
    let environment: [String: String]
    /// The name of the server.
    let name: String
    let eventLoop: any EventLoop
    let guardian: ProcessGuard?
    let logger: Logger
    /// Counts the bytes held for the child: what it wrote that is no whole line yet, and what it was sent and has not read.
    private var held: HeldBytes

    var machine = StateMachine()
    /// Nil once it has ended.
    var delegate: (any StdioChildDelegate)?
    var inputChannel: (any Channel)?
    let output: ChildOutput
    let errorLog: ChildErrorLog
    /// The pipes whose end here is not closed yet.
    var openPipes: Set<Pipe> = []
    var alarm: Scheduled<Void>?

    /// The process and its group, while it is known to run.
    package internal(set) var processID: Int32?
    /// Whether it runs only to be asked what it speaks: what it says on standard error is kept back then, and its end is not
    /// logged, since whoever asks it says what there is to say.
    package var isTrial = false {
        didSet { self.errorLog.isHeldBack = self.isTrial }
    }
    /// Whether its owner had to end it at once.
    private(set) var wasKilled = false
    /// How the process ended, as the system says.
    var exitStatus: ExitStatus?
    /// The id of the process for the log, also when it is gone.
    var loggedProcessID: Int32?

    /// - Parameters:
    ///   - configuration: what is started.
    ///   - environment: the environment of this process, from which the child's is taken.
    ///   - name: the name of the server, for the log.
    ///   - lineLimit: the bytes that a line of the child may have.
    ///   - eventLoop: where everything happens; one of NIO's own.
    ///   - guardian: who kills the process if this one dies; nil: nobody.
    ///   - logger: where its standard error and its end are logged.
    ///   - buffers: where the bytes are counted that are held for it.
    ///   - delegate: who hears of it; held until it has ended.
    package init(
        _ configuration: StdioUpstreamConfiguration,
        environment: [String: String],
        name: String,
        lineLimit: Int,
        on eventLoop: any EventLoop,
        guardian: ProcessGuard?,
        logger: Logger,
        buffers: BufferLedger,
        delegate: any StdioChildDelegate
    ) {
        self.configuration = configuration
        self.environment = environment
        self.name = name
        self.eventLoop = eventLoop
        self.guardian = guardian
        self.logger = logger
        self.held = HeldBytes(in: buffers)
        self.delegate = delegate
        self.output = ChildOutput(lineLimit: lineLimit)
        self.errorLog = ChildErrorLog(name: name, logger: logger)
    }

    // MARK: For the owner, on the event loop

    /// Starts the process, once.
    package func start() { self.perform(self.machine.start()) }

    /// Writes a message and a line feed (in one write where it fits).
    ///
    /// `written` hears, on the event loop and perhaps before this returns, whether every byte went into the pipe. A
    /// child that has not started, or is being stopped, takes nothing.
    package func send(_ message: ByteBuffer, written: (@Sendable (Bool) -> Void)? = nil) {
        guard self.machine.takesLines, let inputChannel = self.inputChannel else {
            written?(false)
            return
        }
        var promise: EventLoopPromise<Void>?
        if let written {
            let writtenPromise = self.eventLoop.makePromise(of: Void.self)
            writtenPromise.futureResult.whenComplete { result in
                if case .success = result { written(true) } else { written(false) }
            }
            promise = writtenPromise
        }
        inputChannel.write(message, promise: nil)
        inputChannel.writeAndFlush(Self.lineFeed, promise: promise)
        if !inputChannel.isWritable { self.updateHeld() }
    }

    /// Counts what is held for it; a child for which there is no room is ended.
    func updateHeld() {
        self.held.set(self.output.waitingBytes + self.pendingBytes) {
            let child = NIOLoopBound(self, eventLoop: self.eventLoop)
            return { child.eventLoop.execute { child.value.kill() } }
        }
    }

    /// Bytes that the pipe has not taken yet.
    package var pendingBytes: Int {
        // On a channel that is closed nothing is pending.
        (try? self.inputChannel?.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// Whether nothing is read from the child, which stops when its pipe is full.
    ///
    /// Lines that are read already, at most 64 KiB and the rest of a longer one, still come, and so does what a process
    /// that ended has left in its pipe.
    package var isReadingPaused = false {
        didSet { self.output.updateReading() }
    }

    /// Ends the process in order: closes its input, after 2 s sends SIGTERM to its group, after 3 s more SIGKILL.
    ///
    /// `childEnded(.stopped)` comes at the end, also of a child that never started.
    package func stop() { self.perform(self.machine.stop()) }

    /// Ends the process and its group at once; `childEnded(.stopped)` comes when it is gone.
    package func kill() {
        self.wasKilled = true
        self.perform(self.machine.kill())
    }

    /// The last lines of its standard error, for the log; nil: it said nothing.
    package var lastErrors: Logger.MetadataValue? { self.errorLog.tail }

    /// When it last wrote anything to its standard output; its beginning if it never did.
    package var lastOutput: NIODeadline { self.output.lastRead }

    private static let lineFeed = ByteBuffer(bytes: [0x0a])
}
