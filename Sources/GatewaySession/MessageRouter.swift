// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

// One place decides whose a message is, for every upstream session whose callers' ids we map: a child process, a stream of
// HTTP+SSE, and a session at a streamable-HTTP server that callers share. What is known of callers, calls, questions,
// subscriptions and severities stands in `SessionBridge.StateMachine`; here is what follows from it, message by message.
// The drivers only make the edits and carry the bytes.
//
// The two kinds of upstream differ in one thing, how their messages come (`Carrier`):
//
//     on one stream                                   along the answers to calls, and on the stream of a GET
//     what is for one caller goes along its newest    what came along a call goes along that, if it is for the same
//     call, since it may have no other stream         caller; what came on the GET goes where the caller listens
//     progress goes along the call of its token       the same, if it came along that call; else to nobody
//     a notification that nobody knows is its owner's, what came along a call is its caller's, whatever it is
//     or nobody's where callers share
//     an answer ends a call                           answers end the exchange that read them; none is looked for here

/// Whose each message is that crosses an upstream session.
package enum MessageRouter {
    /// How the messages of an upstream come.
    package enum Carrier: Hashable, Sendable {
        /// All on one stream: a child's standard output, or an HTTP+SSE stream.
        case oneStream
        /// Over streamable HTTP: what belongs to a call comes along the answer to it, all else on the stream of a GET.
        case answersAndStream
    }

    /// What becomes of a caller's message on its way to the upstream.
    package enum Sending: Hashable, Sendable {
        /// It is a request, which is sent as this call, with these changes.
        case request(call: Int64, edits: [MessageEdit])
        /// It is sent with these changes, and gets no answer; `cancels` is the call that it takes back.
        case oneWay(edits: [MessageEdit], cancels: Int64?)
        /// The upstream need not hear of it: its caller gets an empty result.
        case emptyResult
        /// Its caller may not subscribe to more (``SessionBridge/subscriptionBounds``).
        case tooManySubscriptions
        /// What it is about is not there any more, or is the gateway's own business: nobody hears of it.
        case taken
    }

    /// What becomes of an upstream's message.
    package enum Delivery: Hashable, Sendable {
        /// It is the answer to a call.
        case answer(call: Int64, edits: [MessageEdit])
        /// It is the answer to a request of the gateway itself.
        case ownAnswer(call: Int64)
        /// It answers nothing that anybody waits for.
        case answerToNoCall
        /// It is for one caller.
        case caller(Recipient, Matter, edits: [MessageEdit])
        /// It is for each of these, where they listen.
        case callers([Int])
        /// It is a ping: the upstream gets an empty result under this id.
        case pong(id: [UInt8])
        /// It is a question that nobody can answer: the upstream is told so, under this id.
        case refuse(id: [UInt8])
        /// Nobody gets it; `isLogged`: it is written to our log.
        case nobody(isLogged: Bool)
    }

    /// The one caller whose message it is.
    package struct Recipient: Hashable, Sendable {
        /// nil if it is of no use but along the call.
        package let caller: Int?
        /// The call along whose answer it goes; nil: it goes where the caller listens.
        package let call: Int64?
    }

    /// What a message is to the one caller that gets it.
    package enum Matter: Hashable, Sendable {
        /// The upstream asks the caller something, under this number.
        case question(Int64)
        /// The upstream takes back what it asked.
        case withdrawnQuestion
        /// The upstream is at work on the call.
        case progress
        case notification

        /// Whether a caller that takes no messages along its call gets it where it listens.
        ///
        /// A question must be answered, and may have gone there before it is taken back; the rest is of use with its call.
        package var mayGoElsewhere: Bool {
            switch self {
            case .question, .withdrawnQuestion: true
            case .progress, .notification: false
            }
        }
    }
}

// MARK: - From callers

extension SessionBridge.StateMachine {
    /// A caller's message; `caller` is nil in the stateless era, where every request is a caller of its own.
    package mutating func sending(
        _ message: Span<UInt8>,
        _ envelope: Envelope,
        of caller: Int?
    ) -> MessageRouter.Sending {
        switch envelope.kind {
        case .request:
            return self.sending(request: message, envelope, of: caller)
        case .notification:
            return self.sending(notification: message, envelope, of: caller)
        case .result, .error:
            guard let caller, let id = envelope.id, let literal = self.responded(by: caller, id: id.value(in: message))
            else { return .taken }
            return .oneWay(edits: [MessageEdit(id.range, literal)], cancels: nil)
        }
    }

    private mutating func sending(
        request message: Span<UInt8>,
        _ envelope: Envelope,
        of caller: Int?
    ) -> MessageRouter.Sending {
        guard let id = envelope.id else { return .taken }
        var edits: [MessageEdit] = []
        if self.sharing == .shared, let caller {
            switch envelope.method {
            case .resourcesSubscribe:
                guard let uri = envelope.name?.decodedBytes(in: message) else { break }
                if !self.subscribed(caller, to: uri) { return .tooManySubscriptions }
            case .resourcesUnsubscribe:
                guard let uri = envelope.name?.decodedBytes(in: message) else { break }
                if !self.unsubscribed(caller, from: uri) { return .emptyResult }
            case .loggingSetLevel:
                // The session is set to what the most curious of its callers wants.
                guard let level = envelope.severity(in: message) else { break }
                let lowest = self.leveled(caller, level.value)
                edits.append(MessageEdit(level.range, Array(#""\#(lowest.rawValue)""#.utf8)))
            default: break
            }
        }
        let call = self.requested(
            by: caller ?? self.takeStatelessCaller(),
            id: id.value(in: message),
            literal: message.bytes(id.range),
            token: envelope.progressToken.map { message.bytes($0.range) },
            isListening: envelope.method == .subscriptionsListen
        )
        edits.append(MessageEdit(id.range, call))
        if let token = envelope.progressToken { edits.append(MessageEdit(token.range, call)) }
        return .request(call: call, edits: edits)
    }

    private mutating func sending(
        notification message: Span<UInt8>,
        _ envelope: Envelope,
        of caller: Int?
    ) -> MessageRouter.Sending {
        switch envelope.method {
        case .cancelledNotification:
            // Whatever it names that is not in flight needs no stopping (faults F104).
            guard let caller, let id = envelope.cancelledID,
                let call = self.cancelled(by: caller, id: id.value(in: message))
            else { return .taken }
            return .oneWay(edits: [MessageEdit(id.range, call)], cancels: call)
        case .initializedNotification where self.sharing == .shared,
            .rootsListChangedNotification where self.sharing == .shared:
            // The session was initialized by us, and its roots are nobody's in particular.
            return .taken
        case .progressNotification:
            guard let caller, let token = envelope.progressToken, self.isAsked(caller, token: token.value(in: message))
            else { return .taken }
            return .oneWay(edits: [], cancels: nil)
        default:
            return .oneWay(edits: [], cancels: nil)
        }
    }
}

// MARK: - From the upstream

extension SessionBridge.StateMachine {
    /// A message of the upstream; `call` is the one along whose answer it came, where messages come so.
    package mutating func delivery(
        _ message: Span<UInt8>,
        _ envelope: Envelope,
        along call: Int64? = nil
    ) -> MessageRouter.Delivery {
        switch envelope.kind {
        case .result, .error: self.delivery(answer: message, envelope)
        case .request: self.delivery(question: message, envelope, along: call)
        case .notification: self.delivery(notification: message, envelope, along: call)
        }
    }

    private mutating func delivery(answer message: Span<UInt8>, _ envelope: Envelope) -> MessageRouter.Delivery {
        guard self.carrier == .oneStream, let id = envelope.id else { return .nobody(isLogged: false) }
        switch self.answered(id.value(in: message)) {
        case .unknown: return .answerToNoCall
        case .own(let call): return .ownAnswer(call: call)
        case .answer(let call, let literal):
            var edits = [MessageEdit(id.range, literal)]
            if self.sharing == .stateless, let range = envelope.resultSubscriptionID(in: message) {
                edits.append(MessageEdit(range, literal))
            }
            return .answer(call: call, edits: edits)
        }
    }

    private mutating func delivery(
        question message: Span<UInt8>,
        _ envelope: Envelope,
        along call: Int64?
    ) -> MessageRouter.Delivery {
        guard let id = envelope.id, let method = envelope.method else { return .nobody(isLogged: false) }
        let literal = message.bytes(id.range)
        if method == .ping { return .pong(id: literal) }
        let token = envelope.progressToken?.value(in: message)
        let value = id.value(in: message)
        let question = self.asked(method, id: value, literal: literal, token: token, during: call)
        guard case .ask(let caller, let newest, let number) = question else { return .refuse(id: literal) }
        let recipient = self.recipient(caller, newest: newest, along: call)
        return .caller(recipient, .question(number), edits: [MessageEdit(id.range, number)])
    }

    private mutating func delivery(
        notification message: Span<UInt8>,
        _ envelope: Envelope,
        along call: Int64?
    ) -> MessageRouter.Delivery {
        switch envelope.method {
        case .progressNotification:
            guard let token = envelope.progressToken, let own = self.progressed(token.value(in: message)),
                self.carrier == .oneStream || own.call == call
            else { return .nobody(isLogged: false) }
            let edits = [MessageEdit(token.range, own.token)]
            return .caller(.init(caller: nil, call: own.call), .progress, edits: edits)
        case .cancelledNotification:
            guard let id = envelope.cancelledID, let own = self.cancelled(id.value(in: message)) else {
                return .nobody(isLogged: false)
            }
            return self.delivery(to: own.audience, .withdrawnQuestion, [MessageEdit(id.range, own.id)], along: call)
        case .messageNotification:
            return self.delivery(to: self.logged(envelope.severity(in: message)?.value, during: call), along: call)
        case _ where self.isOfSubscription(envelope):
            // Its caller knows the `subscriptions/listen` that it belongs to under its own id.
            guard let id = envelope.subscriptionID, case .integer(let own) = id.value(in: message),
                let literal = self.literal(of: own)
            else { return .nobody(isLogged: false) }
            return self.delivery(to: .call(own), .notification, [MessageEdit(id.range, literal)], along: call)
        case .toolsListChangedNotification, .promptsListChangedNotification, .resourcesListChangedNotification:
            return self.delivery(to: self.listChanged, along: call)
        case .resourcesUpdatedNotification:
            guard let uri = envelope.name?.decodedBytes(in: message) else { return .nobody(isLogged: false) }
            return self.delivery(to: self.updated(uri), along: call)
        default:
            // What comes along a call is for its caller, whatever it is.
            if let call, let caller = self.caller(of: call) {
                return .caller(.init(caller: caller, call: call), .notification, edits: [])
            }
            return self.delivery(to: self.unknownNotification, along: call)
        }
    }

    /// Whether a notification belongs to a `subscriptions/listen`: all that tell of changes do so in the stateless era.
    private func isOfSubscription(_ envelope: Envelope) -> Bool {
        switch envelope.method {
        case .toolsListChangedNotification, .promptsListChangedNotification, .resourcesListChangedNotification,
            .resourcesUpdatedNotification:
            self.sharing == .stateless
        case .subscriptionsAcknowledgedNotification, .tasksNotification:
            self.sharing == .stateless || self.carrier == .oneStream && envelope.subscriptionID != nil
        default:
            self.carrier == .oneStream && envelope.subscriptionID != nil
        }
    }

    private func delivery(
        to audience: SessionBridge.Audience,
        _ matter: MessageRouter.Matter = .notification,
        _ edits: [MessageEdit] = [],
        along call: Int64?
    ) -> MessageRouter.Delivery {
        switch audience {
        case .call(let own): .caller(.init(caller: nil, call: own), matter, edits: edits)
        case .caller(let caller, let newest):
            .caller(self.recipient(caller, newest: newest, along: call), matter, edits: edits)
        case .callers(let callers): .callers(callers)
        case .nobody(let isLogged): .nobody(isLogged: isLogged)
        }
    }

    /// Where a caller gets what is for it alone; `newest` is its newest call.
    private func recipient(_ caller: Int, newest: Int64?, along call: Int64?) -> MessageRouter.Recipient {
        switch self.carrier {
        case .oneStream: .init(caller: caller, call: newest)
        case .answersAndStream:
            .init(caller: caller, call: call.flatMap { self.caller(of: $0) == caller ? $0 : nil })
        }
    }
}

extension Span<UInt8> {
    /// A copy of a part of the bytes; empty if that is not there.
    fileprivate func bytes(_ range: Range<Int>) -> [UInt8] {
        guard range.lowerBound >= 0, range.upperBound <= self.count else { return [] }
        return self.extracting(range).withUnsafeBufferPointer { Array($0) }
    }
}
