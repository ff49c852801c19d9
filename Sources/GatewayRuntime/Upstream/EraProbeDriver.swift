// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Runs the probe of one upstream: sends what the machine asks for and tells it what came back.
struct EraProbeDriver: Sendable {
    let upstream: Upstream
    let http: HTTPAccess
    let loop: GatewayLoop
    let limits: Limits
    /// The credential that it asks with.
    private var slot = 0

    init(upstream: Upstream, http: HTTPAccess, loop: GatewayLoop, limits: Limits) {
        self.upstream = upstream
        self.http = http
        self.loop = loop
        self.limits = limits
    }

    private var timeout: TimeAmount { TimeAmount(self.limits.connectTimeout) }
    private var identity: GatewayIdentity { self.upstream.identity }

    /// Asks with the current credential, and with the others while they are refused: what the upstream speaks does not
    /// depend on it, and one credential that is accepted makes it usable.
    ///
    /// The pool hears nothing of it (credentials.md §2.3).
    /// Returns nil if we could not ask, which says nothing of the upstream.
    func run() async -> EraProbe.Conclusion? {
        var driver = self
        driver.slot = self.http.credentials?.current ?? 0
        var conclusion = await driver.runOnce()
        for _ in 1..<max(self.http.slotCount, 1) where conclusion?.verdict == .rejected && !Task.isCancelled {
            driver.slot = (driver.slot + 1) % self.http.slotCount
            conclusion = await driver.runOnce()
        }
        return conclusion
    }

    private func runOnce() async -> EraProbe.Conclusion? {
        let scope: EraProbe.Scope =
            switch self.upstream.configuration.protocolPin {
            case .auto: .both
            case .handshake: .handshake
            case .stateless: .stateless
            }
        var machine = EraProbe.StateMachine(scope: scope, admitsEventStream: self.http.configuration.kind == .detect)
        var action = machine.start()
        while true {
            let answer: EraProbe.Answer?
            switch action {
            case .sendDiscover: answer = await self.discover()
            case .sendInitialize: answer = await self.initialize()
            case .openEventStream: answer = await self.openEventStream()
            case .conclude(let conclusion): return conclusion
            }
            guard let answer else { return nil }
            action = machine.answered(answer)
        }
    }

    /// Sends the lightest message that any server of the known era answers; nil: it could not be sent.
    func ping() async -> EraProbe.Answer? {
        var driver = self
        driver.slot = self.http.credentials?.current ?? 0
        return await driver.pingOnce()
    }

    private func pingOnce() async -> EraProbe.Answer? {
        if self.upstream.eras.stateless == true { return await self.discover() }
        let body = ClientMessage.ping(id: #""mcp-proxy-ping""#)
        return Self.classify(await self.send(body, fields: ""))
    }

    private func discover() async -> EraProbe.Answer? {
        let body = ClientMessage.discover(id: #""mcp-proxy-probe""#, self.identity)
        let fields = "\(ProtocolRevision.july2026.headerLine)Mcp-Method: server/discover\r\n"
        return Self.classify(await self.send(body, fields: fields))
    }

    private func initialize() async -> EraProbe.Answer? {
        let body = ClientMessage.initialize(id: #""mcp-proxy-probe""#, self.identity)
        let result = await self.send(body, fields: "")
        guard case .success(let answer) = result, (200..<300).contains(answer.status),
            let envelope = AnswerReader.read(answer.body, depth: 64), envelope.kind == .result
        else { return Self.classify(result) }
        let version = AnswerReader.protocolVersion(of: envelope, in: answer.body)
        if let session = answer.sessionID { self.end(session, version: version) }
        return .initialized(version: version, hasSession: answer.sessionID != nil)
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

    private func send(_ body: ByteBuffer, fields: String) async -> Result<UpstreamCall.Answer, TransportError> {
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
                        timeout: self.timeout
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
    private func openEventStream() async -> EraProbe.Answer? {
        await withCheckedContinuation { continuation in
            self.loop.eventLoop.execute {
                let probe = EventStreamProbe { error in
                    let answer: EraProbe.Answer = error == nil ? .endpoint : .other
                    continuation.resume(returning: error?.reason == .overloaded ? nil : answer)
                }
                let channel = SSEChannel(
                    self.upstream,
                    self.http,
                    fields: "",
                    limits: self.limits,
                    buffers: self.upstream.buffers,
                    opening: .own(slots: [self.slot]),
                    isShared: false,
                    on: self.loop,
                    delegate: probe
                )
                probe.start(channel)
            }
        }
    }

    /// nil: the question did not get as far as to say anything of the upstream.
    private static func classify(_ result: Result<UpstreamCall.Answer, TransportError>) -> EraProbe.Answer? {
        let answer: UpstreamCall.Answer
        switch result {
        case .failure(let error) where error.code == .noDescriptors: return nil
        case .failure: return .unreachable
        case .success(let success): answer = success
        }
        switch answer.status {
        case 401, 403: return .refused
        case 429, 500...: return .busy
        default: break
        }
        let isRefused = [400, 404, 405].contains(answer.status)
        guard let envelope = AnswerReader.read(answer.body, depth: 64) else {
            return isRefused ? .noSuchTransport : .other
        }
        if envelope.kind == .result {
            return AnswerReader.supportedVersions(of: envelope, in: answer.body).map { .discovered(versions: $0) }
                ?? .other
        }
        switch envelope.errorCode {
        case -32_020, -32_021: return .statelessError
        case -32_022:
            return .unsupportedVersion(supported: AnswerReader.refusedVersions(of: envelope, in: answer.body))
        default: return isRefused ? .noSuchTransport : .other
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
