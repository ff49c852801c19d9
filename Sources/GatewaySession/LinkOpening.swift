// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A process is locked to the era of the first request that it is sent (protocol §3), and programs on old SDKs die of, or
// never speak again after, anything but `initialize` (contract U2). So a process is asked for the handshake first; the
// question about the stateless era goes to a process of its own, of which nobody depends (`scope` is `.stateless` there).
// A program that answers `initialize` with an error, or with a version that has no handshake, lives and speaks the
// stateless era at most: it is asked that on the same process.

/// Opens an upstream session of the gateway itself on a process or a stream: its era, then its handshake.
package enum LinkOpening {
    /// What the process said.
    package enum Answer: Hashable, Sendable {
        /// A DiscoverResult, or -32022 with the versions that it does serve.
        case discovered(versions: [String])
        /// An InitializeResult with this version.
        case initialized(version: String)
        /// Any other answer.
        case other
        /// No answer in time.
        case silence
    }

    package enum Action: Hashable, Sendable {
        case sendDiscover
        case sendInitialize
        /// It speaks the handshake era; `notifications/initialized` is due.
        case openedHandshake
        case openedStateless(versions: [String])
        /// It speaks no era that was asked for; why.
        case fail(Failure)
    }

    package enum Failure: Hashable, Sendable {
        /// It did not answer in time.
        case silent
        /// It answered something that is of no era that was asked for.
        case refused
    }

    package struct StateMachine: ~Copyable {
        private enum State {
            case initial
            case discovering
            case initializing
            case over
        }

        private let scope: EraProbe.Scope
        private var state = State.initial

        package init(scope: EraProbe.Scope) {
            self.scope = scope
        }

        /// The process takes messages.
        package mutating func started() -> Action {
            guard self.scope == .stateless else {
                self.state = .initializing
                return .sendInitialize
            }
            return self.discover()
        }

        package mutating func answered(_ answer: Answer) -> Action {
            switch (self.state, answer) {
            case (.initializing, .initialized(let version)) where version < EraProbe.firstStatelessVersion:
                return self.end(.openedHandshake)
            case (.initializing, .silence), (.discovering, .silence):
                return self.end(.fail(.silent))
            case (.initializing, _):
                return self.scope == .both ? self.discover() : self.end(.fail(.refused))
            case (.discovering, .discovered(let versions)):
                let stateless = versions.filter { $0 >= EraProbe.firstStatelessVersion }
                return self.end(stateless.isEmpty ? .fail(.refused) : .openedStateless(versions: stateless))
            case (.discovering, _):
                return self.end(.fail(.refused))
            case (.initial, _), (.over, _):
                return .fail(.refused)
            }
        }

        private mutating func discover() -> Action {
            self.state = .discovering
            return .sendDiscover
        }

        private mutating func end(_ action: Action) -> Action {
            self.state = .over
            return action
        }
    }
}
