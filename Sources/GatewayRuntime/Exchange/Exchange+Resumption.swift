// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayModel
import GatewayPolicy
import GatewayTransport
import GatewayWire
import NIOCore

/// A handshake upstream whose stream broke off, or which ended it to be polled, is asked for the rest of it; the call
/// itself is never sent again (faults F20).
extension Exchange {
    /// The stream is over without the answer.
    func eventsBroke(cause: String) {
        self.forgetCollected()
        guard self.message.era == .handshake, self.resumption.isPossible else {
            return self.fail(
                GatewayError(.upstreamClosed, executed: .unknown, "the stream ended before the answer", cause: cause)
            )
        }
        self.phase = .resuming
        self.mayHaveRun = true
        self.resumeLater()
    }

    /// Asks for the rest when the upstream wants to be asked.
    func resumeLater() {
        guard self.resumption.isPossible else {
            return self.fail(
                GatewayError(
                    .upstreamClosed,
                    executed: .unknown,
                    "the stream broke before the answer and could not be taken up again",
                    cause: "sse_truncated"
                )
            )
        }
        self.resumption.attempts += 1
        self.wait(self.resumption.delay) { exchange in
            guard case .resuming = exchange.phase, !exchange.isGone else { return }
            exchange.loop.pool(of: exchange.upstream)?.connect(for: exchange, isFresh: true)
        }
    }

    func resume(on connection: UpstreamConnection) {
        var head = self.loop.buffer(capacity: 512)
        let credential = self.http.credential(of: self.credentials)
        guard self.http.begin(.get, target: self.redirection.target, with: credential, on: connection, into: &head)
        else {
            connection.release()
            return self.fail(.noSuchSlot)
        }
        self.connection = connection
        self.eventDecoder = SSEDecoder(maximumEventBytes: self.eventDecoder.maximumEventBytes)
        if let id = self.sentSessionID { head.writeString("Mcp-Session-Id: \(id)\r\n") }
        if let revision = self.session?.revision { head.writeString(revision.headerLine) }
        self.request.appendForwarded(self.upstream.forwardHeaders, to: &head)
        self.resumption.appendField(to: &head)
        head.writeStaticString("\r\n")
        connection.send(head: head, body: nil, receiver: self)
    }

    func resumed(_ answer: AnswerHead) {
        guard answer.status == 200, answer.mediaType == .eventStream else {
            self.abandonUpstream()
            self.resumption.attempts = Resumption.limit
            return self.resumeLater()
        }
        self.phase = .events
        if self.blockedSince != nil { self.pauseUpstream(true) }
    }
}
