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

/// How an HTTP upstream is reached.
package final class HTTPAccess: Sendable {
    package let configuration: HTTPUpstreamConfiguration
    /// The pool of credentials; nil without one.
    package let credentials: UpstreamCredentials?
    /// The outbound proxy that it is reached through; nil: none.
    package let proxy: OutboundProxyHealth?
    let dialer: Dialer
    /// Where messages go instead of the configured URL.
    let redirects = RedirectMemory()
    /// What requests carry without a pool: no credential of ours.
    private let bare: RequestCredential

    /// The credentials that there are, the current one first; without a pool the one that is none.
    var slots: [CredentialID] { self.credentials?.ids ?? [.none] }

    /// How many slots there are: one without a pool.
    var slotCount: Int { self.credentials?.count ?? 1 }

    init(
        _ configuration: HTTPUpstreamConfiguration,
        upstream: String,
        proxy: (health: OutboundProxyHealth, gate: OutboundProxyGate)?,
        listener: ListenerConfiguration,
        metrics: MetricsRegistry,
        redactor: CurrentRedactor,
        logger: Logger
    ) throws {
        let agent = RequestHeads.agent(of: listener)
        self.configuration = configuration
        self.proxy = proxy?.health
        let route = try proxy.map { health, gate in
            try OutboundProxyRoute(
                health.proxy,
                to: configuration.url.origin,
                gate: gate,
                upstream: health.upstream,
                agent: agent
            ) { health.observe($0) }
        }
        self.dialer = try Dialer(
            origin: configuration.url.origin,
            tls: configuration.tls,
            route: route,
            timeout: listener.limits.connectTimeout
        )
        let template = RequestHeads.Template(
            http: configuration,
            agent: agent,
            proxy: route?.mayForward == true ? proxy?.health.proxy : nil
        )
        self.bare = RequestCredential(token: nil, template, redactor: nil)
        self.credentials = configuration.credentials.map {
            UpstreamCredentials(
                $0,
                upstream: upstream,
                template: template,
                metrics: metrics,
                redactor: redactor,
                logger: logger
            )
        }
    }

    /// What a message of the gateway itself is sent with in a slot; nil for one that there is not, or no longer: no other
    /// credential stands in for it.
    func credential(_ slot: CredentialID) -> RequestCredential? {
        if let credentials { return credentials.credential(slot) }
        return slot == .none ? self.bare : nil
    }

    /// What the attempt of a request is sent with: what it took when the attempt began, whatever the list is now.
    func credential(of use: CredentialUse?) -> RequestCredential? {
        self.credentials == nil ? self.bare : use?.credential
    }

    /// Whether there is such a slot, still.
    func contains(_ slot: CredentialID) -> Bool { self.credentials?.contains(slot) ?? (slot == .none) }

    /// The number of a slot for people; nil without a pool, and for one that is gone.
    func position(of slot: CredentialID) -> Int? { self.credentials?.position(of: slot) }

    /// Starts a head with what all requests to the upstream carry, and a credential.
    ///
    /// `target` replaces the configured one; nil: that, or where it redirects to. `connection` is what the request goes on.
    /// Returns false, and writes nothing, without a credential, or where none may go on this connection.
    func begin(
        _ method: RequestHeads.Method,
        target: String? = nil,
        with credential: RequestCredential?,
        on connection: UpstreamConnection,
        into head: inout ByteBuffer
    ) -> Bool {
        guard let heads = credential?.heads(isForwarding: connection.isForwarding) else { return false }
        heads.begin(method, target: target ?? self.redirects.target, into: &head)
        return true
    }
}

/// One upstream as all event loops share it: how to reach it, what is known about it, how busy it is.
package final class Upstream: Sendable {
    /// What the configuration says of the way to it.
    package enum Transport: Sendable {
        case http(HTTPAccess)
        case stdio(StdioUpstreamConfiguration, StdioAccess)
    }

    /// How messages travel.
    package enum Route: Sendable {
        /// Each in an HTTP exchange of its own.
        case http(HTTPAccess)
        /// All on one stream of messages.
        case link
        /// It is an HTTP server of which nobody knows yet which transport it speaks.
        case unknown
    }

    package let index: Int
    package let configuration: UpstreamConfiguration
    package let transport: Transport
    package let metrics: UpstreamMetrics
    let identity: GatewayIdentity
    /// Where everybody counts what is held for peers.
    let buffers: BufferLedger
    private let limits: Limits
    private let logger: Logger
    /// Requests that have a place, and those that wait for one, of all loops.
    let admission: UpstreamAdmission
    /// What its tools want said in headers, where nobody but the gateway can check that it is.
    let parameters = AdvertisedParameters()
    /// Which tools are hidden; nil: none.
    package let toolFilter: ToolFilterWatch?
    private let knowledge = Mutex(UpstreamEras())
    private let verdict = Atomic<UInt8>(UpstreamVerdict.none.rawValue)
    /// Why it is not usable, and what was logged of it.
    private let state = Mutex(State())
    /// Which transport a server turned out to speak whose configuration names none.
    private let found = Atomic<UInt8>(0)
    private let children = Atomic<Int>(0)
    private let ownConnections = Atomic<Int>(0)
    private let retryBudget = Mutex(RetryBudget())
    private let faults = Mutex(Faults())
    private let newRequests = Atomic<Int>(0)
    private let createdAt = NIODeadline.now()
    private let lastAnswer = Atomic<UInt64>(0)

    package var runningCount: Int { self.admission.runningCount }
    package var name: String { self.configuration.name }

    init(
        index: Int,
        configuration: UpstreamConfiguration,
        listener: ListenerConfiguration,
        stdio: StdioAccess,
        gates: inout OutboundProxyGates,
        buffers: BufferLedger,
        metrics: MetricsRegistry,
        redactor: CurrentRedactor,
        logger: Logger
    ) throws {
        self.index = index
        self.buffers = buffers
        self.configuration = configuration
        self.metrics = UpstreamMetrics(metrics, server: configuration.name)
        self.logger = logger
        self.toolFilter = configuration.toolFilter.map {
            ToolFilterWatch($0, upstream: configuration.name, logger: logger)
        }
        self.limits = listener.limits
        self.identity = GatewayIdentity(name: listener.name, version: listener.version)
        self.transport =
            switch configuration.transport {
            case .http(let http):
                .http(
                    try HTTPAccess(
                        http,
                        upstream: configuration.name,
                        proxy: http.outboundProxy.map { proxy in
                            let name = configuration.name
                            let health = OutboundProxyHealth(proxy, upstream: name, metrics: metrics, logger: logger)
                            return (health, gates.gate(of: proxy))
                        },
                        listener: listener,
                        metrics: metrics,
                        redactor: redactor,
                        logger: logger
                    )
                )
            case .stdio(let child): .stdio(child, stdio)
            }
        self.admission = UpstreamAdmission(
            capacity: listener.limits.inFlightPerUpstream,
            queue: listener.limits.queuePerUpstream,
            queueWait: TimeAmount(listener.limits.queueWait)
        )
        self.knowledge.withLock { eras in
            if case .link = self.route {
                // Whoever has a stream of messages has a session.
                eras.issuesSessions = true
                // The transport of 2024-11-05 has nothing of the stateless era.
                if case .http = self.transport { (eras.handshake, eras.stateless) = (true, false) }
            }
            switch configuration.protocolPin {
            case .auto: break
            case .handshake: (eras.handshake, eras.stateless) = (true, false)
            case .stateless: (eras.handshake, eras.stateless) = (false, true)
            }
        }
    }

    // MARK: The way to it

    package var route: Route {
        guard case .http(let http) = self.transport else { return .link }
        switch http.configuration.kind {
        case .streamableHTTP: return .http(http)
        case .sse: return .link
        case .detect:
            return switch self.found.load(ordering: .relaxed) {
            case 1: .http(http)
            case 2: .link
            default: .unknown
            }
        }
    }

    /// A server whose configuration names no transport speaks this one.
    func foundTransport(isEventStream: Bool) {
        self.found.store(isEventStream ? 2 : 1, ordering: .relaxed)
        if isEventStream { self.learn { $0.issuesSessions = true } }
    }

    /// How large an event of the upstream may be.
    var eventBytes: Int { self.limits.eventBytes }
    /// How deep a message of the upstream may be.
    var jsonDepth: Int { self.limits.jsonDepth }

    /// Whether all callers of the handshake era use one upstream session.
    var isShared: Bool { self.configuration.isolation == .shared }

    var linkSettings: LinkSettings {
        LinkSettings(upstream: self, identity: self.identity, limits: self.limits, logger: self.logger)
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
        if verdict == .rejected, case .http(let http) = self.transport, let pool = http.credentials, pool.count > 1,
            pool.areAllRefused
        {
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
