// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Runs the probe of one upstream: sends what the machine asks for and tells it what came back.
struct EraProbeDriver: Sendable {
    /// What a probe found.
    struct Finding: Sendable {
        var conclusion: EraProbe.Conclusion
        /// Why it is not usable, as a call is told that meets the same; nil if it is.
        var failure: GatewayError?
    }

    /// With what a credential was refused.
    private struct Refusal {
        let status: Int
        let kind: RefusalKind
    }

    /// What came back to one message.
    private struct Reply {
        var answer: EraProbe.Answer
        /// What the answer means for a call, if it is not what was asked for.
        var failure: GatewayError?
        var refusal: Refusal?
    }

    let upstream: Upstream
    let http: HTTPAccess
    let loop: LoopResources
    /// The credential that it asks with.
    private var slot = CredentialID.none

    init(upstream: Upstream, http: HTTPAccess, loop: LoopResources) {
        self.upstream = upstream
        self.http = http
        self.loop = loop
    }

    private var timeout: TimeAmount { TimeAmount(self.upstream.settings.limits.connectTimeout) }
    /// A server that does not know the question may leave it unanswered, and callers wait for the next one.
    private var discoverTimeout: TimeAmount { min(self.timeout, .seconds(5)) }
    private var identity: GatewayIdentity { self.upstream.identity }

    /// Asks with the current credential, and with the others while they are refused: what the upstream speaks does not
    /// depend on it, and one credential that is accepted makes it usable.
    ///
    /// The pool hears nothing of it (credentials §2.3), but people are told what became of each credential.
    /// Returns nil if we could not ask, which says nothing of the upstream.
    func run() async -> Finding? {
        var (failover, step) = self.look()
        while case .attempt(let slot) = step {
            var driver = self
            driver.slot = slot
            guard let (finding, refusal) = await driver.runOnce() else { return nil }
            if finding.conclusion.verdict == .usable { failover.accepted() }
            guard finding.conclusion.verdict == .rejected, let refusal else { return finding }
            step = failover.refused(with: refusal.status, as: refusal.kind)
            if case .giveUp(let error) = step { return Finding(conclusion: finding.conclusion, failure: error) }
            if Task.isCancelled { return finding }
        }
        return nil
    }

    /// A look at the credentials, the current one first, and its first step.
    private func look() -> (CredentialFailover, CredentialFailover.Step) {
        var failover = CredentialFailover(looking: self.http.credentials, at: self.http.slots)
        let step = failover.next()
        return (failover, step)
    }

    private func runOnce() async -> (Finding, Refusal?)? {
        let scope: EraProbe.Scope =
            switch self.upstream.protocolPin {
            case .auto: .both
            case .handshake: .handshake
            case .stateless: .stateless
            }
        var machine = EraProbe.StateMachine(scope: scope, admitsEventStream: self.http.configuration.kind == .detect)
        var replies: [EraProbe.Step: Reply] = [:]
        var action = machine.start()
        while true {
            switch action {
            case .send(let step):
                guard let reply = await self.ask(step) else { return nil }
                replies[step] = reply
                action = machine.answered(reply.answer)
            case .conclude(let conclusion):
                let reply = conclusion.cause.flatMap { replies[$0] }
                return (Finding(conclusion: conclusion, failure: reply?.failure), reply?.refusal)
            }
        }
    }

    private func ask(_ step: EraProbe.Step) async -> Reply? {
        switch step {
        case .discover: await self.discover()
        case .initialize: await self.initialize()
        case .openEventStream: await self.openEventStream()
        }
    }

    // MARK: Single questions

    /// Asks about the one era of which nothing is known yet; nil: we could not ask.
    func ask(aboutStateless isStateless: Bool) async -> EraProbe.Answer? {
        var (failover, step) = self.look()
        var answer: EraProbe.Answer?
        while case .attempt(let slot) = step {
            var driver = self
            driver.slot = slot
            let reply = await driver.ask(isStateless ? .discover : .initialize)
            answer = reply?.answer
            guard let refusal = reply?.refusal, !Task.isCancelled else { break }
            step = failover.refused(with: refusal.status, as: refusal.kind)
        }
        return answer
    }

    /// Sends the lightest message that any server of the known era answers; whether the answer is one of MCP, nil: it could
    /// not be sent.
    func ping() async -> Bool? {
        var driver = self
        driver.slot = self.http.credentials?.current ?? .none
        return await driver.pingOnce()
    }

    private func pingOnce() async -> Bool? {
        let result =
            if self.upstream.eras.stateless == true {
                await self.sendDiscover()
            } else {
                await self.send(ClientMessage.ping(id: #""mcp-proxy-ping""#), fields: "", timeout: self.timeout)
            }
        switch result {
        case .failure(let error): return GatewayError(error).reason == .overloaded ? nil : false
        case .success(let answer):
            guard answer.refusal == nil else { return false }
            return answer.envelope?.isResponse == true
        }
    }

    private func sendDiscover() async -> Result<UpstreamCall.Answer, TransportError> {
        let body = ClientMessage.discover(id: #""mcp-proxy-probe""#, self.identity)
        let fields = "\(ProtocolRevision.july2026.headerLine)Mcp-Method: server/discover\r\n"
        return await self.send(body, fields: fields, timeout: self.discoverTimeout)
    }

    private func discover() async -> Reply? { self.read(await self.sendDiscover()) }

    private func initialize() async -> Reply? {
        let body = ClientMessage.initialize(id: #""mcp-proxy-probe""#, self.identity)
        let result = await self.send(body, fields: "", timeout: self.timeout)
        guard case .success(let answer) = result, (200..<300).contains(answer.status),
            let envelope = answer.envelope, envelope.kind == .result
        else { return self.read(result) }
        let version = AnswerReader.protocolVersion(of: envelope, in: answer.body)
        if let session = answer.sessionID { self.end(session, version: version) }
        return Reply(answer: .initialized(version: version, hasSession: answer.sessionID != nil))
    }

    /// The probe's own session is not left behind.
    private func end(_ session: String, version: String?) {
        let fields = version.flatMap { ProtocolRevision(rawValue: $0) }?.headerLine
        self.loop.eventLoop.execute {
            UpstreamCall.send(
                self.http,
                of: self.upstream,
                method: .delete,
                slot: self.slot,
                on: self.loop,
                session: session,
                fields: fields ?? "",
                timeout: self.timeout
            ) { _ in }
        }
    }

    private func send(
        _ body: ByteBuffer,
        fields: String,
        timeout: TimeAmount
    ) async -> Result<UpstreamCall.Answer, TransportError> {
        let call = NIOLoopBoundBox<UpstreamCall?>.makeBoxSendingValue(nil, eventLoop: self.loop.eventLoop)
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                self.loop.eventLoop.execute {
                    call.value = UpstreamCall.send(
                        self.http,
                        of: self.upstream,
                        slot: self.slot,
                        on: self.loop,
                        body: body,
                        fields: fields,
                        timeout: timeout
                    ) { result in
                        continuation.resume(returning: result)
                    }
                }
            }
        } onCancel: {
            // A stop does not wait for an upstream that does not answer.
            self.loop.eventLoop.execute { call.value?.cancel() }
        }
    }

    /// GETs the URL and looks at the first event, as a client of the 2024-11-05 transport does (protocol §4).
    private func openEventStream() async -> Reply? {
        await withCheckedContinuation { continuation in
            self.loop.eventLoop.execute {
                let probe = EventStreamProbe { error in continuation.resume(returning: self.read(stream: error)) }
                let channel = SSEChannel(
                    self.upstream,
                    self.http,
                    fields: "",
                    limits: self.loop.limits,
                    buffers: self.upstream.buffers,
                    credentials: CredentialFailover(looking: self.http.credentials, at: [self.slot]),
                    isShared: false,
                    on: self.loop,
                    delegate: probe
                )
                probe.start(channel)
            }
        }
    }

    // MARK: Answers

    /// nil: the question did not get as far as to say anything of the upstream.
    private func read(stream error: GatewayError?) -> Reply? {
        guard let error else { return Reply(answer: .endpoint) }
        let answer: EraProbe.Answer
        switch error.reason {
        case .overloaded: return nil
        case .credentialRejected, .credentialsExhausted:
            let refusal = error.status.map { Refusal(status: $0, kind: .rejected) }
            return Reply(answer: .refused, failure: error, refusal: refusal)
        case .rateLimited: answer = .busy
        case .upstreamStatus: answer = error.status ?? 0 >= 500 ? .busy : .other
        case .upstreamClosed, .upstreamTimeout: answer = .silence
        case .unreachable where error.cause == SSEChannel.noEndpointCause: answer = .silence
        case .unreachable, .outboundProxy: answer = .unreachable
        case .upstreamProtocol, .childExited: answer = .other
        }
        return Reply(answer: answer, failure: error)
    }

    /// nil: the question did not get as far as to say anything of the upstream.
    private func read(_ result: Result<UpstreamCall.Answer, TransportError>) -> Reply? {
        switch result {
        case .success(let answer):
            return self.read(answer)
        case .failure(let error):
            let failure = GatewayError(error)
            switch failure.reason {
            case .overloaded: return nil
            case .unreachable, .outboundProxy: return Reply(answer: .unreachable, failure: failure)
            // An answer was there, and it is in a coding that nobody can read.
            case .upstreamProtocol where error.code == .badEncoding: return Reply(answer: .other, failure: failure)
            default: return Reply(answer: .silence, failure: error.code == .cancelled ? Self.noAnswer : failure)
            }
        }
    }

    private static let noAnswer = GatewayError(
        .upstreamTimeout,
        executed: .no,
        "the server took the connection, and did not answer in time",
        cause: "response_timeout"
    )

    private func read(_ answer: UpstreamCall.Answer) -> Reply {
        if answer.isEndpoint { return Reply(answer: .endpoint, failure: Self.isOtherTransport) }
        let failure = GatewayError(notAnsweredWith: answer, slot: self.http.position(of: self.slot))
        if let kind = answer.refusal {
            return Reply(answer: .refused, failure: failure, refusal: Refusal(status: answer.status, kind: kind))
        }
        switch answer.status {
        case 429, 500...:
            return Reply(answer: .busy, failure: failure)
        default:
            return Reply(answer: self.era(answer), failure: failure)
        }
    }

    /// What a JSON-RPC message says of an era.
    private func era(_ answer: UpstreamCall.Answer) -> EraProbe.Answer {
        guard let envelope = answer.envelope else { return .other }
        if envelope.kind == .result {
            return AnswerReader.supportedVersions(of: envelope, in: answer.body).map { .discovered(versions: $0) }
                ?? .other
        }
        return switch envelope.errorCode {
        case -32_020, -32_021: .statelessError
        case -32_022: .unsupportedVersion(supported: AnswerReader.refusedVersions(of: envelope, in: answer.body))
        default: .other
        }
    }

    private static let isOtherTransport = GatewayError(
        .upstreamProtocol,
        executed: .no,
        "the server speaks HTTP+SSE, not streamable HTTP: set transportType to sse, or leave it out",
        cause: "other_transport"
    )
}

extension GatewayError {
    /// An upstream answered a message of ours with this, which is not what was asked for; `slot` is nil without a pool.
    fileprivate init(notAnsweredWith answer: UpstreamCall.Answer, slot: Int?) {
        switch answer.status {
        case _ where answer.refusal != nil:
            self = .rejected(status: answer.status, slot: slot)
        case 404, 405:
            let text = "the server answered HTTP \(answer.status): check the path of url, and transportType"
            self.init(.upstreamStatus, executed: .no, text, cause: "http_4xx", status: answer.status)
        case 300...:
            self.init(refusedWith: answer.status, place: answer.place)
        default:
            let (text, cause) =
                switch answer.mediaType {
                case .html: (Self.webPageText, "web_page")
                case .other where answer.body.readableBytes > 0:
                    (
                        "the server answered with something else than JSON or events: is it an MCP server?",
                        "bad_content_type"
                    )
                case .json, .eventStream, .other:
                    ("the server does not answer initialize: is it an MCP server?", "no_handshake")
                }
            self.init(.upstreamProtocol, executed: .no, text, cause: cause, status: answer.status)
        }
    }
}

/// Looks whether a channel opens, and closes it again.
private final class EventStreamProbe: LinkChannelDelegate {
    private var completion: ((GatewayError?) -> Void)?
    /// Kept until the end; the channel knows its delegate only weakly.
    private var channel: SSEChannel?
    private var own: EventStreamProbe?

    init(_ completion: @escaping (GatewayError?) -> Void) {
        self.completion = completion
    }

    func start(_ channel: SSEChannel) {
        self.channel = channel
        self.own = self
        channel.open()
    }

    func channelOpened() {
        self.end(nil)
        self.channel?.close()
    }

    func channelReceived(_ message: ByteBuffer) {}
    func channelPaused() {}
    func channelRefused() {}

    func channelClosed(_ error: GatewayError) {
        self.end(error)
        self.channel = nil
        self.own = nil
    }

    private func end(_ error: GatewayError?) {
        self.completion?(error)
        self.completion = nil
    }
}
