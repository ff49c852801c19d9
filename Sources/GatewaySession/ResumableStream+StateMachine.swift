// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension ResumableStream {
    /// One stream of events to a caller.
    ///
    /// The end is said once: by `end` of an action, or by an event that returns true for it.
    package struct StateMachine<Event: Sendable>: ~Copyable {
        private enum State {
            /// No connection came yet.
            case unattached
            /// A connection takes what comes. `hasLost`: a caller lost one before. `overdue`: bytes that were sent since the
            /// connection took some last.
            case attached(hasLost: Bool, overdue: Int)
            /// A connection was lost, and its caller is waited for.
            case lost
            /// Nothing more comes. `isWaiting`: a caller that lost something is waited for; else the stream is kept in case one
            /// did.
            case finished(isWaiting: Bool)
            case over
        }

        private let settings: Settings
        private var state = State.unattached
        private var replay: ReplayBuffer<Event>
        /// Whether a caller that comes back could find the stream.
        private var isFindable: Bool

        /// `replay` is empty, and bounds what is kept.
        package init(_ settings: Settings, replay: ReplayBuffer<Event> = ReplayBuffer()) {
            self.settings = settings
            self.replay = replay
            self.isFindable = settings.isResumable
        }

        /// Whether an event would be sent or kept.
        package var takesEvents: Bool {
            switch self.state {
            case .attached: true
            case .unattached, .lost: self.settings.isResumable
            case .finished, .over: false
            }
        }

        /// The number of the next event; nil where events have none.
        package var nextEvent: Int? { self.settings.isResumable ? self.replay.next : nil }

        /// The number of the last event; 0 before the first.
        package var lastEvent: Int { self.replay.last }

        /// Bytes that are kept.
        package var keptBytes: Int { self.replay.bytes }

        /// What came after the event with this number and is kept, oldest first.
        package func events(after event: Int) -> [Event] { self.replay.events(after: event) }

        // MARK: Connections

        /// A connection comes for the stream; its caller saw `event` last, if it says so.
        package mutating func attached(after event: Int?) -> Attachment {
            let event = self.settings.isResumable ? event : nil
            switch self.state {
            case .unattached:
                self.state = .attached(hasLost: event != nil, overdue: 0)
                // What came before the first connection was for whoever it brings.
                let first = self.replay.bytes > 0 ? 0 : nil
                return .stay(self.opening(after: event ?? first), isAnother: false)
            case .attached(let hasLost, _):
                // Whoever asks for what it missed lost a connection, whether we know of it or not.
                self.state = .attached(hasLost: hasLost || event != nil, overdue: 0)
                return .stay(self.opening(after: event), isAnother: true)
            case .lost:
                self.state = .attached(hasLost: true, overdue: 0)
                return .stay(self.opening(after: event), isAnother: true)
            case .finished:
                guard let event else { return .close }
                self.state = .finished(isWaiting: true)
                return .takeRest(after: event, patience: self.settings.patience)
            case .over:
                return .close
            }
        }

        private func opening(after event: Int?) -> Opening {
            if let event { return .events(after: event) }
            return self.settings.isPrimed && self.settings.isResumable ? .priming : .nothing
        }

        /// The connection is gone, or is about to be broken.
        package mutating func connectionLost() -> Loss {
            guard case .attached = self.state else { return .nothing }
            guard self.isFindable else {
                self.end()
                return .end
            }
            self.state = .lost
            return .wait(self.settings.patience)
        }

        /// The connection took bytes, so that more can be sent without piling up.
        ///
        /// Returns whether the stream has one, so that whoever fills it is to be told.
        package mutating func becameWritable() -> Bool {
            guard case .attached(let hasLost, _) = self.state else { return false }
            self.state = .attached(hasLost: hasLost, overdue: 0)
            return true
        }

        // MARK: Events

        /// An event of `size` bytes is to be sent, with the number `nextEvent`; `isWritable`: the connection takes bytes
        /// without piling them up.
        package mutating func sends(_ event: Event, size: Int, isWritable: Bool) -> Sending {
            guard self.takesEvents else { return .drop }
            if self.settings.isResumable { self.replay.append(event, size: size) }
            guard case .attached(let hasLost, var overdue) = self.state else { return .keep }
            // Whoever sends is asked to wait, but what comes unasked has nobody that could be made to wait for a caller who
            // does not read, and of many that share a stream each may have one large message on its way.
            if isWritable { overdue = 0 }
            guard overdue <= self.settings.overdueLimit else { return .breakConnection(self.connectionLost()) }
            self.state = .attached(hasLost: hasLost, overdue: overdue + size)
            return .send
        }

        /// The streams of the session keep more than they may together.
        package mutating func shareExceeded() { self.replay.shrink(to: self.settings.keptUnasked) }

        // MARK: Ends

        /// Nothing more comes; what was not taken yet can still be asked for.
        package mutating func finished() -> Finish {
            switch self.state {
            case .attached(hasLost: true, _) where self.isFindable:
                self.state = .finished(isWaiting: true)
                return .wait(self.settings.patience)
            case .attached where self.isFindable && self.replay.bytes <= self.settings.keptUnasked:
                self.state = .finished(isWaiting: false)
                return .keep
            case .unattached, .attached:
                self.end()
                return .end
            case .lost:
                self.state = .finished(isWaiting: true)
                return .nothing
            case .finished, .over:
                return .nothing
            }
        }

        /// There is no room to keep a stream that nobody is known to have missed anything of.
        package mutating func noRoom() -> Bool {
            guard case .finished(isWaiting: false) = self.state else { return false }
            return self.end()
        }

        /// The patience with a caller that is away is over.
        package mutating func patienceEnded() -> Bool {
            switch self.state {
            case .lost, .finished(isWaiting: true): self.end()
            case .unattached, .attached, .finished(isWaiting: false), .over: false
            }
        }

        /// There is no room to wait for a caller that is away.
        package mutating func gaveUp() -> Bool {
            switch self.state {
            case .lost, .finished: self.end()
            case .unattached, .attached, .over: false
            }
        }

        /// The session ends, so that nobody finds the stream any more; a connection that it has gets what still comes.
        package mutating func sessionEnded() -> Bool {
            self.isFindable = false
            return self.gaveUp()
        }

        /// The stream is broken off, and nothing of it is to be had any more.
        package mutating func reset() -> Bool { self.end() }

        @discardableResult
        private mutating func end() -> Bool {
            if case .over = self.state { return false }
            self.state = .over
            self.replay.shrink(to: 0)
            return true
        }
    }
}
