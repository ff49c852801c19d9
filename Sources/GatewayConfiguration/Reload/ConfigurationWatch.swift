// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A file that changes is half written for a moment, and what several files say together is not there at once. So a change
// is found by a look every 2 s, and read when two looks that are 250 ms apart found the same. Contents are compared, never
// times: there are file systems on which a time does not move. What changes all the time is read all the same after a
// minute: it is valid or it changes nothing. A configuration that is missing is no configuration: it is waited for, and
// said once (decision 0038).
//
//     quiet ──other──▶ settling ──the same again──▶ reading ──didRead──▶ quiet
//       ▲                 │ as last read
//       └─────────────────┘            gone: from everywhere, and back to quiet or settling

/// When the configuration is read again: a machine that is told what was seen, and says when to look and when to read.
///
/// Whoever drives it has one timer. It calls ``due(now:)`` at the start and whenever the timer fires, and does what the
/// last action says. Times are on one monotonic clock, from any origin.
package struct ConfigurationWatch: Sendable {
    /// How long everything has to stay the same before it is read; looks are no closer together than this.
    package static let settleTime = Duration.milliseconds(250)
    /// The time between looks while nothing changes.
    package static let regularTime = Duration.seconds(2)
    /// After this time without two equal looks what is there is read all the same.
    package static let longestSettling = Duration.seconds(60)
    /// How long the configuration has to be missing before that is said.
    package static let missingTime = Duration.seconds(5)

    /// What to do now.
    package enum Action: Hashable, Sendable {
        /// Nothing: the configuration is being read, and ``didRead(_:now:)`` says what comes next.
        case nothing
        /// Take a look if it is this time already, else set the timer to it; an earlier time of the timer is void.
        case look(at: Duration)
        /// Read the configuration and all that it names, and call ``didRead(_:now:)``.
        case read
        /// Say that the configuration is missing, and look at this time.
        case tellMissing(lookAt: Duration)
    }

    private enum State {
        case quiet
        /// `look` was found first at `time`; since `start` no look was as what was read last.
        case settling(Look, time: Duration, start: Duration)
        /// The configuration is missing since then.
        case gone(since: Duration, isTold: Bool)
        case reading
    }

    private let configuration: String
    private var read: Look
    private var state = State.quiet
    private var nextLook: Duration

    /// Watches the configuration at this path, of which `read` is what was read at the start.
    package init(configuration: String, read: Look, now: Duration) {
        self.configuration = configuration
        self.read = read
        self.nextLook = now + Self.regularTime
    }

    /// What a look has to look at, sorted: the configuration and what it named when it was read last.
    package var paths: [String] { Set(self.read.contents.keys).union([self.configuration]).sorted() }

    /// The timer fired, or was never set.
    package mutating func due(now: Duration) -> Action {
        if case .reading = self.state { .nothing } else { .look(at: max(now, self.nextLook)) }
    }

    /// A look was taken, and this was found.
    package mutating func looked(_ look: Look, now: Duration) -> Action {
        if case .reading = self.state { return .nothing }
        guard !self.isMissing(in: look) else { return self.foundMissing(now: now) }
        guard look != self.read else {
            self.state = .quiet
            return self.lookAgain(at: now + Self.regularTime)
        }
        guard case .settling(let last, let time, let start) = self.state else {
            return self.settle(look, now: now, start: now)
        }
        let isSettled = look == last && now - time >= Self.settleTime
        if isSettled || now - start >= Self.longestSettling {
            self.state = .reading
            return .read
        }
        return look == last
            ? self.lookAgain(at: time + Self.settleTime) : self.settle(look, now: now, start: start)
    }

    /// The configuration was read, whoever asked for it; `look` is what that really found, whether it was applied or not.
    ///
    /// It has every file that the configuration names which was read, also those that are missing. Without the
    /// configuration itself nothing was read, and what was read before it stays what counts.
    package mutating func didRead(_ look: Look, now: Duration) -> Action {
        guard !self.isMissing(in: look) else { return self.foundMissing(now: now) }
        self.read = look
        self.state = .quiet
        return self.lookAgain(at: now + Self.regularTime)
    }

    /// The configuration could not be had: what changed is still to be read, when a look from this time on finds it so.
    package mutating func didNotRead(until time: Duration) -> Action {
        self.state = .quiet
        return self.lookAgain(at: time)
    }

    private func isMissing(in look: Look) -> Bool { look.contents[self.configuration, default: .missing] == .missing }

    private mutating func settle(_ look: Look, now: Duration, start: Duration) -> Action {
        self.state = .settling(look, time: now, start: start)
        return self.lookAgain(at: now + Self.settleTime)
    }

    private mutating func foundMissing(now: Duration) -> Action {
        guard case .gone(let since, let isTold) = self.state else {
            self.state = .gone(since: now, isTold: false)
            return self.lookAgain(at: now + Self.settleTime)
        }
        guard now - since >= Self.missingTime else { return self.lookAgain(at: now + Self.settleTime) }
        self.state = .gone(since: since, isTold: true)
        let next = self.lookAgain(at: now + Self.regularTime)
        return isTold ? next : .tellMissing(lookAt: self.nextLook)
    }

    private mutating func lookAgain(at time: Duration) -> Action {
        self.nextLook = time
        return .look(at: time)
    }
}

extension ConfigurationWatch {
    /// What stands at one path, as far as it has to be compared.
    package enum Content: Hashable, Sendable {
        case missing
        /// The system does not give it; the code is what it said.
        case unreadable(code: Int32)
        case digest(Digest)

        /// The content of a file that has these bytes.
        package init(bytes: [UInt8]) { self = .digest(Digest(of: bytes)) }
    }

    /// 128 bits that stand for the bytes of a file within this process: their keys differ from start to start.
    ///
    /// Nobody outside can make two files that have the same, and it says nothing about a secret.
    package struct Digest: Hashable, Sendable {
        private let first: Int
        private let second: Int

        init(of bytes: [UInt8]) {
            self.first = Self.hash(bytes, key: 0)
            self.second = Self.hash(bytes, key: 1)
        }

        private static func hash(_ bytes: [UInt8], key: UInt8) -> Int {
            var hasher = Hasher()
            hasher.combine(key)
            bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
            return hasher.finalize()
        }
    }

    /// What stands at the configuration's path and at all paths that it names.
    package struct Look: Hashable, Sendable {
        package let contents: [String: Content]

        package init(_ contents: [String: Content]) { self.contents = contents }
    }
}
