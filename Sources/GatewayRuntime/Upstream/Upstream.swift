// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayObservability
import GatewayPolicy
package import GatewaySession
import GatewayTransport
import GatewayWire
import Logging
import NIOCore
import Synchronization

/// One upstream as a unit with a life of its own: how to reach it, what is known about it, how busy it is, and whatever of it
/// callers share.
///
/// All event loops share it. Nobody holds a place of it in a list: a session, a call and a stream hold the unit itself.
package final class Upstream: Sendable {
    /// How messages travel.
    enum Route: UInt8 {
        /// Each in an HTTP exchange of its own.
        case exchanges
        /// All on one stream of messages.
        case stream
        /// It is an HTTP server of which nobody knows yet which transport it speaks.
        case unknown
    }

    /// The way to an upstream, as its kind has it.
    struct Way {
        /// How an HTTP server is reached; nil for a program.
        var http: HTTPAccess?
        var route: Route
        /// What is known from the start of what it speaks.
        var eras = UpstreamEras()
    }

    package let id = UpstreamID()
    /// The key in `mcpServers`.
    package let name: String
    /// Lower-case names of callers' request headers that are passed on.
    package let forwardHeaders: [String]
    package let isolation: UpstreamConfiguration.Isolation
    package let protocolPin: UpstreamConfiguration.ProtocolPin
    /// How an HTTP server is reached; nil for a program.
    let http: HTTPAccess?
    package let metrics: UpstreamMetrics
    let identity: GatewayIdentity
    /// The event loop on which what its callers share lives.
    let home: LoopResources
    /// What each event loop has of it.
    let lanes: UpstreamLanes
    private let tuned: Mutex<UpstreamSettings>
    let surroundings: UpstreamSurroundings
    /// What callers share of it, and what looks after it; both know it, so that its end lets go of them.
    let parts = Mutex<[any UpstreamPart]>([])
    /// Whether it is about to go, and why.
    let departure = Departure()
    /// Where everybody counts what is held for peers.
    let buffers: BufferLedger
    private let logger: Logger
    /// Requests that have a place, and those that wait for one, of all loops.
    let admission: UpstreamAdmission
    /// What its tools want said in headers, where nobody but the gateway can check that it is.
    let parameters = AdvertisedParameters()
    private let knowledge: Mutex<UpstreamEras>
    private let verdict = Atomic<UInt8>(UpstreamVerdict.none.rawValue)
    /// Why it is not usable, and what was logged of it.
    private let state = Mutex(State())
    /// Changes once, for a server whose configuration names no transport.
    private let currentRoute: Atomic<UInt8>
    private let children = Atomic<Int>(0)
    private let ownConnections = Atomic<Int>(0)
    private let retryBudget = Mutex(RetryBudget())
    private let faults = Mutex(Faults())
    private let newRequests = Atomic<Int>(0)
    private let createdAt = NIODeadline.now()
    private let lastAnswer = Atomic<UInt64>(0)

    package var runningCount: Int { self.admission.runningCount }

    init(_ configuration: UpstreamConfiguration, _ way: Way, in surroundings: UpstreamSurroundings) {
        let listener = surroundings.listener
        self.surroundings = surroundings
        self.buffers = surroundings.buffers
        self.name = configuration.name
        self.forwardHeaders = configuration.forwardHeaders
        self.isolation = configuration.isolation
        self.protocolPin = configuration.protocolPin
        let settings = UpstreamSettings(configuration, listener.limits, logger: surroundings.logger)
        self.tuned = Mutex(settings)
        self.home = self.id.choose(of: surroundings.loops)
        self.metrics = UpstreamMetrics(surroundings.metrics, server: configuration.name)
        self.logger = surroundings.logger
        self.identity = GatewayIdentity(name: listener.name, version: listener.version)
        self.http = way.http
        self.currentRoute = Atomic(way.route.rawValue)
        self.lanes = UpstreamLanes(way.http?.dialer, settings, self.metrics, self.buffers, on: surroundings.loops)
        self.admission = UpstreamAdmission(listener.limits)
        var eras = way.eras
        // Whoever has a stream of messages has a session.
        if way.route == .stream { eras.issuesSessions = true }
        switch configuration.protocolPin {
        case .auto: break
        case .handshake: (eras.handshake, eras.stateless) = (true, false)
        case .stateless: (eras.handshake, eras.stateless) = (false, true)
        }
        self.knowledge = Mutex(eras)
    }

    // MARK: The way to it

    var route: Route { Route(rawValue: self.currentRoute.load(ordering: .relaxed)) ?? .unknown }

    /// A server whose configuration names no transport speaks this one.
    func foundTransport(isEventStream: Bool) {
        self.currentRoute.store((isEventStream ? Route.stream : .exchanges).rawValue, ordering: .relaxed)
        if isEventStream { self.learn { $0.issuesSessions = true } }
    }

    /// Whether it shows by itself whether it lives, so that nobody has to ask.
    var showsItsEnd: Bool { self.route == .stream }

    /// The pool of its credentials; nil without one.
    package var credentials: UpstreamCredentials? { self.http?.credentials }
    /// The outbound proxy that it is reached through; nil: none.
    package var outboundProxy: OutboundProxyHealth? { self.http?.proxy }
    /// Scheme, host and port; nil for a program.
    package var origin: String? { self.http.map { $0.configuration.url.origin.description } }
    /// The name of the way to it, for people.
    package var transportName: String {
        guard self.http != nil else { return "stdio" }
        return switch self.route {
        case .exchanges: "streamable-http"
        case .stream: "sse"
        case .unknown: "unknown"
        }
    }

    /// How large an event of the upstream may be; ``LoopResources/limits`` cost no lock.
    var eventBytes: Int { self.settings.limits.eventBytes }
    /// How deep a message of the upstream may be; ``LoopResources/limits`` cost no lock.
    var jsonDepth: Int { self.settings.limits.jsonDepth }

    /// Whether all callers of the handshake era use one upstream session.
    var isShared: Bool { self.isolation == .shared }

    /// What can change while it lives; on an event loop ``LoopResources/settings(of:)`` costs no lock.
    package var settings: UpstreamSettings { self.tuned.withLock { $0 } }

    /// Goes by other settings from now on; sessions, streams, children and connections stay.
    func tune(_ configuration: UpstreamConfiguration) {
        let settings = self.tuned.withLock { settings in
            settings = UpstreamSettings(configuration, settings.limits, after: settings, logger: self.logger)
            return settings
        }
        self.lanes.tune(settings)
        if let credentials = configuration.credentials { self.credentials?.replace(with: credentials) }
        self.watch?.settingsChanged()
    }

    /// Goes by other limits from now on; nothing that is begun has to end for it.
    func tune(_ limits: Limits) {
        let settings: UpstreamSettings? = self.tuned.withLock { settings in
            guard settings.limits != limits else { return nil }
            settings = UpstreamSettings(settings, limits)
            return settings
        }
        guard let settings else { return }
        self.lanes.tune(settings)
        self.admission.tune(limits)
    }

    /// Takes one of the children of callers' own; false at the limit.
    func takeChild(limit: Int) -> Bool {
        if self.children.add(1, ordering: .relaxed).newValue <= limit { return true }
        self.releaseChild()
        return false
    }

    func releaseChild() { self.children.subtract(1, ordering: .relaxed) }

    // MARK: Connections

    /// The gateway itself wants one connection more, or less: for a stream that stands whether or not a call runs, or for a
    /// message of its own.
    func countOwnConnection(_ change: Int) { self.ownConnections.add(change, ordering: .relaxed) }

    var ownConnectionCount: Int { self.ownConnections.load(ordering: .relaxed) }

    /// Connections that are used or set up, but for those that the gateway itself wants.
    var connectionsInUse: Int {
        max(self.metrics.openConnections.value - self.metrics.idleConnections.value - self.ownConnectionCount, 0)
    }

    // MARK: What is known

    package var eras: UpstreamEras { self.knowledge.withLock { $0 } }

    func learn(_ change: (inout UpstreamEras) -> Void) {
        self.knowledge.withLock { change(&$0) }
    }

    package var currentVerdict: UpstreamVerdict {
        UpstreamVerdict(rawValue: self.verdict.load(ordering: .relaxed)) ?? .none
    }

    /// Why it is not usable, as a call is told that meets the same; nil if it is usable, or was never reached.
    var failure: GatewayError? { self.state.withLock { $0.failure } }

    /// The same for people; nil if it is usable, or was never reached.
    package var cause: UpstreamCause? { self.failure?.upstreamCause }

    /// The last contact said that it is usable.
    func conclude(_ verdict: UsableVerdict) {
        self.lastAnswer.store(NIODeadline.now().uptimeNanoseconds, ordering: .relaxed)
        // Read before it is written: in the ordinary case nothing changes, and no other core need hear of it.
        guard self.verdict.load(ordering: .relaxed) != UpstreamVerdict.usable.rawValue else { return }
        self.change(to: .usable, because: nil)
    }

    /// The last contact said that it is not usable, and why.
    func conclude(_ verdict: UpstreamVerdict, because failure: GatewayError) {
        var failure = failure.beforeTheCall
        // Where no credential is left, that is what is told, and not which of them was tried last.
        if verdict == .rejected, let pool = self.credentials, pool.count > 1, pool.areAllRefused {
            failure = .exhausted(pool.refusedStatuses)
        }
        failure.attempts = max(failure.statuses.count, 1)
        self.change(to: verdict, because: failure)
    }

    private func change(to verdict: UpstreamVerdict, because failure: GatewayError?) {
        let now = Duration(NIODeadline.now() - self.createdAt)
        let cause = failure?.upstreamCause
        let (before, suppressed): (UpstreamVerdict, Int?) = self.state.withLock { state in
            let before = self.currentVerdict
            let isNews = before != verdict || state.failure?.upstreamCause.code != cause?.code
            state.failure = failure
            self.verdict.store(verdict.rawValue, ordering: .relaxed)
            guard isNews else { return (before, nil) }
            let key = "\(verdict) \(cause?.code.rawValue ?? "")"
            guard case .log(let suppressed) = state.throttle.decide(key, now: now) else { return (before, nil) }
            return (before, suppressed)
        }
        guard let suppressed else { return }
        var metadata: Logger.Metadata = ["upstream": "\(self.name)", "from": "\(before)", "to": "\(verdict)"]
        if let cause {
            metadata["cause"] = "\(cause.code.rawValue)"
            metadata["detail"] = "\(cause.detail)"
            if let status = cause.status { metadata["status"] = "\(status)" }
        } else {
            metadata["versions"] = "\(self.eras.supportedVersions.joined(separator: " "))"
        }
        if suppressed > 0 { metadata["suppressed"] = "\(suppressed)" }
        self.logger.log(level: verdict == .usable ? .info : .warning, "upstream state changed", metadata: metadata)
    }

    private struct State {
        var failure: GatewayError?
        var throttle = LogThrottle<String>()
    }

    /// What came from it as a line or an event and was no message.
    private struct Faults {
        var kinds: Set<MessageFault> = []
        var last: (fault: MessageFault, at: NIODeadline)?
    }

    /// A line or an event was no message; returns whether none of this kind came before.
    func saw(_ fault: MessageFault) -> Bool {
        self.faults.withLock { faults in
            faults.last = (fault, .now())
            return faults.kinds.insert(fault).inserted
        }
    }

    /// What was wrong with the last line or event that was no message, if that came after a moment; else nil.
    func fault(since moment: NIODeadline) -> MessageFault? {
        self.faults.withLock { faults in faults.last.flatMap { $0.at >= moment ? $0.fault : nil } }
    }

    /// Counts a caller's request.
    func countRequest() { self.newRequests.add(1, ordering: .relaxed) }

    /// Tells the retry budget of the requests since the last time; called about once a second, so that a request costs
    /// an addition and no lock.
    func payRetryBudget() {
        let count = self.newRequests.exchange(0, ordering: .relaxed)
        guard count > 0 else { return }
        let now = Duration(NIODeadline.now() - self.createdAt)
        self.retryBudget.withLock { $0.recordRequests(count, now: now) }
    }

    /// Takes one automatic retry from the budget (faults §4.3); false if it is used up.
    func takeRetry() -> Bool {
        let now = Duration(NIODeadline.now() - self.createdAt)
        return self.retryBudget.withLock { $0.withdraw(now: now) }
    }

    /// When the upstream last answered anything; zero if never.
    var lastAnswered: NIODeadline { .uptimeNanoseconds(self.lastAnswer.load(ordering: .relaxed)) }
}

/// The verdict that needs no reason.
enum UsableVerdict {
    case usable
}

/// What the last contact with an upstream said about it.
package enum UpstreamVerdict: UInt8, Sendable {
    /// No contact yet.
    case none
    case usable
    case rejected
    case unusable
    case unreachable
    /// Its process ended, or could not be started.
    case exited

    /// Whether the last contact went wrong.
    var isFailure: Bool { self != .none && self != .usable }

    init(_ verdict: EraProbe.Verdict) {
        self =
            switch verdict {
            case .usable: .usable
            case .rejected: .rejected
            case .unusable: .unusable
            case .unreachable: .unreachable
            }
    }
}
