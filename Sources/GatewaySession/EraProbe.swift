// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// What an upstream speaks is found out once, at its start, and not by guessing from calls: a server of the handshake
// era that is sent a request of the stateless era may answer anything, or run it (protocol §4). The stateless era is
// asked for first, by `server/discover`, which every server of it must answer; then the handshake, whether or not the
// first succeeded, since many servers speak both and a caller is relayed in its own era. Only an answer that says
// something about an era counts: 401, 403, 429, 5xx and a broken connection say nothing about it (protocol §2 C17).

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
        /// 400, 404 or 405 without an error of the stateless era: what a server of the HTTP+SSE transport says to a POST.
        case noSuchTransport
        /// Any other answer.
        case other
        /// A stream whose first event says where to send messages.
        case endpoint
        /// No answer.
        case unreachable
    }

    /// What is to be done next.
    package enum Action: Hashable, Sendable {
        case sendDiscover
        case sendInitialize
        /// GET the URL, as a client of the 2024-11-05 transport does.
        case openEventStream
        case conclude(Conclusion)
    }

    package enum Verdict: Hashable, Sendable {
        case usable
        /// 401 or 403.
        case rejected
        /// It answers, but not as an MCP server over a transport that was asked for.
        case unusable
        case unreachable
    }

    package struct Conclusion: Hashable, Sendable {
        package var verdict: Verdict
        package var eras: UpstreamEras
        /// Whether it turned out to speak HTTP+SSE instead of streamable HTTP.
        package var isEventStream = false
    }

    package struct StateMachine: ~Copyable {
        private enum State {
            case initial
            case discovering
            case initializing
            case openingEventStream
            case concluded
        }

        private let scope: Scope
        private let admitsEventStream: Bool
        private var state = State.initial
        private var eras = UpstreamEras()

        /// `admitsEventStream`: whether the transport is to be found out as well (`transportType` absent).
        package init(scope: Scope, admitsEventStream: Bool = false) {
            self.scope = scope
            self.admitsEventStream = admitsEventStream && scope != .stateless
            if scope == .handshake { self.eras.stateless = false }
            if scope == .stateless { self.eras.handshake = false }
        }

        package mutating func start() -> Action {
            guard self.scope != .handshake else { return self.initialize() }
            self.state = .discovering
            return .sendDiscover
        }

        package mutating func answered(_ answer: Answer) -> Action {
            switch self.state {
            case .initial, .concluded:
                preconditionFailure("an answer without a question")
            case .discovering:
                self.discoverAnswered(answer)
            case .initializing:
                self.initializeAnswered(answer)
            case .openingEventStream:
                self.conclude(answer == .endpoint ? .usable : .unusable, isEventStream: answer == .endpoint)
            }
        }

        private mutating func discoverAnswered(_ answer: Answer) -> Action {
            switch answer {
            case .discovered(let versions), .unsupportedVersion(let versions):
                // Dates compare as text; a list of handshake versions alone is a server between the eras.
                let stateless = versions.filter { $0 >= EraProbe.firstStatelessVersion }
                self.eras.stateless = !stateless.isEmpty
                self.eras.statelessVersions = stateless
            case .statelessError:
                self.eras.stateless = true
                self.eras.statelessVersions = [EraProbe.firstStatelessVersion]
            case .initialized, .noSuchTransport, .other, .endpoint:
                if self.scope == .stateless { return self.conclude(.unusable) }
                self.eras.stateless = false
            case .refused:
                return self.conclude(.rejected)
            case .busy:
                return self.conclude(.unusable)
            case .unreachable:
                return self.conclude(.unreachable)
            }
            return self.scope == .stateless ? self.conclude(.usable) : self.initialize()
        }

        private mutating func initializeAnswered(_ answer: Answer) -> Action {
            let isStateless = self.eras.stateless == true
            switch answer {
            case .initialized(let version, let hasSession):
                self.eras.handshake = true
                self.eras.issuesSessions = hasSession
                if let version { self.eras.handshakeVersions = [version] }
                return self.conclude(.usable)
            case .refused:
                return self.conclude(isStateless ? .usable : .rejected)
            case .busy:
                return self.conclude(isStateless ? .usable : .unusable)
            case .unreachable:
                return self.conclude(isStateless ? .usable : .unreachable)
            case .noSuchTransport where self.admitsEventStream && !isStateless:
                self.state = .openingEventStream
                return .openEventStream
            case .discovered, .unsupportedVersion, .statelessError, .noSuchTransport, .other, .endpoint:
                if isStateless { self.eras.handshake = false }
                return self.conclude(isStateless ? .usable : .unusable)
            }
        }

        private mutating func initialize() -> Action {
            self.state = .initializing
            return .sendInitialize
        }

        /// What is not certain is forgotten: the next probe asks again.
        private mutating func conclude(_ verdict: Verdict, isEventStream: Bool = false) -> Action {
            self.state = .concluded
            if isEventStream {
                self.eras.handshake = true
                self.eras.stateless = false
                self.eras.issuesSessions = true
            }
            if verdict != .usable, self.scope == .both { self.eras = UpstreamEras() }
            return .conclude(Conclusion(verdict: verdict, eras: self.eras, isEventStream: isEventStream))
        }

    }

    /// Versions are dates, which compare as text.
    static let firstStatelessVersion = "2026-07-28"
}
