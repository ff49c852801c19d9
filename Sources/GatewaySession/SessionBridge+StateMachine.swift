// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

extension SessionBridge {
    package struct StateMachine: ~Copyable {
        private struct Caller {
            var capabilities: Set<Capability>
            var severity: LogSeverity?
            /// Whether another upstream session serves it, so that it has nothing here but what had begun.
            var hasMoved = false
            /// Its calls in flight, oldest first.
            var calls: [Int64] = []
            /// What it was asked and has not answered.
            var questions: Set<Int64> = []
            /// The progress tokens of those, and how many have each.
            var tokens: [MessageIDValue: Int] = [:]
        }

        private struct Call {
            /// nil: the gateway's own.
            var caller: Int?
            /// What a cancellation names it by; nil once it was cancelled.
            var id: MessageIDValue?
            /// The calls of its caller with the same id that came next before and after it, of those that can be named.
            var older: Int64?
            var newer: Int64?
            var literal: [UInt8]
            var token: [UInt8]?
            /// `subscriptions/listen`: it lasts as long as its caller likes, and nothing is done for it meanwhile.
            var isListening = false

            /// Whether the upstream may be at work on it for a caller.
            var isWork: Bool { self.caller != nil && !self.isListening }
        }

        private struct Withdrawn {
            var caller: Int
            /// The age of the session when it was withdrawn.
            var age: Int
        }

        private struct PendingQuestion {
            var caller: Int
            var id: MessageIDValue
            var literal: [UInt8]
            var token: MessageIDValue?
        }

        private struct CallerMessageID: Hashable {
            var caller: Int
            var id: MessageIDValue
        }

        private(set) var sharing: Sharing
        let carrier: MessageRouter.Carrier
        private var next: Int64 = 1
        /// Requests of the stateless era stand alone: each is a caller of its own, below zero.
        private var nextStatelessCaller = -1
        private var callers: [Int: Caller] = [:]
        private var calls: [Int64: Call] = [:]
        /// The newest call that can be named by an id.
        private var callIDs: [CallerMessageID: Int64] = [:]
        private var questions: [Int64: PendingQuestion] = [:]
        private var questionIDs: [MessageIDValue: Int64] = [:]
        private var subscriptions = Subscriptions()
        /// Whose the calls are that were withdrawn and that the upstream has not answered; empty where one caller owns the
        /// session.
        private var withdrawn: [Int64: Withdrawn] = [:]
        /// Counts the calls of `grewOlder`.
        private var age = 0
        /// When more calls were withdrawn than are remembered.
        private var doubtAge = 0
        /// How many calls of a caller the upstream has not answered, those that were withdrawn included; also for callers
        /// that have left.
        private var unanswered: [Int: Int] = [:]
        /// Whether more calls were withdrawn than are remembered, so that nobody knows any more whom something concerns.
        private var isInDoubt = false

        package init(sharing: Sharing, carrier: MessageRouter.Carrier = .oneStream) {
            self.sharing = sharing
            self.carrier = carrier
        }

        /// The upstream turned out to speak the stateless era, before anybody joined.
        package mutating func becameStateless() { self.sharing = .stateless }

        package var callCount: Int { self.calls.count }
        /// Whether the upstream is at work on a call that somebody waits for; a `subscriptions/listen` is none.
        package var isWorking: Bool { self.calls.values.contains { $0.isWork } }
        package var callerCount: Int { self.callers.count }
        package func callCount(of caller: Int) -> Int { self.callers[caller]?.calls.count ?? 0 }

        // MARK: Callers

        package mutating func joined(_ caller: Int, capabilities: Set<Capability>) {
            self.callers[caller] = Caller(capabilities: capabilities)
        }

        package mutating func left(_ caller: Int) -> Departure {
            var departure = Departure()
            guard let gone = self.callers[caller] else { return departure }
            for call in gone.calls where self.withdraw(call) { departure.cancelled.append(call) }
            for number in gone.questions.sorted() {
                if let question = self.forget(question: number) { departure.unanswered.append(question.literal) }
            }
            self.callers[caller] = nil
            departure.unsubscribed = self.subscriptions.removeAll(of: caller)
            return departure
        }

        // MARK: Succession

        /// The number that was given out last, to a call or a question.
        package var lastNumber: Int64 { self.next - 1 }

        /// This session takes the place of one whose last number is known: no question here has a number that one there has, since
        /// callers answer by number, whichever session asked.
        package mutating func follows(_ number: Int64) {
            // No bridge lives as long as to get there.
            guard number < .max / 2 else { return }
            self.next = max(self.next, number + SessionBridge.successionDistance + 1)
        }

        /// What a caller can be asked; nothing if it is not known.
        package func capabilities(of caller: Int) -> Set<Capability> { self.callers[caller]?.capabilities ?? [] }

        /// Another upstream session serves a caller from now on; returns what it asked of this one.
        ///
        /// Its calls here go on, and so does what it was asked. What this upstream says unasked is for it no longer.
        package mutating func moved(_ caller: Int) -> Wishes {
            var wishes = Wishes()
            guard let known = self.callers[caller] else { return wishes }
            wishes.capabilities = known.capabilities
            wishes.severity = known.severity
            wishes.subscriptions = self.subscriptions.uris(of: caller)
            self.callers[caller]?.hasMoved = true
            self.callers[caller]?.severity = nil
            _ = self.subscriptions.removeAll(of: caller)
            return wishes
        }

        /// A caller that came from another upstream session asks for the same here; returns what the upstream has to hear of it:
        /// the resources that nobody subscribed to so far, and the level if it is another one now.
        ///
        /// What is above the bounds is left out.
        package mutating func came(
            _ caller: Int,
            with wishes: Wishes
        ) -> (resources: [[UInt8]], severity: LogSeverity?) {
            guard self.callers[caller] != nil else { return ([], nil) }
            let resources = wishes.subscriptions.filter { uri in
                let isNew = !self.subscriptions.contains(uri)
                return self.subscriptions.insert(uri, of: caller) && isNew
            }
            guard let severity = wishes.severity, self.callers[caller]?.severity == nil else { return (resources, nil) }
            let before = self.severity
            let lowest = self.leveled(caller, severity)
            return (resources, lowest == before ? nil : lowest)
        }

        // MARK: What callers send

        /// A request of a caller; `literal` and `token` are its id and progress token as written.
        ///
        /// Returns the id under which to send it, which is its progress token too. Calls of one caller may have equal ids.
        ///
        /// `isListening`: it is a `subscriptions/listen`, which never makes its caller one that the upstream works for.
        package mutating func requested(
            by caller: Int,
            id: MessageIDValue,
            literal: [UInt8],
            token: [UInt8]?,
            isListening: Bool = false
        ) -> Int64 {
            let number = self.takeNumber()
            var call = Call(caller: caller, id: id, literal: literal, token: token, isListening: isListening)
            call.older = self.callIDs.updateValue(number, forKey: CallerMessageID(caller: caller, id: id))
            if let older = call.older { self.calls[older]?.newer = number }
            self.calls[number] = call
            self.callers[caller]?.calls.append(number)
            if !isListening { self.unanswered[caller, default: 0] += 1 }
            return number
        }

        /// A request of the gateway itself.
        package mutating func requestedByGateway() -> Int64 {
            let call = self.takeNumber()
            self.calls[call] = Call(caller: nil, id: nil, literal: [], token: nil)
            return call
        }

        /// A caller's response; nil if nobody asked it that: else the id that the upstream wrote.
        package mutating func responded(by caller: Int, id: MessageIDValue) -> [UInt8]? {
            guard case .integer(let number) = id, let question = self.questions[number], question.caller == caller
            else { return nil }
            self.forget(question: number)
            return question.literal
        }

        /// A caller's `notifications/cancelled`: the call that it means, the newest with this id that is in flight and was not
        /// cancelled before; nil if there is none.
        package mutating func cancelled(by caller: Int, id: MessageIDValue) -> Int64? {
            guard let number = self.callIDs[CallerMessageID(caller: caller, id: id)], let call = self.calls[number]
            else { return nil }
            self.forgetID(of: call)
            self.calls[number]?.id = nil
            return number
        }

        /// No cancellation names this call any more.
        private mutating func forgetID(of call: Call) {
            guard let caller = call.caller, let id = call.id else { return }
            if let newer = call.newer {
                self.calls[newer]?.older = call.older
            } else {
                self.callIDs[CallerMessageID(caller: caller, id: id)] = call.older
            }
            if let older = call.older { self.calls[older]?.newer = call.newer }
        }

        /// Whether a caller may report progress under this token: the upstream put it in a question that the caller has not
        /// answered.
        package func isAsked(_ caller: Int, token: MessageIDValue) -> Bool {
            self.callers[caller]?.tokens[token] != nil
        }

        /// A caller wants messages of this severity and above; returns the least severe that anybody wants.
        package mutating func leveled(_ caller: Int, _ severity: LogSeverity) -> LogSeverity {
            self.callers[caller]?.severity = severity
            return self.severity ?? severity
        }

        /// The least severe messages that anybody wants; nil if nobody said.
        package var severity: LogSeverity? { self.callers.values.compactMap(\.severity).min() }

        /// A caller subscribes to a resource; false if it, or all together, subscribe to as much as they may
        /// (``SessionBridge/subscriptionBounds``): it is answered so, and the upstream hears nothing.
        package mutating func subscribed(_ caller: Int, to resource: [UInt8]) -> Bool {
            self.callers[caller] != nil && self.subscriptions.insert(resource, of: caller)
        }

        /// Returns whether nobody subscribes to it any more.
        package mutating func unsubscribed(_ caller: Int, from resource: [UInt8]) -> Bool {
            self.subscriptions.remove(resource, of: caller)
        }

        /// Whether somebody subscribes to it.
        package func isSubscribed(_ resource: [UInt8]) -> Bool { self.subscriptions.contains(resource) }

        /// Everything that somebody subscribes to.
        package var resources: Set<[UInt8]> { self.subscriptions.uris }

        /// Takes a call back that its caller gave up or that took too long; false if it is over already.
        ///
        /// Its caller may use the id again at once. The upstream may go on with the call, so that the caller counts as busy
        /// until there is an answer, or until the upstream session is lost.
        package mutating func withdraw(_ call: Int64) -> Bool {
            guard let entry = self.remove(call) else { return false }
            guard entry.isWork, let caller = entry.caller else { return true }
            if self.sharing == .exclusive || self.isInDoubt {
                self.settle(caller)
            } else if self.withdrawn.count < SessionBridge.withdrawnLimit {
                self.withdrawn[call] = Withdrawn(caller: caller, age: self.age)
            } else {
                self.forgetWithdrawn()
                self.isInDoubt = true
                self.doubtAge = self.age
            }
            return true
        }

        // MARK: What the upstream sends

        /// A response with this id; every call is answered once.
        ///
        /// One to a call that was withdrawn is for nobody, but its caller is busy with it no longer.
        package mutating func answered(_ id: MessageIDValue) -> Response {
            guard case .integer(let number) = id else { return .unknown }
            if let call = self.withdrawn.removeValue(forKey: number) {
                self.settle(call.caller)
                return .unknown
            }
            guard let call = self.remove(number) else { return .unknown }
            guard let caller = call.caller else { return .own(call: number) }
            if call.isWork { self.settle(caller) }
            return .answer(call: number, id: call.literal)
        }

        /// A request; `literal` is its id as written, `token` its progress token, `call` the one on whose own stream it came,
        /// if it came on one.
        package mutating func asked(
            _ method: MCPMethod,
            id: MessageIDValue,
            literal: [UInt8],
            token: MessageIDValue? = nil,
            during call: Int64? = nil
        ) -> Question {
            guard let caller = self.addressee(of: method, during: call), self.questionIDs[id] == nil,
                self.callers[caller]?.questions.count ?? 0 < SessionBridge.questionLimit
            else { return .refuse }
            let number = self.takeNumber()
            self.questions[number] = PendingQuestion(caller: caller, id: id, literal: literal, token: token)
            self.questionIDs[id] = number
            self.callers[caller]?.questions.insert(number)
            if let token { self.callers[caller]?.tokens[token, default: 0] += 1 }
            return .ask(caller: caller, call: call ?? self.callers[caller]?.calls.last, id: number)
        }

        private func addressee(of method: MCPMethod, during call: Int64?) -> Int? {
            switch self.sharing {
            case .stateless:
                return nil
            case .exclusive:
                return self.callers.keys.first
            case .shared:
                guard let capability = Capability(method), let caller = self.caller(during: call),
                    self.callers[caller]?.capabilities.contains(capability) == true
                else { return nil }
                return caller
            }
        }

        /// Whom something concerns: the caller of the call on whose stream it came, else the only one that it can be.
        private func caller(during call: Int64?) -> Int? {
            if let call { return self.calls[call]?.caller }
            return self.onlyBusyCaller
        }

        /// The one caller that the upstream owes answers; nil if there are more, or none, or if that one has left.
        private var onlyBusyCaller: Int? {
            guard !self.isInDoubt, self.unanswered.count == 1, let caller = self.unanswered.keys.first,
                self.callers[caller] != nil
            else { return nil }
            return caller
        }

        /// The one call that the upstream can be at work on for a caller; nil if there are more, or none.
        private var onlyCall: Int64? {
            guard !self.isInDoubt, self.withdrawn.isEmpty else { return nil }
            var only: Int64?
            for (number, call) in self.calls where call.isWork {
                guard only == nil else { return nil }
                only = number
            }
            return only
        }

        /// Whether a caller may still answer what it was asked under this id.
        package func isOpen(question id: Int64) -> Bool { self.questions[id] != nil }

        /// Takes back a question that could not be delivered; the id as the upstream wrote it, or nil if it is over.
        package mutating func undelivered(_ id: Int64) -> [UInt8]? {
            self.forget(question: id)?.literal
        }

        /// The id of a call as its caller wrote it; nil if it is over.
        package func literal(of call: Int64) -> [UInt8]? { self.calls[call]?.literal }

        /// Progress with this token: the call, and the token that its caller wrote.
        package func progressed(_ token: MessageIDValue) -> (call: Int64, token: [UInt8])? {
            guard case .integer(let number) = token, let own = self.calls[number]?.token else { return nil }
            return (number, own)
        }

        /// The upstream takes a question back; the id under which its caller knows it.
        package mutating func cancelled(_ id: MessageIDValue) -> (audience: Audience, id: Int64)? {
            guard let number = self.questionIDs[id], let question = self.forget(question: number) else { return nil }
            return (.caller(question.caller, call: self.callers[question.caller]?.calls.last), number)
        }

        /// A log message of this severity (nil: unknown), on the stream of `call` if it came on one.
        package func logged(_ severity: LogSeverity?, during call: Int64? = nil) -> Audience {
            switch self.sharing {
            case .exclusive:
                return self.owner
            case .shared:
                guard let caller = self.caller(during: call), let entry = self.callers[caller] else {
                    return .nobody(isLogged: true)
                }
                if let wanted = entry.severity, let severity, severity < wanted { return .nobody(isLogged: false) }
                return .caller(caller, call: call ?? entry.calls.last)
            case .stateless:
                // Only a call that asked for messages gets any, so the only one that there is is the one.
                let concerned = call.map { self.calls[$0] == nil ? nil : $0 } ?? self.onlyCall
                return concerned.map(Audience.call) ?? .nobody(isLogged: true)
            }
        }

        /// A list changed.
        package var listChanged: Audience {
            guard self.sharing != .exclusive else { return self.owner }
            return .callers(self.callers.compactMap { $0.value.hasMoved ? nil : $0.key }.sorted())
        }

        /// A resource changed.
        package func updated(_ resource: [UInt8]) -> Audience {
            guard self.sharing != .exclusive else { return self.owner }
            return .callers(self.subscriptions.callers(of: resource))
        }

        /// A notification that the gateway knows nothing about.
        package var unknownNotification: Audience {
            self.sharing == .exclusive ? self.owner : .nobody(isLogged: false)
        }

        private var owner: Audience {
            guard let (number, caller) = self.callers.first else { return .nobody(isLogged: true) }
            return .caller(number, call: caller.calls.last)
        }

        /// The upstream session is gone, and with it every call and question; returns the calls.
        ///
        /// Callers stay, with what they subscribed to.
        package mutating func upstreamLost() -> [Int64] {
            let lost = self.calls.keys.sorted()
            for call in self.calls.values {
                if let caller = call.caller { self.callers[caller]?.calls.removeAll() }
            }
            self.calls.removeAll()
            self.callIDs.removeAll()
            for number in self.questions.keys.sorted() { self.forget(question: number) }
            self.forgetWithdrawn()
            return lost
        }

        /// The upstream session was opened anew, and the calls that are in flight go on in the new one.
        ///
        /// Those that were withdrawn ran in the old one: nothing comes of them any more.
        package mutating func renewed() { self.forgetWithdrawn() }

        /// The time has passed that a call may take: calls that were withdrawn before the last time that it did are over,
        /// whether or not the upstream ever says so.
        package mutating func grewOlder() {
            self.age += 1
            if self.isInDoubt, self.doubtAge <= self.age - 2 { return self.forgetWithdrawn() }
            for (number, call) in self.withdrawn where call.age <= self.age - 2 {
                self.withdrawn[number] = nil
                self.settle(call.caller)
            }
        }

        private mutating func forgetWithdrawn() {
            self.withdrawn.removeAll()
            self.isInDoubt = false
            self.unanswered = self.calls.values.reduce(into: [:]) { counts, call in
                if call.isWork, let caller = call.caller { counts[caller, default: 0] += 1 }
            }
        }

        /// A caller has one call fewer that it may hear of.
        private mutating func settle(_ caller: Int) {
            guard let count = self.unanswered[caller] else { return }
            self.unanswered[caller] = count > 1 ? count - 1 : nil
        }

        private mutating func remove(_ number: Int64) -> Call? {
            guard let call = self.calls.removeValue(forKey: number) else { return nil }
            self.forgetID(of: call)
            if let caller = call.caller {
                if let index = self.callers[caller]?.calls.firstIndex(of: number) {
                    self.callers[caller]?.calls.remove(at: index)
                }
            }
            return call
        }

        @discardableResult
        private mutating func forget(question number: Int64) -> PendingQuestion? {
            guard let question = self.questions.removeValue(forKey: number) else { return nil }
            self.questionIDs[question.id] = nil
            self.callers[question.caller]?.questions.remove(number)
            if let token = question.token, let count = self.callers[question.caller]?.tokens[token] {
                self.callers[question.caller]?.tokens[token] = count > 1 ? count - 1 : nil
            }
            return question
        }

        /// Whose a call is; nil if it is over, or the gateway's own.
        func caller(of call: Int64) -> Int? { self.calls[call]?.caller }

        mutating func takeStatelessCaller() -> Int {
            defer { self.nextStatelessCaller -= 1 }
            return self.nextStatelessCaller
        }

        private mutating func takeNumber() -> Int64 {
            defer { self.next += 1 }
            return self.next
        }
    }
}
