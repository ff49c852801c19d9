// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Whether the gateway should be given traffic, as one word, for `/_readyz` (contract §3).
//
// A load balancer must not send traffic before the upstreams had their chance, and must not take the gateway out when
// one of many upstreams fails. So the word waits for one verdict of each upstream, or for the grace period, and from
// then on one usable upstream is enough. A verdict is any answer of the upstream itself: a refused connection is none,
// it may be an upstream that starts at the same moment as we do. Reasons and causes come from closed lists and carry
// neither host nor text: the endpoint is open to everybody.

/// What `/_readyz` answers.
package struct Readiness: Hashable, Sendable {
    /// The state of the gateway as one word.
    package enum Word: String, CaseIterable, Sendable {
        /// Every upstream is usable; also when none is configured, since there is nothing to wait for.
        case ready
        /// At least one upstream is usable, and at least one is not.
        case degraded
        /// Some upstream gave no verdict yet, and the grace period still runs.
        case initializing
        /// Upstreams are configured, and none is usable.
        case unavailable
        /// The gateway is stopping.
        case draining
    }

    /// Why an upstream is not usable.
    package enum Reason: String, CaseIterable, Sendable {
        /// It is being dialled or started.
        case connecting
        /// It could not be reached, directly or through its outbound proxy.
        case unreachable
        /// It answered 401 or 403 to the credentials it was given.
        case rejected
        /// Its child process ended.
        case exited
    }

    /// What is known of one upstream.
    package enum UpstreamState: Hashable, Sendable {
        case usable
        case notUsable(Reason)
    }

    /// One upstream that is not disabled.
    package struct Upstream: Hashable, Sendable {
        /// Its key in `mcpServers`.
        package var name: String
        package var state: UpstreamState
        /// Whether it has given a verdict since the start: any answer of the upstream itself, a refusal included.
        ///
        /// `usable` and `rejected` are answers, so with them this is taken as true.
        package var hasGivenVerdict: Bool
        /// The narrower cause, from a closed list, if it is not usable and that is known.
        package var cause: String?

        package init(name: String, state: UpstreamState, hasGivenVerdict: Bool, cause: String? = nil) {
            self.name = name
            self.state = state
            self.hasGivenVerdict = hasGivenVerdict
            self.cause = cause
        }
    }

    /// An upstream that is not usable, and why.
    package struct Finding: Hashable, Sendable {
        package var name: String
        package var reason: Reason
        /// The narrower cause; nil: not known.
        package var cause: String?

        package init(name: String, reason: Reason, cause: String? = nil) {
            self.name = name
            self.reason = reason
            self.cause = cause
        }
    }

    package let word: Word
    /// The upstreams that are not usable, in the order given.
    package let findings: [Finding]

    /// The state of a gateway with these upstreams.
    ///
    /// - Parameters:
    ///   - upstreams: every upstream that is not disabled.
    ///   - isGraceOver: whether `startupGracePeriod` has passed since the start; true if it is off.
    ///   - isDraining: whether the gateway is stopping.
    package init(of upstreams: [Upstream], isGraceOver: Bool, isDraining: Bool) {
        var findings: [Finding] = []
        var isWaiting = false
        for upstream in upstreams {
            guard case .notUsable(let reason) = upstream.state else { continue }
            findings.append(Finding(name: upstream.name, reason: reason, cause: upstream.cause))
            if !upstream.hasGivenVerdict && reason != .rejected { isWaiting = true }
        }
        self.findings = findings
        if isDraining {
            self.word = .draining
        } else if findings.isEmpty {
            self.word = .ready
        } else if isWaiting && !isGraceOver {
            self.word = .initializing
        } else {
            self.word = findings.count < upstreams.count ? .degraded : .unavailable
        }
    }

    /// The HTTP status: 200 where traffic is welcome, else 503.
    package var status: Int {
        switch self.word {
        case .ready, .degraded: 200
        case .initializing, .unavailable, .draining: 503
        }
    }
}
