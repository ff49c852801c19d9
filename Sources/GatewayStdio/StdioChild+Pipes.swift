// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix

/// The three pipes between us and the process.
extension StdioChild {
    enum Pipe: Hashable, Sendable {
        case input
        case output
        case error
    }

    /// Makes the pipes and puts our ends of them on the event loop; nil: there are no descriptors left.
    ///
    /// Each pipe is a channel of its own: a channel with both ends would not tell that the process closed its input.
    func openPipesOfChild() -> ChildProcess.Streams? {
        var pipes: [(read: Int32, write: Int32)] = []
        while pipes.count < 3 {
            guard let pipe = SystemCalls.makePipe() else {
                for pipe in pipes { Self.close([pipe.read, pipe.write]) }
                return nil
            }
            pipes.append(pipe)
        }
        let (input, output, error) = (pipes[0], pipes[1], pipes[2])
        self.output.attach(to: self, descriptor: output.read)
        self.errorLog.attach(to: self, descriptor: error.read)
        self.open(.input, input.write, with: ChildInput(self))
        self.open(.output, output.read, with: self.output)
        self.open(.error, error.read, with: self.errorLog)
        guard self.openPipes.count == 3 else {
            // Ours are closed with their channels, also one that could not be watched.
            Self.close([input.read, output.write, error.write])
            return nil
        }
        return ChildProcess.Streams(input: input.read, output: output.write, error: error.write)
    }

    /// Hands an end of a pipe to the event loop.
    private func open(_ pipe: Pipe, _ descriptor: Int32, with handler: some ChannelInboundHandler) {
        let bound = NIOLoopBound(handler, eventLoop: self.eventLoop)
        let bootstrap = NIOPipeBootstrap(group: self.eventLoop)
            // Standard output is read when the start is announced.
            .channelOption(.autoRead, value: pipe == .error)
            // A flood has to take turns with everything else on the loop.
            .channelOption(.maxMessagesPerRead, value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(bound.value)
                }
            }
        let channel =
            pipe == .input
            ? bootstrap.takingOwnershipOfDescriptor(output: descriptor)
            : bootstrap.takingOwnershipOfDescriptor(input: descriptor)
        // On its own loop a pipe is open at once, or cannot be opened.
        let child = NIOLoopBound(self, eventLoop: self.eventLoop)
        channel.whenSuccess { channel in
            child.value.openPipes.insert(pipe)
            if pipe == .input { child.value.inputChannel = channel }
        }
    }

    private static func close(_ descriptors: [Int32]) {
        for descriptor in descriptors { SystemCalls.close(descriptor) }
    }
}

/// Hears when the child closes its standard input.
final class ChildInput: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let child: StdioChild

    init(_ child: StdioChild) {
        self.child = child
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { self.child.updateHeld() }

    func channelInactive(context: ChannelHandlerContext) { self.child.pipeClosed(.input) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
