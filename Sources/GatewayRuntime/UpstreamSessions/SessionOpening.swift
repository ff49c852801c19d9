// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

extension StatusReading.Body {
    /// `envelope` is that of the body, if it is a message; `isAnswer` says whether that has the id of the request.
    init(_ body: ByteBuffer, _ envelope: Envelope?, isAnswer: (Envelope) -> Bool) {
        let namesSession = StatusReading.namesSession(body.readableBytesUInt8Span)
        if let envelope, envelope.isResponse, isAnswer(envelope) {
            self = envelope.kind == .result ? .result : .error(code: envelope.errorCode, namesSession: namesSession)
        } else {
            self = namesSession ? .sessionRefusal : .foreign
        }
    }
}

/// Opens an upstream session with the caller's own `initialize`: one that was forgotten again (contract §4), or the first
/// of a slot (credentials §2.9).
enum SessionOpening {
    /// Opens the session, or waits for whoever is at it; `completion` hears on `loop` what came of it, and whether this was
    /// the one that asked the upstream.
    static func enter(
        _ session: HTTPUpstreamSession,
        _ http: HTTPAccess,
        of upstream: Upstream,
        on loop: LoopResources,
        completion: @escaping @Sendable (HTTPUpstreamSession.Opened, _ isFirst: Bool) -> Void
    ) {
        let waiter = HTTPUpstreamSession.Waiter(eventLoop: loop.eventLoop, resume: completion)
        switch session.wanted(waiter) {
        case .ready(let id): completion(.open(id: id), false)
        case .open: Self.run(session, http, of: upstream, on: loop) { _ in }
        case .wait: break
        case .over: completion(.over, false)
        }
    }

    /// Opens a session again that the upstream does not know any more, or waits for whoever is at it; `completion` hears on
    /// `loop` what came of it, and whether this was the one that asked the upstream.
    ///
    /// Unless the loss is certain, the upstream is asked first whether it knows the session.
    static func reopen(
        _ session: HTTPUpstreamSession,
        lost id: String,
        isCertain: Bool,
        _ http: HTTPAccess,
        of upstream: Upstream,
        on loop: LoopResources,
        completion: @escaping @Sendable (HTTPUpstreamSession.Opened, _ isFirst: Bool) -> Void
    ) {
        let waiter = HTTPUpstreamSession.Waiter(eventLoop: loop.eventLoop, resume: completion)
        let pause: TimeAmount
        switch session.lost(id: id, isCertain: isCertain, waiter: waiter) {
        case .retry(let id): return completion(.open(id: id), false)
        case .kept: return completion(.kept(id: id), false)
        case .refused(let status): return completion(.refused(status), false)
        case .wait: return
        case .over: return completion(.over, false)
        case .renew(let duration): pause = TimeAmount(duration)
        }
        let bound = NIOLoopBound(loop, eventLoop: loop.eventLoop)
        let open: @Sendable () -> Void = {
            Self.run(session, http, of: upstream, on: bound.value) { _ in }
        }
        let begin = { if pause > .zero { loop.eventLoop.scheduleTask(in: pause, open) } else { open() } }
        guard !isCertain else { return begin() }
        Self.isLost(id, session, http, of: upstream, on: loop) { isLost in
            if isLost { begin() } else { session.kept() }
        }
    }

    /// Asks in the session whether it is there; what is no answer about that counts as yes.
    private static func isLost(
        _ id: String,
        _ session: HTTPUpstreamSession,
        _ http: HTTPAccess,
        of upstream: Upstream,
        on loop: LoopResources,
        completion: @escaping (Bool) -> Void
    ) {
        let ping = MessageIDValue.string(Array("mcp-proxy-session".utf8))
        UpstreamCall.send(
            http,
            of: upstream,
            slot: session.slot,
            on: loop,
            body: ClientMessage.ping(id: #""mcp-proxy-session""#),
            session: id,
            fields: session.origin.fields,
            timeout: .seconds(5)
        ) { result in
            guard case .success(let answer) = result, answer.status >= 400 else { return completion(false) }
            let body = StatusReading.Body(answer.body, answer.envelope) {
                $0.idValue(in: answer.body) == ping
            }
            switch StatusReading(status: answer.status, body: body, session: .open) {
            case .sessionLost, .sessionInDoubt: completion(true)
            case .answer, .credentialRefused, .failure: completion(false)
            }
        }
    }

    /// Runs on `loop`; everybody who waits for the session is told, and `completion` as well.
    static func run(
        _ session: HTTPUpstreamSession,
        _ http: HTTPAccess,
        of upstream: Upstream,
        on loop: LoopResources,
        completion: @escaping (HTTPUpstreamSession.Opened) -> Void
    ) {
        func end(_ result: HTTPUpstreamSession.Opened) {
            if !session.opened(result), case .open(let id) = result {
                Self.close(id, session, http, of: upstream, on: loop)
                return completion(.over)
            }
            completion(result)
        }
        let origin = session.origin
        guard origin.initialize.readableBytes > 0 else { return end(.failed(Self.notKept)) }
        UpstreamCall.send(
            http,
            of: upstream,
            slot: session.slot,
            on: loop,
            body: origin.initialize,
            fields: String(decoding: origin.forwarded, as: UTF8.self),
            timeout: Self.timeout
        ) { result in
            switch result {
            case .failure(let error):
                end(.failed(GatewayError(error).beforeTheCall))
            case .success(let answer) where answer.refusal != nil:
                end(.refused(answer.status))
            case .success(let answer):
                guard (200..<300).contains(answer.status) else {
                    let error = GatewayError(refusedWith: answer.status, place: answer.place)
                    return end(.failed(error.beforeTheCall))
                }
                guard let id = answer.sessionID, answer.envelope?.kind == .result else {
                    return end(.failed(Self.noSession))
                }
                UpstreamCall.send(
                    http,
                    of: upstream,
                    slot: session.slot,
                    on: loop,
                    body: ClientMessage.initialized,
                    session: id,
                    fields: origin.fields,
                    timeout: Self.timeout
                ) { _ in
                    // A server that does not take it refuses the message that waits, whose caller then hears of it.
                    let goOn = NIOLoopBound({ end(.open(id: id)) }, eventLoop: loop.eventLoop)
                    session.watch.opened(session.slot, id: id) { goOn.execute { $0() } }
                }
            }
        }
    }

    /// Ends a session upstream; `completion` hears whether the upstream says that it is gone.
    static func close(
        _ id: String,
        _ session: HTTPUpstreamSession,
        _ http: HTTPAccess,
        of upstream: Upstream,
        on loop: LoopResources,
        timeout: TimeAmount = Self.timeout,
        completion: @escaping (Bool) -> Void = { _ in }
    ) {
        UpstreamCall.send(
            http,
            of: upstream,
            method: .delete,
            slot: session.slot,
            on: loop,
            session: id,
            fields: session.origin.fields,
            timeout: timeout
        ) { result in
            guard case .success(let answer) = result else { return completion(false) }
            completion(answer.status < 300 || [404, 405].contains(answer.status))
        }
    }

    private static let timeout = TimeAmount.seconds(10)

    private static let notKept = GatewayError(
        .upstreamProtocol,
        executed: .no,
        "the session cannot be opened with another credential: its initialize is larger than 64 KiB",
        cause: "initialize_too_large"
    )

    private static let noSession = GatewayError(
        .upstreamProtocol,
        executed: .no,
        "the server opened no session for this credential",
        cause: "no_session"
    )
}
