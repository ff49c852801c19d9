// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayStdio
import Logging
import NIOCore

/// A child process as a channel: one message a line (MCP, Transports, stdio).
final class StdioChannel: LinkChannel, StdioChildDelegate {
    private weak var delegate: (any LinkChannelDelegate)?
    private let loop: LoopResources
    private var child: (any LineChild)?
    /// The last lines of its standard error, once it has ended.
    private var lastWords: Logger.MetadataValue?

    init(
        _ configuration: StdioUpstreamConfiguration,
        name: String,
        access: StdioAccess,
        lineLimit: Int,
        on loop: LoopResources,
        logger: Logger,
        buffers: BufferLedger,
        delegate: any LinkChannelDelegate
    ) {
        self.delegate = delegate
        self.loop = loop
        self.child =
            access.makeChild?(configuration, loop.eventLoop, self)
            ?? StdioChild(
                configuration,
                environment: access.environment,
                name: name,
                lineLimit: lineLimit,
                on: loop.eventLoop,
                guardian: access.guardian,
                logger: logger,
                buffers: buffers,
                delegate: self
            )
    }

    func open() { self.child?.start() }

    var isTrial: Bool {
        get { self.child?.isTrial ?? false }
        set { self.child?.isTrial = newValue }
    }

    var lastErrors: Logger.MetadataValue? { self.child?.lastErrors ?? self.lastWords }

    var lastReceived: NIODeadline { self.child?.lastOutput ?? .now() }

    func send(_ message: ByteBuffer, isCallers: Bool, completion: @escaping (LinkSending) -> Void) {
        guard let child else {
            return completion(.failed(GatewayError(.childExited, executed: .no, "the child is gone")))
        }
        guard child.pendingBytes <= Self.pendingLimit else {
            return completion(
                .failed(
                    GatewayError(
                        .overloaded,
                        executed: .no,
                        "the child does not read its input; try again",
                        cause: "stdin_full"
                    )
                )
            )
        }
        let completion = NIOLoopBound(completion, eventLoop: self.loop.eventLoop)
        child.send(Self.line(message)) { isWritten in
            // What could not be written goes down with the child, of whose end everybody hears.
            if isWritten { completion.value(.sent) }
        }
    }

    /// A child that does not read gets no more than this to read later.
    private static let pendingLimit = 16 * 1024 * 1024

    /// A message without line ends: in JSON they can only stand between tokens, where a space says the same.
    private static func line(_ message: ByteBuffer) -> ByteBuffer {
        guard message.readableBytesView.contains(where: { $0 == 0x0a || $0 == 0x0d }) else { return message }
        return ByteBuffer(bytes: message.readableBytesView.map { $0 == 0x0a || $0 == 0x0d ? 0x20 : $0 })
    }

    /// A program has what its environment has.
    var credential: LinkCredential? { nil }
    var isCredentialGone: Bool { false }

    var pendingBytes: Int { self.child?.pendingBytes ?? 0 }

    var isReadingPaused: Bool {
        get { self.child?.isReadingPaused ?? false }
        set { self.child?.isReadingPaused = newValue }
    }

    func close() { self.child?.stop() }

    func kill() { self.child?.kill() }

    /// A program shows nobody a credential of ours.
    func endRefused() { self.kill() }

    // MARK: Child

    func childStarted() { self.delegate?.channelOpened() }

    func childSent(_ line: ByteBuffer) { self.delegate?.channelReceived(line) }

    func childPaused() { self.delegate?.channelPaused() }

    func childEnded(_ ending: StdioChild.Ending) {
        self.lastWords = self.child?.lastErrors
        self.child = nil
        self.delegate?.channelClosed(Self.error(ending))
    }

    private static func error(_ ending: StdioChild.Ending) -> GatewayError {
        let (text, cause) =
            switch ending {
            case .noDescriptors:
                (
                    "no more children can be started: raise the limit of open files of the gateway "
                        + "(LimitNOFILE, ulimit -n)", "descriptors"
                )
            case .notStarted(let why): ("the child cannot be started: \(why)", "not_started")
            case .exited(let code): ("the child exited with code \(code); its stderr is in the log", "exited")
            case .signalled(let signal):
                ("the child was ended by signal \(signal); its stderr is in the log", "signalled")
            case .lineTooLong: ("the child wrote a line over limits.lineBytes and was ended", "too_large")
            case .closedOutput: ("the child closed its output and was ended", "closed_output")
            case .stopped: ("the child was stopped", "stopped")
            }
        return GatewayError(
            ending == .noDescriptors ? .overloaded : .childExited,
            executed: ending == .lineTooLong ? .yes : ending == .noDescriptors ? .no : .unknown,
            text,
            cause: cause
        )
    }
}
