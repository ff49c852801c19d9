// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("A stream of events to a caller") struct ResumableStreamTests {
    typealias Probe = StreamProbe
    typealias Stage = StreamStage
    typealias Outcome = StreamOutcome

    static let wait = ResumableStream.Loss.wait(Probe.patience)

    // MARK: Every event at every stage

    /// What one event means wherever it comes.
    struct Row: Sendable, CustomTestStringConvertible {
        struct Change: Sendable {
            let outcome: Outcome
            let stage: Stage
        }

        /// What happened just before.
        let before: [StreamEvent]
        let event: StreamEvent
        /// What it gives at the stages without an entry, which it leaves as they are.
        let otherwise: Outcome
        let changes: [Stage: Change]

        init(
            _ event: StreamEvent,
            after before: StreamEvent...,
            otherwise: Outcome,
            _ changes: [Stage: (Outcome, Stage)] = [:]
        ) {
            self.event = event
            self.before = before
            self.otherwise = otherwise
            self.changes = changes.mapValues { Change(outcome: $0, stage: $1) }
        }

        var testDescription: String { self.before.isEmpty ? "\(self.event)" : "\(self.event) after \(self.before)" }
    }

    static let rows = [Self.connections, Self.events, Self.ends, Self.insideOwnWrites].flatMap { $0 }

    static func stays(_ opening: ResumableStream.Opening = .nothing, isAnother: Bool = true) -> Outcome {
        .attachment(.stay(opening, isAnother: isAnother))
    }

    static let connections: [Row] = [
        // A caller that names no event gets what comes from now on.
        Row(
            .attached(after: nil),
            otherwise: .attachment(.close),
            [
                .unattached: (stays(isAnother: false), .attached), .attached: (stays(), .attached),
                .attachedAgain: (stays(), .attachedAgain), .attachedLast: (stays(), .attachedLast),
                .lost: (stays(), .attachedAgain),
            ]
        ),
        // One that does lost a connection, whether anybody noticed or not.
        Row(
            .attached(after: 1),
            otherwise: .attachment(.takeRest(after: 1, patience: Probe.patience)),
            [
                .unattached: (stays(.events(after: 1), isAnother: false), .attachedAgain),
                .attached: (stays(.events(after: 1)), .attachedAgain),
                .attachedAgain: (stays(.events(after: 1)), .attachedAgain),
                .attachedLast: (stays(.events(after: 1)), .attachedLast),
                .lost: (stays(.events(after: 1)), .attachedAgain),
                .kept: (.attachment(.takeRest(after: 1, patience: Probe.patience)), .awaited),
                .over: (.attachment(.close), .over),
            ]
        ),
        Row(
            .connectionLost,
            otherwise: .loss(.nothing),
            [
                .attached: (.loss(wait), .lost), .attachedAgain: (.loss(wait), .lost),
                .attachedLast: (.loss(.end), .over),
            ]
        ),
        Row(
            .becameWritable,
            otherwise: .flag(false),
            [
                .attached: (.flag(true), .attached), .attachedAgain: (.flag(true), .attachedAgain),
                .attachedLast: (.flag(true), .attachedLast),
            ]
        ),
    ]

    static let events: [Row] = [
        Row(
            .sends(size: 5, isWritable: true),
            otherwise: .sending(.send),
            [
                .unattached: (.sending(.keep), .unattached), .lost: (.sending(.keep), .lost),
                .kept: (.sending(.drop), .kept), .awaited: (.sending(.drop), .awaited),
                .over: (.sending(.drop), .over),
            ]
        ),
        Row(
            .sends(size: 5, isWritable: false),
            otherwise: .sending(.send),
            [
                .unattached: (.sending(.keep), .unattached), .lost: (.sending(.keep), .lost),
                .kept: (.sending(.drop), .kept), .awaited: (.sending(.drop), .awaited),
                .over: (.sending(.drop), .over),
            ]
        ),
        // More than may pile up waits: the connection breaks, and with it a stream that nobody could find again.
        Row(
            .sends(size: 5, isWritable: false),
            after: .sends(size: Probe.overdueLimit + 1, isWritable: false),
            otherwise: .sending(.drop),
            [
                .unattached: (.sending(.keep), .unattached), .lost: (.sending(.keep), .lost),
                .attached: (.sending(.breakConnection(wait)), .lost),
                .attachedAgain: (.sending(.breakConnection(wait)), .lost),
                .attachedLast: (.sending(.breakConnection(.end)), .over),
            ]
        ),
        Row(.shareExceeded, otherwise: .nothing),
    ]

    static let ends: [Row] = [
        Row(
            .finished,
            otherwise: .finish(.nothing),
            [
                .unattached: (.finish(.end), .over), .attached: (.finish(.keep), .kept),
                .attachedAgain: (.finish(.wait(Probe.patience)), .awaited), .attachedLast: (.finish(.end), .over),
                .lost: (.finish(.nothing), .awaited),
            ]
        ),
        Row(.noRoom, otherwise: .flag(false), [.kept: (.flag(true), .over)]),
        Row(
            .patienceEnded,
            otherwise: .flag(false),
            [.lost: (.flag(true), .over), .awaited: (.flag(true), .over)]
        ),
        // Whoever has a connection is not given up.
        Row(
            .gaveUp,
            otherwise: .flag(false),
            [.lost: (.flag(true), .over), .kept: (.flag(true), .over), .awaited: (.flag(true), .over)]
        ),
        Row(
            .sessionEnded,
            otherwise: .flag(false),
            [
                .attached: (.flag(false), .attachedLast), .attachedAgain: (.flag(false), .attachedLast),
                .lost: (.flag(true), .over), .kept: (.flag(true), .over), .awaited: (.flag(true), .over),
            ]
        ),
        Row(
            .reset,
            otherwise: .flag(true),
            [
                .unattached: (.flag(true), .over), .attached: (.flag(true), .over),
                .attachedAgain: (.flag(true), .over), .attachedLast: (.flag(true), .over),
                .lost: (.flag(true), .over), .kept: (.flag(true), .over), .awaited: (.flag(true), .over),
                .over: (.flag(false), .over),
            ]
        ),
    ]

    /// The connection says that it is closed in the middle of what the driver does with it: the machine has decided before.
    static let insideOwnWrites: [Row] = [
        // Inside the send of an event.
        Row(
            .connectionLost,
            after: .sends(size: 5, isWritable: true),
            otherwise: .loss(.nothing),
            [
                .attached: (.loss(wait), .lost), .attachedAgain: (.loss(wait), .lost),
                .attachedLast: (.loss(.end), .over),
            ]
        ),
        // Inside the replay to a connection that just came; the rest of a finished stream goes to one that it never had.
        Row(
            .connectionLost,
            after: .attached(after: 1),
            otherwise: .loss(.nothing),
            [
                .unattached: (.loss(wait), .lost), .attached: (.loss(wait), .lost),
                .attachedAgain: (.loss(wait), .lost),
                .attachedLast: (.loss(.end), .over), .lost: (.loss(wait), .lost), .kept: (.loss(.nothing), .awaited),
            ]
        ),
        // Inside the end in order: what follows is known already.
        Row(
            .connectionLost,
            after: .finished,
            otherwise: .loss(.nothing),
            [
                .unattached: (.loss(.nothing), .over), .attached: (.loss(.nothing), .kept),
                .attachedAgain: (.loss(.nothing), .awaited), .attachedLast: (.loss(.nothing), .over),
                .lost: (.loss(.nothing), .awaited),
            ]
        ),
        // Inside the reset of a connection to which too much piled up, and inside that of the whole stream.
        Row(
            .connectionLost,
            after: .sends(size: Probe.overdueLimit + 1, isWritable: false),
            .sends(size: 5, isWritable: false),
            otherwise: .loss(.nothing),
            [
                .attached: (.loss(.nothing), .lost), .attachedAgain: (.loss(.nothing), .lost),
                .attachedLast: (.loss(.nothing), .over),
            ]
        ),
        Row(
            .connectionLost,
            after: .reset,
            otherwise: .loss(.nothing),
            Dictionary(uniqueKeysWithValues: Stage.allCases.map { ($0, (.loss(.nothing), .over)) })
        ),
        // A second connection, a second end and a last event come inside as well.
        Row(
            .attached(after: nil),
            after: .connectionLost,
            otherwise: .attachment(.close),
            [
                .unattached: (stays(isAnother: false), .attached), .attached: (stays(), .attachedAgain),
                .attachedAgain: (stays(), .attachedAgain), .attachedLast: (.attachment(.close), .over),
                .lost: (stays(), .attachedAgain),
            ]
        ),
        Row(
            .finished,
            after: .connectionLost,
            otherwise: .finish(.nothing),
            [
                .unattached: (.finish(.end), .over), .attached: (.finish(.nothing), .awaited),
                .attachedAgain: (.finish(.nothing), .awaited), .attachedLast: (.finish(.nothing), .over),
                .lost: (.finish(.nothing), .awaited),
            ]
        ),
        Row(
            .finished,
            after: .finished,
            otherwise: .finish(.nothing),
            [
                .unattached: (.finish(.nothing), .over), .attached: (.finish(.nothing), .kept),
                .attachedAgain: (.finish(.nothing), .awaited), .attachedLast: (.finish(.nothing), .over),
                .lost: (.finish(.nothing), .awaited),
            ]
        ),
        Row(
            .sends(size: 5, isWritable: true),
            after: .finished,
            otherwise: .sending(.drop),
            [
                .unattached: (.sending(.drop), .over), .attached: (.sending(.drop), .kept),
                .attachedAgain: (.sending(.drop), .awaited), .attachedLast: (.sending(.drop), .over),
                .lost: (.sending(.drop), .awaited),
            ]
        ),
    ]

    @Test("Every event means what the table says at every stage", arguments: rows)
    func everyEventEverywhere(_ row: Row) {
        for stage in Stage.allCases {
            var probe = Probe(at: stage)
            for event in row.before { probe.apply(event) }
            let outcome = probe.apply(row.event)
            let expected = row.changes[stage] ?? Row.Change(outcome: row.otherwise, stage: stage)
            #expect(outcome == expected.outcome, "at \(stage)")
            let isEmpty = probe.machine.keptBytes == 0
            let found = probe.stage()
            #expect(found == expected.stage, "at \(stage)")
            #expect(isEmpty || expected.stage != .over, "at \(stage)")
        }
    }

    @Test("A machine tells by what it does where it is", arguments: Stage.allCases)
    func tellsWhereItIs(_ stage: Stage) {
        let found = Probe(at: stage).stage()
        #expect(found == stage)
    }

    // MARK: What a connection gets first

    @Test("A connection that begins anew is primed, and one that takes up is not", arguments: Stage.allCases)
    func priming(_ stage: Stage) {
        for event in [nil, 1] {
            var probe = Probe(at: stage, isPrimed: true)
            let outcome = probe.apply(.attached(after: event))
            guard case .attachment(.stay(let opening, _)) = outcome else {
                #expect([.kept, .awaited, .over].contains(stage))
                continue
            }
            #expect(opening == (event == nil ? .priming : .events(after: 1)))
        }
    }

    @Test(
        "What was sent before the first connection came is sent to it, whatever it asks for",
        arguments: [true, false]
    )
    func beforeTheFirst(isPrimed: Bool) {
        var probe = Probe(isPrimed: isPrimed)
        for _ in 1...3 { probe.apply(.sends(size: 10, isWritable: true)) }
        let first = probe.apply(.attached(after: nil))
        #expect(first == Self.stays(.events(after: 0), isAnother: false))
        #expect(probe.machine.events(after: 0) == [1, 2, 3])
        // Nothing was lost by that, so the end is no more likely to be missed than any other.
        let finish = probe.apply(.finished)
        #expect(finish == .finish(.keep))
    }

    // MARK: Streams without ids

    @Test("A stream that is not resumable has no ids, keeps nothing, and is over with its connection")
    func notResumable() {
        for end in [StreamEvent.connectionLost, .finished, .reset] {
            var probe = Probe(isResumable: false, isPrimed: true)
            #expect(probe.machine.nextEvent == nil)
            let early = probe.apply(.sends(size: 10, isWritable: true))
            #expect(early == .sending(.drop))
            let first = probe.apply(.attached(after: 7))
            #expect(first == Self.stays(isAnother: false))
            let sent = probe.apply(.sends(size: 10, isWritable: true))
            #expect(sent == .sending(.send))
            #expect(probe.machine.keptBytes == 0)
            let outcome = probe.apply(end)
            let expected: Outcome =
                switch end {
                case .connectionLost: .loss(.end)
                case .finished: .finish(.end)
                default: .flag(true)
                }
            #expect(outcome == expected)
            let stage = probe.stage()
            #expect(stage == .over)
        }
    }

    // MARK: Bounds

    @Test(
        "Beside one event no more than `overdueLimit` piles up in a connection that takes nothing",
        arguments: [-1, 0, 1]
    )
    func overdue(above: Int) {
        var probe = Probe(at: .attached)
        probe.apply(.becameWritable)
        let size = Probe.overdueLimit + above
        let first = probe.apply(.sends(size: size, isWritable: false))
        #expect(first == .sending(.send))
        let second = probe.apply(.sends(size: 500, isWritable: false))
        // However large it was, the event is kept for when its caller comes back.
        #expect(second == .sending(above > 0 ? .breakConnection(Self.wait) : .send))
        #expect(probe.machine.events(after: 2) == [3, 4])
    }

    @Test(
        "A connection that took something may have as much again, and so may another in its place",
        arguments: [StreamEvent.becameWritable, .attached(after: nil), .sends(size: 0, isWritable: true)]
    )
    func taken(event: StreamEvent) {
        var probe = Probe(at: .attached)
        probe.apply(.sends(size: Probe.overdueLimit + 1, isWritable: false))
        probe.apply(event)
        let next = probe.apply(.sends(size: 500, isWritable: false))
        #expect(next == .sending(.send))
    }

    @Test(
        "An end of at most `keptUnasked` is kept for a caller that nobody knows to have lost one",
        arguments: [-1, 0, 1]
    )
    func keptUnasked(above: Int) {
        var probe = Probe(keptUnasked: 100)
        probe.apply(.attached(after: nil))
        probe.apply(.sends(size: 100 + above, isWritable: true))
        let finish = probe.apply(.finished)
        #expect(finish == .finish(above > 0 ? .end : .keep))
        #expect(probe.machine.keptBytes == (above > 0 ? 0 : 100 + above))
    }

    @Test("Where the session keeps too much a stream keeps its newest events alone, and numbers on")
    func shareExceeded() {
        var probe = Probe(keptUnasked: 100)
        probe.apply(.attached(after: nil))
        for _ in 1...5 { probe.apply(.sends(size: 40, isWritable: true)) }
        probe.apply(.shareExceeded)
        #expect(probe.machine.events(after: 0) == [4, 5])
        #expect(probe.machine.keptBytes == 80)
        #expect(probe.machine.nextEvent == 6)
    }

    // MARK: Callers that come back

    @Test("A finished stream can be asked for again and again, each time for as long")
    func askedAgain() {
        var probe = Probe(at: .kept)
        for event in [0, 1, 0, 2] {
            let outcome = probe.apply(.attached(after: event))
            #expect(outcome == .attachment(.takeRest(after: event, patience: Probe.patience)))
            #expect(probe.machine.events(after: event) == Array([1, 2].dropFirst(event)))
        }
        let isOver = probe.apply(.patienceEnded)
        #expect(isOver == .flag(true))
    }

    @Test("What comes while its caller is away is there when it comes back, the end included")
    func away() {
        var probe = Probe(at: .lost)
        for _ in 3...4 { probe.apply(.sends(size: 10, isWritable: true)) }
        probe.apply(.finished)
        #expect(probe.machine.events(after: 2) == [3, 4])
        let outcome = probe.apply(.attached(after: 2))
        #expect(outcome == .attachment(.takeRest(after: 2, patience: Probe.patience)))
    }
}
