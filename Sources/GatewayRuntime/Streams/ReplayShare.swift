// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import DequeModule
import GatewayObservability
import NIOCore
import Synchronization

/// What one session keeps of its streams for a caller that lost a connection and comes back.
///
/// Every stream has a bound of its own; this is the bound of all together, in bytes and in streams that wait for their
/// caller, finished or not. Those that wait longest are given up first.
final class ReplayShare: Sendable {
    /// Bytes that the streams of a session keep together.
    static let byteLimit = 4 * 1024 * 1024
    /// Streams without a connection that wait for their caller.
    static let lostLimit = 64

    private struct State: ~Copyable {
        var held: HeldBytes
        /// Streams that wait for their caller, those that wait longest first.
        var lost = Deque<(id: ObjectIdentifier, stream: NIOLoopBound<WeakStream>)>()
        /// Whether the process had no room for what is kept: streams with a connection keep less from now on.
        var isPressed = false
    }

    /// Streams live as long as somebody uses them, not as long as they stand in a list.
    final class WeakStream {
        weak var stream: CallerStream?

        init(_ stream: CallerStream) {
            self.stream = stream
        }
    }

    private let state: Mutex<State>

    init(in ledger: BufferLedger) {
        self.state = Mutex(State(held: HeldBytes(in: ledger, isForSession: true)))
    }

    /// A stream keeps so many more bytes; negative: fewer.
    func add(_ change: Int, on eventLoop: any EventLoop) {
        guard change != 0 else { return }
        self.state.withLock { state in
            state.held.set(state.held.count + change) {
                // Later: the lock is taken here.
                { [weak self] in
                    let share = self
                    eventLoop.execute { share?.giveUpAll() }
                }
            }
        }
    }

    /// Whether streams are to keep less than they do.
    var isExceeded: Bool {
        self.state.withLock { $0.held.count > ($0.isPressed ? BufferLedger.largeSize : Self.byteLimit) }
    }

    /// A stream waits for its caller from now on.
    func lost(_ stream: CallerStream) {
        let id = ObjectIdentifier(stream)
        let bound = NIOLoopBound(WeakStream(stream), eventLoop: stream.loop.eventLoop)
        let oldest: NIOLoopBound<WeakStream>? = self.state.withLock { state in
            state.lost.removeAll { $0.id == id }
            state.lost.append((id, bound))
            return state.lost.count > Self.lostLimit ? state.lost.popFirst()?.stream : nil
        }
        Self.giveUp(oldest)
    }

    /// A stream waits for its caller no longer.
    func found(_ stream: CallerStream) {
        let id = ObjectIdentifier(stream)
        self.state.withLock { $0.lost.removeAll { $0.id == id } }
    }

    /// Gives up the stream that has waited longest for its caller.
    func makeRoom() { Self.giveUp(self.state.withLock { $0.lost.popFirst() }?.stream) }

    /// Gives up every stream that waits for its caller: the process has no room for what the session keeps.
    private func giveUpAll() {
        let lost = self.state.withLock { state in
            defer { state.lost = [] }
            state.isPressed = true
            return state.lost
        }
        for entry in lost { Self.giveUp(entry.stream) }
    }

    private static func giveUp(_ stream: NIOLoopBound<WeakStream>?) {
        // Later: it may be a stream that is in the middle of something.
        stream?.eventLoop.execute { stream?.value.stream?.giveUp() }
    }
}
