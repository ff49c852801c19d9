// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// Where a connection can be between two events.
enum ConnectionStage: CaseIterable, Sendable {
    case idle, head, admitting, sizedBody, chunkedBody, complete, answering, answeringWithHead, flushing, lingering
    case closed

    /// What the machine says there.
    var says: Says {
        Says(
            isAnswering: [.answering, .answeringWithHead].contains(self),
            hasBegunAnswer: self == .answeringWithHead,
            isIdle: self == .idle,
            isClosed: self == .closed,
            takesInput: ![.flushing, .lingering, .closed].contains(self)
        )
    }

    struct Says: Equatable {
        var isAnswering: Bool
        var hasBegunAnswer: Bool
        var isIdle: Bool
        var isClosed: Bool
        var takesInput: Bool
    }
}

/// Anything that can happen to a connection.
enum ConnectionEvent: Sendable {
    /// These bytes arrive, and the machine looks at what waits once.
    case bytes(String)
    /// The request with this head is admitted, so many bytes behind it being here.
    case admitted(String, available: Int)
    case refused(String, available: Int)
    case answersAndCloses
    case answerBegins
    case framing(length: Int?, minorVersion: Int)
    case keepNoLonger
    case answered(hasInput: Bool)
    case brokeOff
    case inputClosed
    case becameWritable(Bool)
    case closed
    case tick(pending: Int)
    case drain
}

/// What the machine gives back.
enum ConnectionOutcome: Equatable, Sendable {
    case step(HTTP1ServerConnection.Step)
    case plan(HTTP1ServerConnection.BodyPlan)
    case refusal(HTTP1ServerConnection.Refusal)
    case framing(HTTP1ServerConnection.AnswerFraming)
    case after(HTTP1ServerConnection.AfterAnswer)
    case breakOff(HTTP1ServerConnection.BreakOff)
    case tick(HTTP1ServerConnection.Tick)
    case drain(HTTP1ServerConnection.Drain)
    case flag(Bool)
    case nothing
}

/// A machine with what its driver holds: the bytes that wait, the parser and the clock.
struct ConnectionProbe: ~Copyable {
    static let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    static let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

    static func post(_ length: Int, fields: String = "") -> String {
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(length)\r\n\(fields)\r\n"
    }

    /// A parser that has read this head.
    static func parser(_ head: String) -> HTTP1RequestParser {
        var parser = HTTP1RequestParser()
        let bytes = latin1(head)
        _ = outcome { () throws(HTTP1Error) in try parser.parse(bytes.span) }
        return parser
    }

    var machine: HTTP1ServerConnection.StateMachine
    var parser = HTTP1RequestParser()
    var bytes: [UInt8] = []
    var now = Duration.zero

    init(_ change: (inout HTTP1ServerConnection.Limits) -> Void = { _ in }) {
        var limits = HTTP1ServerConnection.Limits()
        change(&limits)
        self.machine = .init(limits, now: .zero)
    }

    /// A new connection that was led to this stage without any time passing.
    init(at stage: ConnectionStage) {
        self.init()
        switch stage {
        case .idle: break
        case .head: self.receive("\r\n")
        case .admitting: self.receive(Self.post(5))
        case .sizedBody: self.begin(Self.post(5))
        case .chunkedBody: self.begin(Self.chunked)
        case .complete: self.begin(Self.get)
        case .answering: self.serve(Self.get)
        case .answeringWithHead:
            self.serve(Self.get)
            _ = self.machine.answerBegins()
        case .flushing:
            _ = self.machine.inputClosed()
            self.next()
        case .lingering: self.machine.answersAndCloses(now: .zero)
        case .closed: _ = self.machine.closed()
        }
    }

    var says: ConnectionStage.Says {
        ConnectionStage.Says(
            isAnswering: self.machine.isAnswering,
            hasBegunAnswer: self.machine.hasBegunAnswer,
            isIdle: self.machine.isIdle,
            isClosed: self.machine.isClosed,
            takesInput: self.machine.takesInput
        )
    }

    // MARK: Events

    /// One look at what waits; what is done with is dropped.
    @discardableResult
    mutating func next() -> HTTP1ServerConnection.Step {
        if self.machine.isIdle { self.parser.reset() }
        let (bytes, now) = (self.bytes, self.now)
        let step = self.machine.next(bytes.span, &self.parser, now: now)
        switch step {
        case .head(let count), .body(_, let count), .skip(let count): self.bytes.removeFirst(count)
        default: break
        }
        return step
    }

    @discardableResult
    mutating func receive(_ text: String) -> HTTP1ServerConnection.Step {
        self.bytes += latin1(text)
        return self.next()
    }

    @discardableResult
    mutating func admit() -> HTTP1ServerConnection.BodyPlan {
        let now = self.now
        return self.machine.admitted(self.parser, available: self.bytes.count, now: now)
    }

    /// A head comes and is admitted.
    @discardableResult
    mutating func begin(_ head: String) -> HTTP1ServerConnection.BodyPlan {
        self.receive(head)
        return self.admit()
    }

    /// A request without a body comes, and is handed over.
    mutating func serve(_ head: String) {
        self.begin(head)
        self.next()
    }

    /// The request is answered.
    @discardableResult
    mutating func answer() -> HTTP1ServerConnection.AfterAnswer {
        _ = self.machine.answerBegins()
        let now = self.now
        return self.machine.answered(hasInput: !self.bytes.isEmpty, now: now)
    }

    @discardableResult
    mutating func tick(
        at time: Duration,
        written: UInt64 = 0,
        pending: Int = 0
    ) -> HTTP1ServerConnection.Tick {
        self.now = time
        return self.machine.tick(written: written, pending: pending, now: time)
    }

    mutating func apply(_ event: ConnectionEvent) -> ConnectionOutcome {
        let now = self.now
        switch event {
        case .bytes(let text): return .step(self.receive(text))
        case .admitted(let head, let available):
            return .plan(self.machine.admitted(Self.parser(head), available: available, now: now))
        case .refused(let head, let available):
            return .refusal(self.machine.refused(Self.parser(head), available: available))
        case .answersAndCloses: self.machine.answersAndCloses(now: now)
        case .answerBegins: return .flag(self.machine.answerBegins())
        case .framing(let length, let minorVersion):
            return .framing(self.machine.framing(ofLength: length, minorVersion: minorVersion))
        case .keepNoLonger: self.machine.keepNoLonger()
        case .answered(let hasInput): return .after(self.machine.answered(hasInput: hasInput, now: now))
        case .brokeOff: return .breakOff(self.machine.brokeOff())
        case .inputClosed: return .flag(self.machine.inputClosed())
        case .becameWritable(let isWritable): self.machine.becameWritable(isWritable)
        case .closed: return .flag(self.machine.closed())
        case .tick(let pending): return .tick(self.machine.tick(written: 1, pending: pending, now: now))
        case .drain: return .drain(self.machine.drain(now: now))
        }
        return .nothing
    }

    // MARK: Stages

    /// Finds out where the connection is by what it does next.
    consuming func stage() -> ConnectionStage {
        if self.machine.isClosed { return .closed }
        if self.machine.hasBegunAnswer { return .answeringWithHead }
        if self.machine.isAnswering { return .answering }
        if self.machine.isIdle { return .idle }
        if !self.machine.takesInput { return self.tick(at: self.now + .seconds(9)) == .close ? .lingering : .flushing }
        self.machine.becameWritable(true)
        self.parser.reset()
        self.bytes = latin1("0\r\n\r\n")
        return switch self.next() {
        case .handOver: .complete
        case .wait: .admitting
        case .reject(let error): error.reason == .requestLine ? .head : .chunkedBody
        case .body(let range, _): range.lowerBound == 0 ? .sizedBody : .chunkedBody
        default: .chunkedBody
        }
    }
}
