// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayPolicy
package import GatewayWire

// A caller has one session with us and, at an upstream with several credentials, one for each that it used. To it they
// look like one: what it asks may be asked anywhere, but what it subscribed to, and the stream on which the upstream
// speaks unasked, have one place (credentials §2.9).

/// Which slot the messages of one caller's session go to, at an upstream with several credentials.
///
/// Pure. A slot is named by the identity of its credential, which no other ever has, so that whatever a reload does to the
/// list nothing goes to another's session. The home slot is the one that answered `initialize`; when its credential is
/// refused, or removed, the next one that is accepted takes its place.
package struct SlotRouting: Sendable {
    /// Where what belongs to the session as a whole goes.
    package private(set) var home: CredentialID
    /// The slot that was refused last, once the home slot was; nil while that is accepted.
    package private(set) var lastRefused: CredentialID?
    /// Whether the home slot's credential was refused since it was last accepted.
    package var isHomeRefused: Bool { self.lastRefused != nil }
    /// The slots that were refused to this caller and not accepted since.
    private var refusedSlots: Set<CredentialID> = []
    /// The level that the caller set; a new home is told of it.
    package private(set) var severity: LogSeverity?
    /// What the caller subscribed to, and the when of each, in steps.
    private var subscribedAt: [[UInt8]: Int] = [:]
    private var subscribedBytes = 0
    private var nextSubscription = 0
    /// Where the caller's calls in flight are, by the id that it gave them.
    private var calls: [MessageIDValue: CallSlots] = [:]
    /// Requests of the upstream that the caller has not answered, by the id that the caller knows.
    private var questions: [MessageIDValue: Question] = [:]
    /// The progress tokens of those, with the slots of the questions that have one, in the order in which they came.
    private var tokens: [MessageIDValue: [CredentialID]] = [:]
    private var nextName = 1
    /// The number of the list of credentials that was looked at last.
    private var revision: UInt64 = 0

    /// The slots of the calls with one id, which should be one call, and of some callers is more.
    private struct CallSlots: Sendable {
        var newest: CredentialID
        /// Those of the calls before it, oldest first.
        var older: [CredentialID] = []
    }

    private struct Question: Sendable {
        let slot: CredentialID
        /// The id as the upstream wrote it.
        let literal: [UInt8]
        let token: MessageIDValue?
    }

    /// Subscriptions, bytes of their URIs, and unanswered questions above these are not kept.
    package static let subscriptionLimit = 1_000
    package static let subscriptionByteLimit = 1 << 20
    package static let questionLimit = 1_000

    package init(home: CredentialID) {
        self.home = home
    }

    // MARK: Home

    /// A slot's credential was refused to this caller.
    package mutating func refused(_ slot: CredentialID) {
        if slot == self.home || self.isHomeRefused { self.lastRefused = slot }
        self.refusedSlots.insert(slot)
    }

    /// Another upstream with credentials of its own serves the session, of which this one is the home.
    package mutating func settled(at slot: CredentialID) {
        self.home = slot
        self.lastRefused = nil
        self.refusedSlots = []
        self.revision = 0
    }

    /// The list of credentials may be another than when this was asked last; `isKnown` says whether one is in it.
    ///
    /// `revision` is the number of the list, from 0. What belongs to a home whose credential was removed goes on as if that
    /// had been refused: with the next message to one that is there, which is the new home once it is accepted.
    package mutating func follow(_ revision: UInt64, isKnown: (CredentialID) -> Bool) {
        guard revision != self.revision else { return }
        self.revision = revision
        self.refusedSlots = self.refusedSlots.filter(isKnown)
        if !isKnown(self.home), !self.isHomeRefused { self.lastRefused = self.home }
    }

    /// Whether the list of credentials is the one that was followed last, and the home was not refused since.
    package func isSettled(at revision: UInt64) -> Bool { revision == self.revision && !self.isHomeRefused }

    /// Whether a slot's credential was refused to this caller, and not accepted since.
    package func isRefused(_ slot: CredentialID) -> Bool { self.refusedSlots.contains(slot) }

    /// A slot's credential was accepted; returns whether it was refused before.
    package mutating func returned(_ slot: CredentialID) -> Bool {
        !self.refusedSlots.isEmpty && self.refusedSlots.remove(slot) != nil
    }

    /// A slot's credential was accepted; returns whether the session has a new home.
    package mutating func accepted(_ slot: CredentialID) -> Bool {
        guard self.isHomeRefused else { return false }
        self.lastRefused = nil
        guard slot != self.home else { return false }
        self.home = slot
        return true
    }

    /// What the caller subscribed to, in this order; a new home is told of it.
    package var subscriptions: [[UInt8]] { self.subscribedAt.sorted { $0.value < $1.value }.map(\.key) }

    /// Whether the caller subscribes to it.
    package func isSubscribed(to uri: [UInt8]) -> Bool { self.subscribedAt[uri] != nil }

    /// Whether one more subscription can be kept, or is: if not, the caller is told so, and the upstream hears nothing.
    package func canSubscribe(to uri: [UInt8]) -> Bool {
        self.subscribedAt[uri] != nil
            || self.subscribedAt.count < Self.subscriptionLimit
                && uri.count <= Self.subscriptionByteLimit - self.subscribedBytes
    }

    /// Returns whether it is kept.
    @discardableResult
    package mutating func subscribed(to uri: [UInt8]) -> Bool {
        guard self.canSubscribe(to: uri) else { return false }
        guard self.subscribedAt[uri] == nil else { return true }
        self.subscribedAt[uri] = self.nextSubscription
        self.nextSubscription += 1
        self.subscribedBytes += uri.count
        return true
    }

    package mutating func unsubscribed(from uri: [UInt8]) {
        if self.subscribedAt.removeValue(forKey: uri) != nil { self.subscribedBytes -= uri.count }
    }

    package mutating func leveled(_ severity: LogSeverity) { self.severity = severity }

    // MARK: Other slots

    /// Whether the caller is to have a message that came on the stream of another slot than its home.
    ///
    /// What is about one call or question is, wherever it runs; a log message is unless the caller wants no such level, of
    /// which the other slots were not told. What is about the server as a whole comes from home, once. `severity` is that of
    /// a log message.
    package func hearsAside(_ envelope: Envelope, severity: LogSeverity?) -> Bool {
        switch (envelope.kind, envelope.method) {
        case (.request, _): true
        case (.notification, .progressNotification?), (.notification, .cancelledNotification?),
            (.notification, .elicitationCompleteNotification?):
            true
        case (.notification, .messageNotification?):
            (severity ?? .emergency) >= (self.severity ?? .debug)
        case (.notification, _), (.result, _), (.error, _): false
        }
    }

    // MARK: Calls

    /// A request of the caller goes to a slot; `previous` is the one that it was sent to before, nil for its first attempt.
    package mutating func started(_ id: MessageIDValue, at slot: CredentialID, insteadOf previous: CredentialID? = nil)
    {
        guard var slots = self.calls[id] else {
            self.calls[id] = CallSlots(newest: slot)
            return
        }
        if slots.newest == previous {
            slots.newest = slot
        } else if let index = slots.older.lastIndex(where: { $0 == previous }) {
            slots.older[index] = slot
        } else {
            slots.older.append(slots.newest)
            slots.newest = slot
        }
        self.calls[id] = slots
    }

    /// A call has its answer, which was sent to this slot last.
    package mutating func ended(_ id: MessageIDValue, at slot: CredentialID) {
        guard var slots = self.calls[id] else { return }
        if slots.newest == slot {
            guard let next = slots.older.popLast() else {
                self.calls[id] = nil
                return
            }
            slots.newest = next
        } else if let index = slots.older.lastIndex(of: slot) {
            slots.older.remove(at: index)
        }
        self.calls[id] = slots
    }

    /// Where the call is that a cancellation names, the newest with this id; nil if there is none.
    package func slot(ofCall id: MessageIDValue) -> CredentialID? { self.calls[id]?.newest }

    // MARK: Questions

    /// The upstream asks the caller something in a slot's session.
    ///
    /// Returns the id under which the caller must be asked, as JSON text: nil as long as the upstream's own serves, which
    /// it does unless another slot's session has a question under the same.
    package mutating func asked(
        _ id: MessageIDValue,
        literal: [UInt8],
        token: MessageIDValue?,
        by slot: CredentialID
    ) -> [UInt8]? {
        guard self.questions.count < Self.questionLimit else { return nil }
        let question = Question(slot: slot, literal: literal, token: token)
        // One that has this id and the same literal is the same, repeated; with another it was given this id as a name.
        guard let other = self.questions[id], other.slot != slot || other.literal != literal else {
            self.keep(question, as: id)
            return nil
        }
        var name: [UInt8]
        repeat {
            name = Array("mcp-proxy-\(self.nextName)".utf8)
            self.nextName += 1
        } while self.questions[.string(name)] != nil
        self.keep(question, as: .string(name))
        return [UInt8(ascii: "\"")] + name + [UInt8(ascii: "\"")]
    }

    /// Where the question came from that has this id for the caller; nil if there is none.
    package func slot(ofQuestion id: MessageIDValue) -> CredentialID? { self.questions[id]?.slot }

    /// The id that a question has where it came from, which has this id for the caller, as JSON text; nil if there is none.
    package func literal(ofQuestion id: MessageIDValue) -> [UInt8]? { self.questions[id]?.literal }

    /// The caller answers a question: where it came from, and the id that it has there; nil if nobody asked.
    package mutating func answered(_ id: MessageIDValue) -> (slot: CredentialID, literal: [UInt8])? {
        self.forget(id).map { ($0.slot, $0.literal) }
    }

    /// A slot's session takes a question back, by the id that it has there; returns the id that the caller knows as JSON
    /// text, nil if it is the same.
    package mutating func withdrawn(_ id: MessageIDValue, literal: [UInt8], by slot: CredentialID) -> [UInt8]? {
        if let question = self.questions[id], question.slot == slot, question.literal == literal {
            _ = self.answered(id)
            return nil
        }
        let own = self.questions.first { $0.value.slot == slot && $0.value.literal == literal }
        guard let own, case .string(let name) = own.key else { return nil }
        _ = self.answered(own.key)
        return [UInt8(ascii: "\"")] + name + [UInt8(ascii: "\"")]
    }

    /// Where the question came from whose progress the caller reports, the last of those with this token; nil if nobody
    /// asked.
    package func slot(ofToken token: MessageIDValue) -> CredentialID? { self.tokens[token]?.last }

    private mutating func keep(_ question: Question, as id: MessageIDValue) {
        self.forget(id)
        self.questions[id] = question
        if let token = question.token { self.tokens[token, default: []].append(question.slot) }
    }

    @discardableResult
    private mutating func forget(_ id: MessageIDValue) -> Question? {
        guard let question = self.questions.removeValue(forKey: id) else { return nil }
        guard let token = question.token, var slots = self.tokens[token] else { return question }
        if let index = slots.lastIndex(of: question.slot) { slots.remove(at: index) }
        self.tokens[token] = slots.isEmpty ? nil : slots
        return question
    }
}
