// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayTransport
import NIOCore

/// What is sent: each message as a POST of its own, which may be refused.
extension SSEChannel {
    func send(_ message: ByteBuffer, isCallers: Bool, completion: @escaping (LinkSending) -> Void) {
        guard case .open(let target) = self.state else {
            return completion(.failed(GatewayError(.upstreamClosed, executed: .no, "the stream is gone")))
        }
        self.pendingBytes += message.readableBytes
        // Each message of a caller is an attempt with the one credential that the session has.
        var attempt = CredentialFailover(self.http.credentials, choosing: .pinned(self.slot))
        if isCallers { _ = attempt.next() }
        self.post(message, to: target, with: attempt.credential, timeout: .seconds(30)) { [weak self, attempt] result in
            self?.pendingBytes -= message.readableBytes
            var attempt = attempt
            guard case .success(let answer) = result else {
                attempt.ended()
                return completion(Self.sending(result))
            }
            switch answer.status {
            case 200..<300:
                attempt.accepted()
                completion(.sent)
            case _ where answer.isAboutSession:
                guard let self else {
                    attempt.ended()
                    return completion(Self.sending(result))
                }
                if isCallers, self.isShared {
                    self.verify(attempt, target, refusedWith: answer.status, completion)
                } else {
                    self.refused(attempt, with: answer.status, completion)
                }
            default:
                attempt.ended()
                completion(Self.sending(result))
            }
        }
    }

    private func post(
        _ message: ByteBuffer,
        to target: String,
        with credential: RequestCredential? = nil,
        timeout: TimeAmount,
        _ completion: @escaping UpstreamCall.Completion
    ) {
        UpstreamCall.send(
            self.http,
            of: self.upstream,
            target: target,
            slot: self.slot,
            with: credential,
            on: self.loop,
            body: message,
            fields: self.fields,
            timeout: timeout,
            completion: completion
        )
    }

    /// Finds out whether a message of one caller was refused for itself, or because of the session that all share.
    ///
    /// A ping tells: what is refused for its content must not end what others use.
    private func verify(
        _ attempt: CredentialFailover,
        _ target: String,
        refusedWith status: Int,
        _ completion: @escaping (LinkSending) -> Void
    ) {
        let ping = ClientMessage.ping(id: #""mcp-proxy-check""#)
        self.post(ping, to: target, timeout: .seconds(10)) { [weak self, pool = self.http.credentials] result in
            var attempt = attempt
            if let self, case .success(let answer) = result, answer.isAboutSession {
                return self.refused(attempt, with: answer.status, completion)
            }
            guard let self, let pool, pool.retries(on: status) else {
                attempt.ended()
                var error = GatewayError(refusedWith: status)
                error.isOfMessageAlone = true
                return completion(.failed(error))
            }
            // The credential may do for a ping and not for tools: the next calls go in a session with the next one, when
            // those are over that this one still serves.
            _ = attempt.refused(with: status)
            self.isRefused = true
            completion(.failed(.rejected(status: status, slot: self.position)))
            self.delegate?.channelRefused()
        }
    }

    /// Its session is over, since its credential is refused for what callers want.
    func endRefused() { self.end(Self.refused) }

    /// A message was refused: the next goes in a session with the next credential.
    private func refused(
        _ attempt: CredentialFailover,
        with status: Int,
        _ completion: (LinkSending) -> Void
    ) {
        var attempt = attempt
        guard status != 404 else {
            attempt.ended()
            return completion(.failed(GatewayError(refusedWith: status)))
        }
        guard let pool = self.http.credentials else {
            return completion(.failed(.rejected(status: status, slot: nil)))
        }
        // What is asked to find out whether the server is there counts for nothing; what a session needs that callers
        // use, counts.
        if !attempt.isUnderWay, self.credentials.isForCallers { _ = attempt.next() }
        _ = attempt.refused(with: status)
        completion(.failed(.rejected(status: status, slot: self.position)))
        guard pool.retries(on: status) else { return }
        self.isRefused = true
        self.end(Self.refused)
    }

    private static let refused = GatewayError(
        .upstreamClosed,
        executed: .unknown,
        "the session was closed, since its token is refused; it is opened again with the next one",
        cause: SSEChannel.refusedCause
    )

    /// The cause of an end for which a new session is the cure.
    static let refusedCause = "credential_rejected"

    private static func sending(_ result: Result<UpstreamCall.Answer, TransportError>) -> LinkSending {
        switch result {
        case .failure(let error): .failed(GatewayError(error))
        case .success(let answer) where (200..<300).contains(answer.status): .sent
        case .success(let answer): .failed(GatewayError(refusedWith: answer.status, place: answer.place))
        }
    }
}

extension UpstreamCall.Answer {
    /// Whether a message was refused for what it may share with others: the credential, or the session.
    fileprivate var isAboutSession: Bool { self.status == 404 || StatusReading.refusesCredential(self.status) }
}
