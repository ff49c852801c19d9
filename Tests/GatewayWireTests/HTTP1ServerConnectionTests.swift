// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("The connection of a caller") struct HTTP1ServerConnectionTests {
    typealias Probe = ConnectionProbe
    typealias Stage = ConnectionStage
    typealias Outcome = ConnectionOutcome

    // MARK: Every event at every stage

    /// What one event means wherever it comes.
    struct Row: Sendable, CustomTestStringConvertible {
        struct Change: Sendable {
            let outcome: Outcome
            let stage: Stage
        }

        /// What happened just before.
        let before: [ConnectionEvent]
        let event: ConnectionEvent
        /// What it gives at the stages without an entry, which it leaves as they are.
        let otherwise: Outcome
        let changes: [Stage: Change]
        /// Whether it is an event after which no other request is promised.
        let isLast: Bool

        init(
            _ event: ConnectionEvent,
            after before: ConnectionEvent...,
            isLast: Bool = false,
            otherwise: Outcome,
            _ changes: [Stage: (Outcome, Stage)] = [:]
        ) {
            self.event = event
            self.before = before
            self.isLast = isLast
            self.otherwise = otherwise
            self.changes = changes.mapValues { Change(outcome: $0, stage: $1) }
        }

        static func everywhere(
            but exception: Stage? = nil,
            _ change: (Stage) -> (Outcome, Stage)
        ) -> [Stage: (Outcome, Stage)] {
            var changes: [Stage: (Outcome, Stage)] = [:]
            for stage in Stage.allCases where stage != exception { changes[stage] = change(stage) }
            return changes
        }

        var testDescription: String { self.before.isEmpty ? "\(self.event)" : "\(self.event) after \(self.before)" }
    }

    static let rows = [Self.reading, Self.admission, Self.answers, Self.ends].flatMap { $0 }

    static let reading: [Row] = [
        Row(.bytes(""), otherwise: .step(.wait), [.complete: (.step(.handOver), .answering)]),
        Row(
            .bytes("5"),
            otherwise: .step(.wait),
            [
                .idle: (.step(.wait), .head), .sizedBody: (.step(.body(0..<1, consumed: 1)), .sizedBody),
                .chunkedBody: (.step(.skip(1)), .chunkedBody), .complete: (.step(.handOver), .answering),
            ]
        ),
        Row(
            .bytes("abcd"),
            otherwise: .step(.wait),
            [
                .idle: (.step(.wait), .head), .sizedBody: (.step(.body(0..<4, consumed: 4)), .sizedBody),
                .chunkedBody: (.step(.skip(4)), .chunkedBody), .complete: (.step(.handOver), .answering),
            ]
        ),
        Row(
            .bytes(Probe.get),
            otherwise: .step(.wait),
            [
                .idle: (.step(.head(length: 27)), .admitting), .head: (.step(.head(length: 29)), .admitting),
                .sizedBody: (.step(.body(0..<5, consumed: 5)), .complete),
                .chunkedBody: (.step(.reject(HTTP1Error(.chunkSize))), .chunkedBody),
                .complete: (.step(.handOver), .answering),
            ]
        ),
        Row(
            .bytes("\u{1}"),
            otherwise: .step(.wait),
            [
                .idle: (.step(.reject(HTTP1Error(.requestLine))), .head),
                .head: (.step(.reject(HTTP1Error(.requestLine))), .head),
                .sizedBody: (.step(.body(0..<1, consumed: 1)), .sizedBody),
                .chunkedBody: (.step(.reject(HTTP1Error(.chunkSize))), .chunkedBody),
                .complete: (.step(.handOver), .answering),
            ]
        ),
        Row(
            .bytes("3\r\nabc\r\n0\r\n\r\n"),
            otherwise: .step(.wait),
            [
                .idle: (.step(.reject(HTTP1Error(.requestLine))), .head),
                .head: (.step(.reject(HTTP1Error(.requestLine))), .head),
                .sizedBody: (.step(.body(0..<5, consumed: 5)), .complete),
                .chunkedBody: (.step(.body(3..<6, consumed: 6)), .chunkedBody),
                .complete: (.step(.handOver), .answering),
            ]
        ),
        Row(
            .bytes("0\r\n\r\n"),
            otherwise: .step(.wait),
            [
                .idle: (.step(.reject(HTTP1Error(.requestLine))), .head),
                .head: (.step(.reject(HTTP1Error(.requestLine))), .head),
                .sizedBody: (.step(.body(0..<5, consumed: 5)), .complete),
                .chunkedBody: (.step(.skip(5)), .complete), .complete: (.step(.handOver), .answering),
            ]
        ),
        // Nothing new is begun for a caller that does not take its answers; what began is read to its end.
        Row(
            .bytes(Probe.get),
            after: .becameWritable(false),
            otherwise: .step(.wait),
            [
                .sizedBody: (.step(.body(0..<5, consumed: 5)), .complete),
                .chunkedBody: (.step(.reject(HTTP1Error(.chunkSize))), .chunkedBody),
                .complete: (.step(.handOver), .answering),
            ]
        ),
        // What came before the end of the caller's side counts, and the end is the end of what is missing.
        Row(
            .bytes(""),
            after: .inputClosed,
            otherwise: .step(.wait),
            [
                .idle: (.step(.flushAndClose), .flushing), .head: (.step(.flushAndClose), .flushing),
                .sizedBody: (.step(.flushAndClose), .flushing), .chunkedBody: (.step(.flushAndClose), .flushing),
                .complete: (.step(.handOver), .answering),
            ]
        ),
        Row(
            .bytes(Probe.get),
            after: .inputClosed,
            otherwise: .step(.wait),
            [
                .idle: (.step(.head(length: 27)), .admitting), .head: (.step(.head(length: 29)), .admitting),
                .sizedBody: (.step(.body(0..<5, consumed: 5)), .complete),
                .chunkedBody: (.step(.reject(HTTP1Error(.chunkSize))), .chunkedBody),
                .complete: (.step(.handOver), .answering),
            ]
        ),
    ]

    static let admission: [Row] = [
        Row(
            .admitted(Probe.get, available: 9),
            otherwise: .plan(.none),
            [.admitting: (.plan(.none), .complete)]
        ),
        Row(
            .admitted(Probe.post(0), available: 9),
            otherwise: .plan(.none),
            [.admitting: (.plan(.none), .complete)]
        ),
        Row(
            .admitted(Probe.post(9), available: 9),
            otherwise: .plan(.none),
            [.admitting: (.plan(.take(9)), .complete)]
        ),
        Row(
            .admitted(Probe.post(9), available: 8),
            otherwise: .plan(.none),
            [.admitting: (.plan(.collect(expecting: 9, sendsContinue: false)), .sizedBody)]
        ),
        Row(
            .admitted(Probe.chunked, available: 9),
            otherwise: .plan(.none),
            [.admitting: (.plan(.collect(expecting: 0, sendsContinue: false)), .chunkedBody)]
        ),
        Row(
            .admitted(Probe.post(4 << 20 | 1), available: 0),
            otherwise: .plan(.none),
            [.admitting: (.plan(.tooLarge), .admitting)]
        ),
        Row(
            .refused(Probe.get, available: 9),
            otherwise: .refusal(.answerAndClose),
            [.admitting: (.refusal(.answer(skipping: 0)), .answering)]
        ),
        Row(
            .refused(Probe.post(9), available: 9),
            otherwise: .refusal(.answerAndClose),
            [.admitting: (.refusal(.answer(skipping: 9)), .answering)]
        ),
        Row(.refused(Probe.post(9), available: 8), otherwise: .refusal(.answerAndClose)),
        Row(.refused(Probe.chunked, available: 9), otherwise: .refusal(.answerAndClose)),
        Row(
            .answersAndCloses,
            isLast: true,
            otherwise: .nothing,
            Row.everywhere(but: .closed) { _ in (.nothing, .lingering) }
        ),
    ]

    static let answers: [Row] = [
        Row(.answerBegins, otherwise: .flag(false), [.answering: (.flag(true), .answeringWithHead)]),
        // A second answer is refused.
        Row(
            .answerBegins,
            after: .answerBegins,
            otherwise: .flag(false),
            [.answering: (.flag(false), .answeringWithHead)]
        ),
        Row(.framing(length: 0, minorVersion: 0), otherwise: .framing(.length)),
        Row(.framing(length: 7, minorVersion: 1), otherwise: .framing(.length)),
        Row(.framing(length: nil, minorVersion: 1), otherwise: .framing(.chunked)),
        Row(.framing(length: nil, minorVersion: 0), isLast: true, otherwise: .framing(.close)),
        Row(.keepNoLonger, isLast: true, otherwise: .nothing),
        Row(
            .answered(hasInput: false),
            otherwise: .after(.nothing),
            [.answering: (.after(.next), .idle), .answeringWithHead: (.after(.next), .idle)]
        ),
        Row(
            .answered(hasInput: true),
            otherwise: .after(.nothing),
            [.answering: (.after(.next), .idle), .answeringWithHead: (.after(.next), .idle)]
        ),
        Row(
            .answered(hasInput: true),
            after: .keepNoLonger,
            isLast: true,
            otherwise: .after(.nothing),
            [
                .answering: (.after(.flushAndClose), .flushing),
                .answeringWithHead: (.after(.flushAndClose), .flushing),
            ]
        ),
        Row(
            .answered(hasInput: true),
            after: .framing(length: nil, minorVersion: 0),
            isLast: true,
            otherwise: .after(.nothing),
            [
                .answering: (.after(.flushAndClose), .flushing),
                .answeringWithHead: (.after(.flushAndClose), .flushing),
            ]
        ),
        Row(
            .answered(hasInput: false),
            after: .inputClosed,
            otherwise: .after(.nothing),
            [
                .answering: (.after(.flushAndClose), .flushing),
                .answeringWithHead: (.after(.flushAndClose), .flushing),
            ]
        ),
        Row(
            .answered(hasInput: true),
            after: .inputClosed,
            otherwise: .after(.nothing),
            [.answering: (.after(.next), .idle), .answeringWithHead: (.after(.next), .idle)]
        ),
        Row(
            .answered(hasInput: true),
            after: .drain,
            isLast: true,
            otherwise: .after(.nothing),
            [
                .idle: (.after(.nothing), .flushing), .answering: (.after(.flushAndClose), .flushing),
                .answeringWithHead: (.after(.flushAndClose), .flushing),
            ]
        ),
    ]

    static let ends: [Row] = [
        Row(.brokeOff, otherwise: .nothing, Row.everywhere { _ in (.breakOff(.reset), .closed) }),
        Row(
            .inputClosed,
            otherwise: .flag(false),
            [.answering: (.flag(true), .answering), .answeringWithHead: (.flag(true), .answeringWithHead)]
        ),
        Row(.becameWritable(true), otherwise: .nothing),
        Row(.becameWritable(false), otherwise: .nothing),
        Row(
            .closed,
            otherwise: .flag(false),
            Row.everywhere { stage in (.flag(stage.says.isAnswering), .closed) }
        ),
        Row(.tick(pending: 0), otherwise: .tick(.nothing)),
        Row(.tick(pending: 1), otherwise: .tick(.nothing)),
        Row(
            .drain,
            isLast: true,
            otherwise: .drain(.nothing),
            [
                .idle: (.drain(.flushAndClose), .flushing), .answering: (.drain(.tell), .answering),
                .answeringWithHead: (.drain(.tell), .answeringWithHead),
            ]
        ),
        Row(
            .drain,
            after: .drain,
            isLast: true,
            otherwise: .drain(.nothing),
            [
                .idle: (.drain(.nothing), .flushing), .answering: (.drain(.tell), .answering),
                .answeringWithHead: (.drain(.tell), .answeringWithHead),
            ]
        ),
    ]

    @Test("Every event means what the table says at every stage", arguments: rows)
    func everyEventEverywhere(_ row: Row) {
        for stage in Stage.allCases {
            var probe = Probe(at: stage)
            let keptAlive = probe.machine.keepsAlive
            for event in row.before { _ = probe.apply(event) }
            let outcome = probe.apply(row.event)
            let expected = row.changes[stage] ?? Row.Change(outcome: row.otherwise, stage: stage)
            #expect(outcome == expected.outcome, "at \(stage)")
            let (says, keepsAlive) = (probe.says, probe.machine.keepsAlive)
            #expect(says == expected.stage.says, "at \(stage)")
            if !(row.isLast && stage == .closed) {
                #expect(keepsAlive == (keptAlive && !row.isLast), "at \(stage)")
            }
            let found = probe.stage()
            #expect(found == expected.stage, "at \(stage)")
        }
    }

    @Test("A machine says at every stage where it is", arguments: Stage.allCases)
    func saysWhereItIs(_ stage: Stage) {
        let probe = Probe(at: stage)
        let says = probe.says
        #expect(says == stage.says)
        let found = probe.stage()
        #expect(found == stage)
    }

    // MARK: Bounds

    @Test("The last request that a connection may carry is the last one", arguments: [0, 1, 2, 3])
    func requestsPerConnection(limit: Int) {
        var probe = Probe { $0.requestsPerConnection = limit }
        let last = max(limit, 1)
        probe.bytes = latin1(String(repeating: Probe.get, count: last + 1))
        for request in 1...last {
            probe.serve("")
            let keepsAlive = probe.machine.keepsAlive
            #expect(keepsAlive == (request < last))
            let after = probe.answer()
            #expect(after == (request < last ? .next : .flushAndClose))
        }
        let next = probe.next()
        #expect(next == .wait)
    }

    @Test("A body of exactly the bound is read, by its length and in chunks", arguments: [7, 8, 9])
    func bodyBytes(count: Int) {
        var sized = Probe { $0.bodyBytes = 8 }
        let plan = sized.begin(Probe.post(count))
        #expect(plan == (count > 8 ? .tooLarge : .collect(expecting: count, sendsContinue: false)))

        var whole = Probe { $0.bodyBytes = 8 }
        let taken = whole.begin(Probe.post(count) + String(repeating: "x", count: count))
        #expect(taken == (count > 8 ? .tooLarge : .take(count)))
        if count > 8 {
            // Too large, but here: the connection goes on behind it.
            let refusal = whole.machine.refused(whole.parser, available: count)
            #expect(refusal == .answer(skipping: count))
        }

        for first in [0, 5] {
            var chunked = Probe { $0.bodyBytes = 8 }
            chunked.begin(Probe.chunked)
            if first > 0 {
                let body = chunked.receive("5\r\nabcde")
                #expect(body == .body(3..<8, consumed: 8))
                chunked.receive("\r\n")
            }
            let step = chunked.receive("\(count - first)\r\n" + String(repeating: "x", count: count - first))
            #expect(step == (count > 8 ? .rejectBody : .body(3..<3 + count - first, consumed: 3 + count - first)))
        }
    }

    @Test("The bound of a body counts for each request anew")
    func bodyBytesAgain() {
        var probe = Probe { $0.bodyBytes = 5 }
        for _ in 0..<3 {
            probe.begin(Probe.chunked)
            let body = probe.receive("5\r\nabcde")
            #expect(body == .body(3..<8, consumed: 8))
            probe.receive("\r\n0\r\n\r\n")
            let handOver = probe.next()
            #expect(handOver == .handOver)
            probe.answer()
        }
    }

    // MARK: Requests

    @Test("A caller that waits for a 100 gets one, unless it did not wait", arguments: [0, 1])
    func expectations(available: Int) {
        var probe = Probe(at: .idle)
        let plan = probe.begin(
            Probe.post(5, fields: "Expect: 100-continue\r\n") + String(repeating: "x", count: available)
        )
        #expect(plan == .collect(expecting: 5, sendsContinue: available == 0))
    }

    @Test(
        "Requests that came before the caller shut down its side are all answered, and nothing else is",
        arguments: ["", "\r\n", "GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcd"]
    )
    func halfClose(rest: String) {
        var probe = Probe(at: .idle)
        probe.bytes = latin1(String(repeating: Probe.get + Probe.post(3) + "abc", count: 3) + rest)
        _ = probe.machine.inputClosed()
        var served = 0
        steps: while true {
            switch probe.next() {
            case .head: if case .take(let count) = probe.admit() { probe.bytes.removeFirst(count) }
            case .handOver:
                served += 1
                let after = probe.answer()
                #expect(after == (served == 6 && rest.isEmpty ? .flushAndClose : .next))
            case .flushAndClose, .wait: break steps
            default: break
            }
        }
        #expect(served == 6)
        let stage = probe.stage()
        #expect(stage == .flushing)
    }

    @Test(
        "What a head says about the connection holds for the request behind it",
        arguments: [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false), ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ]
    )
    func keepsAlive(head: String, keepsAlive: Bool) {
        var probe = Probe(at: .idle)
        probe.serve(head + Probe.get)
        let found = probe.machine.keepsAlive
        #expect(found == keepsAlive)
        let after = probe.answer()
        #expect(after == (keepsAlive ? .next : .flushAndClose))
    }

    @Test("An answer to HTTP/1.0 without a length ends with the connection, though the caller asked to keep it")
    func untilClose() {
        var probe = Probe(at: .idle)
        probe.serve("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        let framing = probe.machine.framing(ofLength: nil, minorVersion: probe.parser.minorVersion)
        #expect(framing == .close)
        let after = probe.answer()
        #expect(after == .flushAndClose)
    }

    @Test(
        "An answer that breaks off takes none before it along, unless only a reset can tell",
        arguments: [
            (hasInput: false, minorVersion: 1, .reset), (hasInput: true, minorVersion: 1, .flushAndClose),
            (hasInput: true, minorVersion: 0, .reset),
        ] as [(hasInput: Bool, minorVersion: Int, HTTP1ServerConnection.BreakOff)]
    )
    func breaksOff(hasInput: Bool, minorVersion: Int, breakOff: HTTP1ServerConnection.BreakOff) {
        var probe = Probe(at: .idle)
        probe.serve(Probe.get)
        _ = probe.machine.answerBegins()
        _ = probe.machine.answered(hasInput: hasInput, now: .zero)
        probe.serve(Probe.get)
        _ = probe.machine.answerBegins()
        _ = probe.machine.framing(ofLength: nil, minorVersion: minorVersion)
        let found = probe.machine.brokeOff()
        #expect(found == breakOff)
        let takesInput = probe.machine.takesInput
        #expect(!takesInput)
    }

    @Test("Only the answer to HEAD is without its body", arguments: [("HEAD", true), ("GET", false)])
    func headRequests(method: String, isHead: Bool) {
        var probe = Probe(at: .idle)
        probe.serve("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        probe.answer()
        probe.serve("\(method) / HTTP/1.1\r\nHost: h\r\n\r\n")
        let found = probe.machine.isHeadRequest
        #expect(found == isHead)
    }
}
