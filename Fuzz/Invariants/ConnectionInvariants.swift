// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// What holds of the connection of a caller, whatever happens to it in whatever order.
///
/// An input is a script and what the caller sends: the first byte counts the moves, the moves follow, and the rest is
/// the stream of the caller. The lower half of a move says what happens, and the upper half how much of it.
enum ConnectionInvariants {
    /// How a walk ended.
    struct End {
        var violation: String?
        /// Where the connection was after the last move.
        var stage = ConnectionModel.Stage.idle
        /// How many requests were handed over, or refused with an answer behind which the connection went on.
        var served = 0
    }

    /// What is violated by `bytes`; nil if nothing is.
    static func violation(of bytes: [UInt8]) -> String? { self.walk(bytes).violation }

    static func walk(_ bytes: [UInt8]) -> End {
        let count = min(Int(bytes.first ?? 0), max(bytes.count - 1, 0))
        let moves = bytes.dropFirst().prefix(count)
        var walk = ConnectionWalk(stream: Array(bytes.dropFirst(1 + count)))
        var end = End()
        do throws(ConnectionViolation) {
            for move in moves { try walk.make(Int(move & 15), by: Int(move >> 4)) }
            end.stage = walk.model.stage
            end.served = walk.served.count
            try walk.checkServed()
            try walk.leadToEnd()
        } catch {
            end.violation = error.text
        }
        return end
    }
}

struct ConnectionViolation: Error {
    let text: String

    static func check(_ condition: Bool, _ text: @autoclosure () -> String) throws(ConnectionViolation) {
        if !condition { throw ConnectionViolation(text: text()) }
    }
}

/// Where a connection is and for how long, by the rules that its users are told, in the fewest words.
struct ConnectionModel {
    enum Stage: CaseIterable {
        case idle, head, body, answering, flushing, lingering, closed
    }

    private(set) var stage = Stage.idle
    private var deadline: Duration?
    private var bodyBegan = Duration.zero
    private var bodyBytes = 0
    private(set) var isDraining = false
    /// When the caller was last known to take enough, and how much it had taken until then.
    private var reader: (since: Duration, taken: UInt64)?
    private let limits: HTTP1ServerConnection.Limits

    init(_ limits: HTTP1ServerConnection.Limits) {
        self.limits = limits
        self.deadline = limits.headTimeout
    }

    mutating func enter(_ stage: Stage, now: Duration) {
        self.stage = stage
        switch stage {
        case .idle: self.deadline = now + self.limits.idleTimeout
        case .head: self.deadline = now + self.limits.headTimeout
        case .body:
            (self.bodyBegan, self.bodyBytes) = (now, 0)
            self.deadline = now + (self.isDraining ? .seconds(3) : self.limits.bodyTimeout)
        case .lingering: self.deadline = now + .seconds(2)
        case .answering, .flushing, .closed: self.deadline = nil
        }
    }

    mutating func bodyGrew(by count: Int) {
        self.bodyBytes += count
        guard let deadline, !self.isDraining else { return }
        let bought = Duration.milliseconds(self.bodyBytes * 1000 / self.limits.bodyRate)
        self.deadline = max(deadline, self.bodyBegan + self.limits.bodyTimeout + bought)
    }

    mutating func drain(now: Duration) -> HTTP1ServerConnection.Drain {
        self.isDraining = true
        switch self.stage {
        case .idle:
            self.enter(.flushing, now: now)
            return .flushAndClose
        case .head, .body: self.deadline = self.deadline.map { min($0, now + .seconds(3)) }
        case .answering: return .tell
        case .flushing, .lingering, .closed: break
        }
        return .nothing
    }

    mutating func tick(written: UInt64, pending: Int, isBlocked: Bool, now: Duration) -> HTTP1ServerConnection.Tick {
        guard self.stage != .closed else { return .nothing }
        let taken = written - UInt64(pending)
        if pending == 0 {
            self.reader = nil
        } else if let reader, taken < reader.taken + 16_384 {
            if now - reader.since >= self.limits.slowReader {
                if self.stage != .answering { self.enter(.closed, now: now) }
                return .breakSlowReader
            }
        } else {
            self.reader = (now, taken)
        }
        if self.stage == .idle, pending > 0, let deadline {
            self.deadline = max(deadline, now + self.limits.idleTimeout)
        }
        guard let deadline, now >= deadline else { return .nothing }
        switch self.stage {
        case .idle:
            self.enter(.flushing, now: now)
            return .flushAndClose
        case .head: return isBlocked ? .nothing : .tooSlow
        case .body: return .tooSlow
        case .lingering:
            self.enter(.closed, now: now)
            return .close
        case .answering, .flushing, .closed: return .nothing
        }
    }
}

/// A machine, a model of it, and a driver that does what a driver does.
struct ConnectionWalk: ~Copyable {
    /// A request that somebody answered.
    struct Served {
        /// How many bytes of the stream were done with when it was handed over.
        var end: Int
        /// nil if it was refused by its head.
        var body: [UInt8]?
    }

    private static let headLimits = HTTP1HeadLimits(headBytes: 160, fields: 8, targetBytes: 40)
    private static let bodyLimit = 96
    private static let requestLimit = 6
    /// What may wait behind the request that is worked on before the driver stops to read.
    private static let inputLimit = 256
    private static let (lowWater, highWater) = (8 * 1024, 32 * 1024)

    private var machine: HTTP1ServerConnection.StateMachine
    private(set) var model: ConnectionModel
    private var parser = HTTP1RequestParser(limits: ConnectionWalk.headLimits)
    private let stream: [UInt8]
    private var arrived = 0
    private var consumed = 0
    private var body: [UInt8] = []
    private var now = Duration.zero
    private var written: UInt64 = 0
    private var pending = 0
    private var isBlocked = false
    private var isInputClosed = false
    /// Which of the next requests are refused.
    private var refusals = 0
    private var hasBegun = false
    /// Whether another request may follow the one that is worked on.
    private var keepsAlive = true
    private(set) var served: [Served] = []

    init(stream: [UInt8]) {
        var limits = HTTP1ServerConnection.Limits()
        limits.bodyBytes = Self.bodyLimit
        limits.bodyRate = 2
        limits.requestsPerConnection = Self.requestLimit
        self.stream = stream
        self.machine = .init(limits, now: .zero)
        self.model = ConnectionModel(limits)
    }

    // MARK: Moves

    mutating func make(_ move: Int, by amount: Int) throws(ConnectionViolation) {
        switch move {
        case 0: try self.arrive(1 + amount)
        case 1: try self.arrive(8 * (1 + amount))
        case 2: try self.arrive(Self.inputLimit)
        case 3: try self.respond(bytes: 512 << (amount / 2))
        case 4: try self.begin(minorVersion: amount == 15 ? 0 : 1)
        case 5: if self.machine.hasBegunAnswer { try self.write(1024 * (1 + amount)) }
        case 6: try self.finish()
        case 7: try self.take(amount == 15 ? .max : 1024 * (1 + amount))
        case 8, 9: try self.wait(Self.waits[amount])
        case 10: self.refusals = amount
        case 11: try self.closeInput()
        case 12: try self.drain()
        case 13: try self.close()
        case 14: try self.answerWithoutRight()
        default: try self.read()
        }
        try self.check()
    }

    private static let waits: [Duration] = [
        .milliseconds(1), .milliseconds(999), .seconds(1), .seconds(2), .seconds(3), .seconds(5), .milliseconds(9999),
        .seconds(10), .seconds(15), .milliseconds(29_999), .seconds(30), .milliseconds(59_999), .seconds(60),
        .seconds(74), .seconds(75), .seconds(3600),
    ]

    /// So many bytes of the stream arrive, unless too many wait already.
    private mutating func arrive(_ count: Int) throws(ConnectionViolation) {
        guard !self.isInputClosed, self.model.stage != .closed, self.waiting < Self.inputLimit else { return }
        let end = min(self.arrived + count, self.stream.count)
        // The driver throws away what is of no use.
        if self.machine.takesInput { self.arrived = end }
        try self.read()
    }

    private var waiting: Int { self.arrived - self.consumed }

    private mutating func write(_ count: Int) throws(ConnectionViolation) {
        guard self.model.stage != .closed else { return }
        self.written += UInt64(count)
        self.pending += count
        guard self.pending > Self.highWater else { return }
        self.isBlocked = true
        self.machine.becameWritable(false)
    }

    /// The caller takes so much of what waits for it.
    private mutating func take(_ count: Int) throws(ConnectionViolation) {
        self.pending -= min(count, self.pending)
        guard self.isBlocked, self.pending <= Self.lowWater else { return }
        self.isBlocked = false
        self.machine.becameWritable(true)
        try self.read()
    }

    private mutating func closeInput() throws(ConnectionViolation) {
        guard !self.isInputClosed else { return }
        self.isInputClosed = true
        let tells = self.machine.inputClosed()
        try Self.check(tells == (self.model.stage == .answering), "the wrong ones are told that the caller left")
        if !tells { try self.read() }
    }

    private mutating func close() throws(ConnectionViolation) {
        let tells = self.machine.closed()
        try Self.check(tells == (self.model.stage == .answering), "the wrong ones are told of the end")
        self.hasBegun = false
        self.model.enter(.closed, now: self.now)
    }

    private mutating func drain() throws(ConnectionViolation) {
        let found = self.machine.drain(now: self.now)
        self.keepsAlive = false
        let expected = self.model.drain(now: self.now)
        try Self.check(found == expected, "drain gives \(found), not \(expected)")
    }

    private mutating func wait(_ duration: Duration) throws(ConnectionViolation) {
        self.now += duration
        let found = self.machine.tick(written: self.written, pending: self.pending, now: self.now)
        let expected = self.model.tick(
            written: self.written,
            pending: self.pending,
            isBlocked: self.isBlocked,
            now: self.now
        )
        try Self.check(found == expected, "tick gives \(found), not \(expected), at \(self.model.stage)")
        switch found {
        case .tooSlow: try self.answerAndClose()
        case .breakSlowReader, .close: try self.close()
        case .flushAndClose, .nothing: break
        }
    }

    // MARK: Answers

    private mutating func respond(bytes: Int) throws(ConnectionViolation) {
        guard self.model.stage == .answering else { return }
        let begins = self.machine.answerBegins()
        try Self.check(begins == !self.hasBegun, "a second answer")
        // A driver breaks a connection on which somebody answers twice.
        guard begins else { return try self.close() }
        self.hasBegun = true
        try self.write(bytes)
        try self.finish()
    }

    private mutating func begin(minorVersion: Int) throws(ConnectionViolation) {
        guard self.model.stage == .answering, !self.hasBegun else { return }
        try Self.check(self.machine.answerBegins(), "no answer may begin")
        self.hasBegun = true
        let framing = self.machine.framing(ofLength: nil, minorVersion: minorVersion)
        try Self.check(framing == (minorVersion == 0 ? .close : .chunked), "an end that nobody sees")
        if minorVersion == 0 { self.keepsAlive = false }
        try self.write(512)
    }

    private mutating func finish() throws(ConnectionViolation) {
        try Self.check(self.machine.hasBegunAnswer == self.hasBegun, "an answer that began and did not")
        guard self.hasBegun else { return }
        let after = self.machine.answered(hasInput: self.waiting > 0, now: self.now)
        let isNext = self.keepsAlive && (!self.isInputClosed || self.waiting > 0)
        try Self.check(after == (isNext ? .next : .flushAndClose), "\(after) behind an answer")
        self.hasBegun = false
        self.model.enter(isNext ? .idle : .flushing, now: self.now)
        try self.read()
    }

    /// Somebody answers what nobody asked.
    private mutating func answerWithoutRight() throws(ConnectionViolation) {
        guard self.model.stage != .answering else { return }
        let after = self.machine.answered(hasInput: true, now: self.now)
        try Self.check(!self.machine.answerBegins() && after == .nothing, "an answer without a request")
    }

    private mutating func answerAndClose() throws(ConnectionViolation) {
        self.machine.answersAndCloses(now: self.now)
        self.consumed = self.arrived
        try self.write(200)
        self.model.enter(.lingering, now: self.now)
    }

    // MARK: Reading

    private mutating func read() throws(ConnectionViolation) {
        while true {
            if self.machine.isIdle { self.parser.reset() }
            let waiting = Array(self.stream[self.consumed..<self.arrived])
            if self.model.stage == .idle, !waiting.isEmpty, !self.isBlocked {
                self.model.enter(.head, now: self.now)
            }
            let stage = self.model.stage
            let now = self.now
            let step = self.machine.next(waiting.span, &self.parser, now: now)
            switch step {
            case .wait: return try self.checkWait()
            case .head(let length):
                try Self.check(stage == .head, "a head out of place")
                try Self.check(length > 0 && length <= waiting.count, "bytes that do not exist")
                self.consumed += length
                self.body = []
                try self.admit()
            case .body(let range, let count):
                try Self.check(stage == .body, "a body out of place")
                try Self.check(
                    !range.isEmpty && range.upperBound <= count && count <= waiting.count,
                    "bytes that do not exist"
                )
                self.body += waiting[range]
                self.consumed += count
                self.model.bodyGrew(by: range.count)
                try Self.check(self.body.count <= Self.bodyLimit, "a body that is larger than its bound")
            case .skip(let count):
                try Self.check(stage == .body, "a body out of place")
                try Self.check(count > 0 && count <= waiting.count, "bytes that do not exist")
                self.consumed += count
            case .handOver:
                try Self.check(stage == .body, "a request that nobody sent")
                self.served.append(Served(end: self.consumed, body: self.body))
                self.model.enter(.answering, now: self.now)
                return
            case .reject, .rejectBody:
                try Self.check(stage == .head || stage == .body, "nothing to reject")
                return try self.answerAndClose()
            case .flushAndClose:
                try Self.check(self.isInputClosed, "an end though more may come")
                self.model.enter(.flushing, now: self.now)
                return
            }
        }
    }

    private mutating func admit() throws(ConnectionViolation) {
        let isLast = self.served.count + 1 >= Self.requestLimit
        self.keepsAlive = self.parser.keepsAlive && !isLast && !self.model.isDraining
        let (available, now) = (self.waiting, self.now)
        if self.refusals > 0 {
            self.refusals -= 1
            return try self.refuse()
        }
        // Until it is handed over, the request counts as one whose body is read.
        self.model.enter(.body, now: self.now)
        switch self.machine.admitted(self.parser, available: available, now: now) {
        case .none: break
        case .take(let count):
            try Self.check(count > 0 && count <= available, "bytes that do not exist")
            try Self.check(count <= Self.bodyLimit, "a body that is larger than its bound")
            self.body = Array(self.stream[self.consumed..<(self.consumed + count)])
            self.consumed += count
        case .collect(let expecting, let sendsContinue):
            try Self.check((0...Self.bodyLimit).contains(expecting), "more is expected than is taken")
            try Self.check(!sendsContinue || available == 0, "a 100 that comes late")
        case .tooLarge: try self.refuse()
        }
    }

    private mutating func refuse() throws(ConnectionViolation) {
        let available = self.waiting
        switch self.machine.refused(self.parser, available: available) {
        case .answer(let count):
            try Self.check((0...available).contains(count), "bytes that do not exist")
            self.consumed += count
            self.served.append(Served(end: self.consumed, body: nil))
            self.model.enter(.answering, now: self.now)
        case .answerAndClose: try self.answerAndClose()
        }
    }

    // MARK: What holds

    private static func check(_ condition: Bool, _ text: @autoclosure () -> String) throws(ConnectionViolation) {
        try ConnectionViolation.check(condition, text())
    }

    /// What waits is bounded, a head by its limit, and of a body nothing waits; nothing waits for what cannot come.
    private func checkWait() throws(ConnectionViolation) {
        let isHeldUp = self.isBlocked && (self.model.stage == .head || self.waiting > 0)
        if [.idle, .head, .body].contains(self.model.stage), !isHeldUp {
            try Self.check(!self.isInputClosed, "a wait for a caller who is done")
        }
        switch self.model.stage {
        case .idle: try Self.check(self.waiting == 0 || self.isBlocked, "bytes that nobody looks at")
        case .head:
            try Self.check(self.waiting < Self.headLimits.headBytes || self.isBlocked, "a head without a bound")
        case .body: try Self.check(self.waiting == 0, "bytes of a body that wait")
        case .answering, .flushing, .lingering, .closed: break
        }
    }

    private func check() throws(ConnectionViolation) {
        let stage = self.model.stage
        try Self.check(self.machine.isIdle == (stage == .idle), "idle or not, at \(stage)")
        try Self.check(self.machine.isAnswering == (stage == .answering), "answering or not, at \(stage)")
        try Self.check(self.machine.isClosed == (stage == .closed), "closed or not, at \(stage)")
        let isOver = [.flushing, .lingering, .closed].contains(stage)
        try Self.check(self.machine.takesInput == !isOver, "taking bytes or not, at \(stage)")
        try Self.check(self.waiting <= 2 * Self.inputLimit, "too many bytes wait")
        if stage == .answering { try Self.check(self.machine.keepsAlive == self.keepsAlive, "kept or not") }
    }

    /// Each request was handed over once, in their order, when its last byte was done with, and not before.
    func checkServed() throws(ConnectionViolation) {
        var start = 0
        for served in self.served {
            var parser = HTTP1RequestParser(limits: Self.headLimits)
            guard let length = (try? parser.parse(self.stream.span.extracting(start..<self.stream.count))) ?? nil else {
                throw ConnectionViolation(text: "a request that nobody sent")
            }
            start += length
            var body: [UInt8] = []
            switch parser.framing {
            case .none, .untilClose: break
            case .length(let count):
                try Self.check(count <= self.stream.count - start, "a request that is not complete")
                body = Array(self.stream[start..<(start + count)])
                start += count
            case .chunked:
                var decoder = HTTP1ChunkedDecoder()
                while !decoder.hasEnded {
                    guard let step = try? decoder.next(self.stream.span.extracting(start..<self.stream.count)),
                        decoder.consumed > 0
                    else { throw ConnectionViolation(text: "a request that is not complete") }
                    if case .data(let range) = step {
                        body += self.stream[(start + range.lowerBound)..<(start + range.upperBound)]
                    }
                    start += decoder.consumed
                }
            }
            try Self.check(served.end == start, "a request that ends at \(served.end), not at \(start)")
            try Self.check(served.body == nil || served.body == body, "another body")
        }
    }

    /// Wherever the connection is, the clock alone leads to its end once the caller took everything, unless somebody
    /// answers.
    mutating func leadToEnd() throws(ConnectionViolation) {
        try self.take(.max)
        for _ in 0..<3 { try self.wait(.seconds(3600)) }
        let stage = self.model.stage
        try Self.check([.answering, .flushing, .closed].contains(stage), "a connection that stays, at \(stage)")
        for _ in 0..<99 where self.model.stage == .answering { try self.respond(bytes: 1) }
        try self.close()
        try self.checkClosed()
    }

    /// After the end nothing happens any more.
    private mutating func checkClosed() throws(ConnectionViolation) {
        let (before, waiting, now) = (self.served.count, self.stream, self.now)
        try Self.check(self.machine.next(waiting.span, &self.parser, now: now) == .wait, "steps after the end")
        let tick = self.machine.tick(written: .max, pending: 1, now: now + .seconds(9999))
        try Self.check(tick == .nothing, "a tick after the end")
        let drain = self.machine.drain(now: now)
        try Self.check(drain == .nothing, "a drain after the end")
        let (answers, isTold) = (self.machine.answerBegins(), self.machine.inputClosed())
        let isToldAgain = self.machine.closed()
        try Self.check(!answers && !isTold && !isToldAgain, "somebody is told after the end")
        let after = self.machine.answered(hasInput: true, now: now)
        try Self.check(after == .nothing && self.served.count == before, "an answer after the end")
        self.machine.answersAndCloses(now: now)
        try Self.check(self.machine.isClosed && !self.machine.takesInput, "a connection that came back")
    }
}
