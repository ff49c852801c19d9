// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// What an upstream speaks is found out once, at its start, and not by guessing from calls: a server of the handshake
// era that is sent a request of the stateless era may answer anything, or run it (protocol §4). The stateless era is
// asked for first, by `server/discover`, which every server of it must answer, and a good answer is enough. Whatever else
// comes says nothing against the handshake: servers, gateways and firewalls answer what they do not know with any status,
// or never (contract U1). So `initialize` is next, and where the configuration names no transport, a GET as clients of the
// 2024-11-05 transport send it. Of several failures one is told: that which a caller's message would meet.

/// Finds out which eras an upstream speaks.
package enum EraProbe {
    /// Which eras are asked for.
    package enum Scope: Sendable {
        case both
        case handshake
        case stateless
    }

    /// What came back to a message of the probe, as far as it matters.
    package enum Answer: Hashable, Sendable {
        /// A DiscoverResult.
        case discovered(versions: [String])
        /// -32022, with its `data.supported`.
        case unsupportedVersion(supported: [String])
        /// -32020 or -32021: only a server of the stateless era says so.
        case statelessError
        /// An InitializeResult.
        case initialized(version: String?, hasSession: Bool)
        /// 401 or 403.
        case refused
        /// 429 or 5xx: an answer, but not about an era.
        case busy
        /// Any other answer.
        case other
        /// A stream whose first event says where to send messages: the transport of 2024-11-05.
        case endpoint
        /// A connection, but no answer: it was closed, or nothing came in time, or no HTTP.
        case silence
        /// No connection, or no TLS.
        case unreachable
    }

    /// A message of the probe.
    package enum Step: Hashable, Sendable, CaseIterable {
        case discover
        case initialize
        /// GET of the URL, as a client of the 2024-11-05 transport does.
        case openEventStream
    }

    /// What is to be done next.
    package enum Action: Hashable, Sendable {
        case send(Step)
        case conclude(Conclusion)
    }

    package enum Verdict: Hashable, Sendable {
        case usable
        /// 401 or 403.
        case rejected
        /// It answers, but not as an MCP server over a transport that was asked for.
        case unusable
        /// There is no connection, or no answer.
        case unreachable
    }

    package struct Conclusion: Hashable, Sendable {
        package var verdict: Verdict
        package var eras: UpstreamEras
        /// Whether it turned out to speak HTTP+SSE instead of streamable HTTP.
        package var isEventStream = false
        /// The message whose answer says why it is not usable; nil if it is.
        package var cause: Step?
    }

    package struct StateMachine: ~Copyable {
        private enum State {
            case initial
            case waiting(Step)
            case concluded
        }

        private let scope: Scope
        private let admitsEventStream: Bool
        private var state = State.initial
        private var eras = UpstreamEras()
        /// The last failure to a POST.
        private var failure: (step: Step, answer: Answer)?

        /// `admitsEventStream`: whether the transport is to be found out as well (`transportType` absent).
        package init(scope: Scope, admitsEventStream: Bool = false) {
            self.scope = scope
            self.admitsEventStream = admitsEventStream && scope != .stateless
            if scope == .handshake { self.eras.stateless = false }
            if scope == .stateless { self.eras.handshake = false }
        }

        package mutating func start() -> Action { self.send(self.scope == .handshake ? .initialize : .discover) }

        package mutating func answered(_ answer: Answer) -> Action {
            switch self.state {
            case .initial, .concluded:
                preconditionFailure("an answer without a question")
            case .waiting(.discover):
                return self.discoverAnswered(answer)
            case .waiting(.initialize):
                return self.initializeAnswered(answer)
            case .waiting(.openEventStream):
                return self.eventStreamAnswered(answer)
            }
        }

        private mutating func discoverAnswered(_ answer: Answer) -> Action {
            self.eras.heard(toDiscover: answer)
            if self.eras.stateless == true { return self.conclude() }
            self.failure = (.discover, answer)
            if self.scope == .stateless || answer == .unreachable { return self.conclude(failing: .discover, answer) }
            // It has shown its transport already.
            if answer == .endpoint, self.admitsEventStream { return self.send(.openEventStream) }
            return self.send(.initialize)
        }

        private mutating func initializeAnswered(_ answer: Answer) -> Action {
            if case .initialized = answer {
                self.eras.heard(toInitialize: answer)
                return self.conclude()
            }
            self.failure = (.initialize, answer)
            guard self.admitsEventStream, answer != .unreachable else {
                return self.conclude(failing: .initialize, answer)
            }
            return self.send(.openEventStream)
        }

        /// A server of the other transport answers the POSTs with whatever it likes; what it says to GET tells more than
        /// that, if it is about the credential, or that it is busy.
        private mutating func eventStreamAnswered(_ answer: Answer) -> Action {
            guard answer != .endpoint else { return self.conclude(isEventStream: true) }
            guard let (step, first) = self.failure, first != .endpoint else {
                return self.conclude(failing: .openEventStream, answer)
            }
            let tellsMore = first == .other && [.refused, .busy].contains(answer)
            return tellsMore ? self.conclude(failing: .openEventStream, answer) : self.conclude(failing: step, first)
        }

        private mutating func send(_ step: Step) -> Action {
            self.state = .waiting(step)
            return .send(step)
        }

        private mutating func conclude(isEventStream: Bool = false) -> Action {
            self.state = .concluded
            if isEventStream {
                self.eras.handshake = true
                self.eras.stateless = false
                self.eras.issuesSessions = true
            }
            return .conclude(Conclusion(verdict: .usable, eras: self.eras, isEventStream: isEventStream))
        }

        /// What is not certain is forgotten: the next probe asks again.
        private mutating func conclude(failing step: Step, _ answer: Answer) -> Action {
            self.state = .concluded
            if self.scope == .both { self.eras = UpstreamEras() }
            let verdict: Verdict =
                switch answer {
                case .refused: .rejected
                case .silence, .unreachable: .unreachable
                default: .unusable
                }
            return .conclude(Conclusion(verdict: verdict, eras: self.eras, cause: step))
        }
    }

    /// Versions are dates, which compare as text.
    static let firstStatelessVersion = "2026-07-28"
}
