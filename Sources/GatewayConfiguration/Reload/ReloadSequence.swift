// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Configurations are read one after another, and each reading takes everything as it is then. So any number of requests
// while one is read are one more, and a request at the start waits for its end. Of two that wait the one counts that reads
// more anew. Nothing is begun any more once the process stops (decision 0038).

/// Which request to read the configuration again counts.
package struct ReloadSequence: Sendable {
    /// Who asks for it, from what reads least to what reads most.
    package enum Trigger: Int, Comparable, CaseIterable, Sendable {
        /// A URL may have another text, which is asked for with validators: without one nothing is read.
        case poll
        /// A file changed: everything is read, and asked for without validators.
        case file
        /// Somebody sent SIGHUP: the same, for a person.
        case signal

        package static func < (one: Trigger, other: Trigger) -> Bool { one.rawValue < other.rawValue }
    }

    /// What to do now.
    package enum Action: Hashable, Sendable {
        /// Nothing, or not yet.
        case nothing
        /// Read the configuration, apply it or not, and call ``finished()``.
        case begin(Trigger)
        /// Say that the process stops, and that the request has no effect.
        case tellStopping
    }

    private enum State {
        case starting(wanted: Trigger?)
        case idle
        case reloading(again: Trigger?)
        case stopping
    }

    private var state = State.starting(wanted: nil)

    /// The process starts.
    package init() {}

    /// Somebody asks for the configuration to be read again.
    package mutating func requested(_ trigger: Trigger) -> Action {
        switch self.state {
        case .starting(let wanted):
            self.state = .starting(wanted: max(wanted ?? trigger, trigger))
            return .nothing
        case .idle:
            return self.begin(trigger)
        case .reloading(let again):
            self.state = .reloading(again: max(again ?? trigger, trigger))
            return .nothing
        case .stopping:
            return .tellStopping
        }
    }

    /// The process serves: from now on it can take another configuration.
    package mutating func started() -> Action {
        guard case .starting(let wanted) = self.state else { return .nothing }
        return self.begin(wanted)
    }

    /// What was begun is over, however it ended.
    package mutating func finished() -> Action {
        guard case .reloading(let again) = self.state else { return .nothing }
        return self.begin(again)
    }

    /// The process stops; what was begun may still end.
    package mutating func stop() { self.state = .stopping }

    private mutating func begin(_ trigger: Trigger?) -> Action {
        guard let trigger else {
            self.state = .idle
            return .nothing
        }
        self.state = .reloading(again: nil)
        return .begin(trigger)
    }
}
