// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// A process is locked to the era of the first request that it is sent (protocol §3), so the era of a stdio upstream is
// settled when its process is opened. Asked is as protocol §4 says: `server/discover` first; any answer that is not of the
// stateless era, or none in time, means `initialize` on the same process; a process that dies of the question is started
// again and not asked.

/// Opens an upstream session of the gateway itself on a process or a stream: its era, then its handshake.
package enum LinkOpening {
    /// What the process said.
    package enum Answer: Hashable, Sendable {
        /// A DiscoverResult, or -32022 with the versions that it does serve.
        case discovered(versions: [String])
        /// An InitializeResult.
        case initialized
        /// -32022 to `initialize`: a slow process that had locked itself to the stateless era.
        case unsupportedVersion
        /// Any other answer.
        case other
        /// No answer in time.
        case silence
    }

    package enum Action: Hashable, Sendable {
        case sendDiscover
        case sendInitialize
        /// Start the process again, and then send this.
        case restart
        /// It speaks the handshake era; `notifications/initialized` is due.
        case openedHandshake
        case openedStateless(versions: [String])
        /// It is no MCP server.
        case fail
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
        private var discoveries = 0

        package init(scope: EraProbe.Scope) {
            self.scope = scope
        }

        /// The process takes messages.
        package mutating func started() -> Action {
            if self.scope == .handshake || self.discoveries > 0 { return self.initialize() }
            return self.discover()
        }

        package mutating func answered(_ answer: Answer) -> Action {
            switch (self.state, answer) {
            case (.discovering, .discovered(let versions)):
                let stateless = versions.filter { $0 >= EraProbe.firstStatelessVersion }
                if !stateless.isEmpty { return self.end(.openedStateless(versions: stateless)) }
                return self.scope == .stateless ? self.end(.fail) : self.initialize()
            case (.discovering, _):
                return self.scope == .stateless ? self.end(.fail) : self.initialize()
            case (.initializing, .initialized):
                return self.end(.openedHandshake)
            case (.initializing, .unsupportedVersion) where self.scope == .both && self.discoveries < 2:
                return self.discover()
            case (.initializing, _):
                return self.end(.fail)
            case (.initial, _), (.over, _):
                return .fail
            }
        }

        /// The process ended before it was opened.
        package mutating func ended() -> Action {
            guard self.state == .discovering, self.scope == .both else { return self.end(.fail) }
            self.state = .initial
            return .restart
        }

        private mutating func discover() -> Action {
            self.discoveries += 1
            self.state = .discovering
            return .sendDiscover
        }

        private mutating func initialize() -> Action {
            self.state = .initializing
            return .sendInitialize
        }

        private mutating func end(_ action: Action) -> Action {
            self.state = .over
            return action
        }
    }
}
