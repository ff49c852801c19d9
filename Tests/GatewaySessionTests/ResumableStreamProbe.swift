// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession

/// Where a stream can be between two events.
enum StreamStage: CaseIterable, Sendable {
    case unattached
    case attached
    /// A caller lost a connection before this one.
    case attachedAgain
    /// The session has ended, and so nobody could come back.
    case attachedLast
    case lost
    /// Finished, and kept in case a caller lost something.
    case kept
    /// Finished, and a caller that lost something is waited for.
    case awaited
    case over
}

/// Anything that can happen to a stream.
enum StreamEvent: Hashable, Sendable {
    case attached(after: Int?)
    case connectionLost
    case becameWritable
    case sends(size: Int, isWritable: Bool)
    case shareExceeded
    case finished
    case noRoom
    case patienceEnded
    case gaveUp
    case sessionEnded
    case reset
}

/// What the machine gives back.
enum StreamOutcome: Equatable, Sendable {
    case attachment(ResumableStream.Attachment)
    case loss(ResumableStream.Loss)
    case sending(ResumableStream.Sending)
    case finish(ResumableStream.Finish)
    case flag(Bool)
    case nothing
}

/// A machine whose events are their own numbers.
struct StreamProbe: ~Copyable {
    typealias Machine = ResumableStream.StateMachine<Int>

    static let patience = Duration.seconds(60)
    static let overdueLimit = 1_000

    var machine: Machine
    private var last = 0

    init(
        isResumable: Bool = true,
        isPrimed: Bool = false,
        keptUnasked: Int = 100,
        replay: ReplayBuffer<Int> = ReplayBuffer()
    ) {
        var settings = ResumableStream.Settings(isResumable: isResumable, overdueLimit: Self.overdueLimit)
        settings.isPrimed = isPrimed
        settings.patience = Self.patience
        settings.keptUnasked = keptUnasked
        self.machine = Machine(settings, replay: replay)
    }

    /// A new resumable stream that was led to this stage; from the first connection on it has sent the events 1 and 2, of 10
    /// bytes each.
    init(at stage: StreamStage, isPrimed: Bool = false) {
        self.init(isPrimed: isPrimed)
        let events: [StreamEvent] =
            switch stage {
            case .unattached, .attached: []
            case .attachedAgain: [.connectionLost, .attached(after: nil)]
            case .attachedLast: [.sessionEnded]
            case .lost: [.connectionLost]
            case .kept: [.finished]
            case .awaited: [.connectionLost, .finished]
            case .over: [.reset]
            }
        guard stage != .unattached else { return }
        self.apply(.attached(after: nil))
        for _ in 1...2 { self.apply(.sends(size: 10, isWritable: true)) }
        for event in events { self.apply(event) }
    }

    @discardableResult
    mutating func apply(_ event: StreamEvent) -> StreamOutcome {
        switch event {
        case .attached(let event): return .attachment(self.machine.attached(after: event))
        case .connectionLost: return .loss(self.machine.connectionLost())
        case .becameWritable: return .flag(self.machine.becameWritable())
        case .sends(let size, let isWritable):
            self.last += 1
            return .sending(self.machine.sends(self.last, size: size, isWritable: isWritable))
        case .shareExceeded:
            self.machine.shareExceeded()
            return .nothing
        case .finished: return .finish(self.machine.finished())
        case .noRoom: return .flag(self.machine.noRoom())
        case .patienceEnded: return .flag(self.machine.patienceEnded())
        case .gaveUp: return .flag(self.machine.gaveUp())
        case .sessionEnded: return .flag(self.machine.sessionEnded())
        case .reset: return .flag(self.machine.reset())
        }
    }

    /// Finds out where the stream is by what it does next.
    consuming func stage() -> StreamStage? {
        let takesEvents = self.machine.takesEvents
        if self.machine.becameWritable() {
            guard takesEvents else { return nil }
            self.machine.shareExceeded()
            return switch self.machine.finished() {
            case .wait: .attachedAgain
            case .keep: .attached
            case .end: .attachedLast
            case .nothing: nil
            }
        }
        if takesEvents { return self.machine.patienceEnded() ? .lost : .unattached }
        if self.machine.patienceEnded() { return .awaited }
        return self.machine.noRoom() ? .kept : .over
    }
}
