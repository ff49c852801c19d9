// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayTestRandom
import Testing

@Suite("Random streams") struct RandomStreamTests {
    @Test("Whatever happens in whatever order, the promises to a caller are kept", arguments: 0..<60 as Range<UInt64>)
    func randomWalk(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for _ in 0..<50 {
            var walk = StreamWalk(
                isResumable: Int.random(in: 0..<6, using: &random) > 0,
                isPrimed: Bool.random(using: &random)
            )
            for _ in 0..<Int.random(in: 1...120, using: &random) { walk.move(&random) }
            #expect(walk.violation == nil, "\(walk.moves)")
        }
    }

    @Test("Random moves lead everywhere, and callers take up what they missed on the way")
    func leadsEverywhere() {
        var random = SplitMix(seed: 1)
        var stages: [StreamStage: Int] = [:]
        var (replayed, rests) = (0, 0)
        for _ in 0..<3_000 {
            var walk = StreamWalk(isResumable: true, isPrimed: true)
            for _ in 0..<Int.random(in: 1...60, using: &random) { walk.move(&random) }
            replayed += walk.replayed
            rests += walk.rests
            if let stage = walk.stage() { stages[stage, default: 0] += 1 }
        }
        for stage in StreamStage.allCases { #expect(stages[stage, default: 0] >= 20, "at \(stage)") }
        #expect(replayed > 1_000 && rests > 100)
    }
}

/// A machine, a driver that does what it says, a caller at the other end of the connection, and what was promised to it.
struct StreamWalk: ~Copyable {
    /// A connection, and what is on its way in it.
    private struct Wire {
        var events: [Int] = []
        var isEnded = false
    }

    private static let keptEvents = 6
    private static let keptBytes = 400
    private static let keptUnasked = 100
    private static let overdueLimit = 300

    private var machine: ResumableStream.StateMachine<Int>
    private let isResumable: Bool
    private(set) var moves: [String] = []
    /// What was broken first.
    private(set) var violation: String?
    /// Events that were sent a second time to callers that asked for them, and ends that were.
    private(set) var replayed = 0
    private(set) var rests = 0

    // The driver.
    private var wire: Wire?
    private var isWaiting = false
    private var ends = 0

    // The caller.
    /// The last event that it saw; nil: none that it could name.
    private var seen: Int?
    /// The last event of whose loss it may not complain: it is behind it, or it asked for what comes from now on.
    private var settled = 0
    private var sawEnd = false

    // The promises.
    /// All events and their sizes, oldest first.
    private var sent: [Int] = []
    /// The oldest event that has to be there still.
    private var oldest = 1
    private var hadConnection = false
    private var isLossKnown = false
    private var isFinished = false
    private var isFindable: Bool

    init(isResumable: Bool, isPrimed: Bool) {
        var settings = ResumableStream.Settings(isResumable: isResumable, overdueLimit: Self.overdueLimit)
        settings.isPrimed = isPrimed
        settings.keptUnasked = Self.keptUnasked
        self.isResumable = isResumable
        self.isFindable = isResumable
        self.machine = .init(settings, replay: ReplayBuffer(events: Self.keptEvents, bytes: Self.keptBytes))
    }

    consuming func stage() -> StreamStage? {
        var probe = StreamProbe()
        swap(&probe.machine, &self.machine)
        return probe.stage()
    }

    private mutating func check(_ isKept: Bool, _ promise: String) {
        if !isKept, self.violation == nil { self.violation = promise }
    }

    // MARK: Moves

    mutating func move(_ random: inout SplitMix) {
        guard self.violation == nil else { return }
        let size = Int.random(in: 1...120, using: &random)
        switch Int.random(in: 0..<40, using: &random) {
        case 0..<12: self.send(size, isWritable: Int.random(in: 0..<4, using: &random) > 0)
        case 12..<18: self.read(Int.random(in: 1...4, using: &random))
        case 18..<22: self.lose()
        case 22..<25: self.come(after: nil)
        case 25..<32: self.come(after: self.seen)
        case 32: self.finish(hasRoom: Bool.random(using: &random))
        case 33: self.finish(hasRoom: true)
        case 34: if self.isWaiting { self.letGo("patience", self.machine.patienceEnded()) }
        case 35: self.giveUp()
        case 36: self.shrink()
        case 37: self.becomeWritable()
        case 38: if Int.random(in: 0..<3, using: &random) == 0 { self.endSession() }
        default: if Int.random(in: 0..<6, using: &random) == 0 { self.reset() }
        }
        self.checkPatience()
    }

    private mutating func send(_ size: Int, isWritable: Bool) {
        self.moves.append("send \(size)")
        let number = self.machine.nextEvent
        self.check(number == (self.isResumable ? self.kept.last + 1 : nil), "events are numbered in order")
        let event = self.sent.count + 1
        let sending = self.machine.sends(event, size: size, isWritable: isWritable)
        if self.isFinished || self.ends > 0 {
            return self.check(sending == .drop, "nothing is sent after the end")
        }
        guard self.isResumable || self.wire != nil else {
            return self.check(sending == .drop, "nothing is kept of a stream that is not resumable")
        }
        self.sent.append(size)
        if self.isResumable { self.keep() }
        switch sending {
        case .drop: self.check(false, "no event is dropped before the end")
        case .keep: self.check(self.wire == nil, "what comes is sent where there is a connection")
        case .send:
            self.check(self.wire != nil, "nothing is sent to nobody")
            self.wire?.events.append(event)
        case .breakConnection(let loss):
            self.check(self.wire != nil && !isWritable, "no connection is broken that takes what comes")
            self.wire = nil
            self.lost(loss)
        }
    }

    /// The caller reads so many events of what is on its way.
    private mutating func read(_ count: Int) {
        self.moves.append("read \(count)")
        guard var wire else { return }
        for event in wire.events.prefix(count) { self.see(event) }
        wire.events.removeFirst(min(count, wire.events.count))
        self.wire = wire
    }

    private mutating func see(_ event: Int) {
        self.check(event > self.settled, "no event comes twice: \(event) after \(self.settled)")
        // What is missing was no longer kept when the caller asked.
        self.check(event == self.settled + 1, "no event is lost: \(event) after \(self.settled)")
        self.settled = event
        if self.isResumable { self.seen = event }
    }

    private mutating func lose() {
        self.moves.append("lose")
        let hadOne = self.wire != nil
        self.wire = nil
        let loss = self.machine.connectionLost()
        self.check(hadOne || loss == .nothing, "a connection that is not there is not lost")
        if hadOne { self.lost(loss) }
    }

    private mutating func lost(_ loss: ResumableStream.Loss) {
        self.isLossKnown = true
        switch loss {
        case .nothing: self.check(false, "whoever loses a connection hears what follows")
        case .wait:
            self.check(self.isFindable, "nobody is waited for who could not find the stream")
            self.isWaiting = true
        case .end:
            self.check(!self.isFindable, "a caller that can come back is waited for")
            self.end()
        }
    }

    private mutating func come(after event: Int?) {
        self.moves.append("come after \(event.map(String.init) ?? "nothing")")
        let event = self.isResumable ? event : nil
        switch self.machine.attached(after: event) {
        case .stay(let opening, let isAnother):
            self.check(!self.isFinished && self.ends == 0, "nobody stays at the end")
            self.check(isAnother == self.hadConnection, "another connection is told from the first")
            self.wire = Wire()
            self.isWaiting = false
            if event != nil { self.isLossKnown = true }
            self.open(opening, after: event)
            self.hadConnection = true
        case .takeRest(let from, _):
            self.check(self.isFinished && self.ends == 0 && event == from, "the rest is for whoever asks, at the end")
            let missed = self.replay(after: from)
            for event in missed { self.see(event) }
            self.check(self.settled == self.sent.count, "the end is in what comes last")
            self.sawEnd = true
            self.isLossKnown = true
            self.isWaiting = true
            self.rests += 1
            // It may have got none of it, and ask again.
            self.seen = from
            self.settled = from
        case .close:
            self.check(self.ends > 0 || self.isFinished && event == nil, "nobody is sent away who could get something")
        }
    }

    private mutating func open(_ opening: ResumableStream.Opening, after event: Int?) {
        switch opening {
        case .nothing, .priming:
            self.check(event == nil, "whoever asks for what it missed gets it")
            self.check(self.hadConnection || self.oldest > self.sent.count, "the first gets what came before it")
            self.settled = self.sent.count
            if opening == .priming { self.prime() }
        case .events(let from):
            self.check(
                event ?? 0 == from && (event != nil || !self.hadConnection),
                "nobody gets what it did not ask for"
            )
            let events = self.replay(after: from)
            self.wire?.events = events
        }
    }

    /// What is sent again to whoever saw this event last.
    private mutating func replay(after event: Int) -> [Int] {
        let events = self.machine.events(after: event)
        let first = max(event + 1, self.oldest)
        self.check(events == Array(first..<max(first, self.sent.count + 1)), "what is kept is there, and nothing else")
        self.replayed += events.count
        // What is gone is gone.
        self.settled = first - 1
        return events
    }

    private mutating func prime() {
        self.send(20, isWritable: true)
        self.check(self.wire?.events.count == 1, "a connection begins with its priming event")
    }

    private mutating func finish(hasRoom: Bool) {
        self.moves.append("finish")
        let wasFinished = self.isFinished || self.ends > 0
        let wire = self.wire
        self.wire = nil
        let finish = self.machine.finished()
        self.isFinished = true
        if wasFinished { return self.check(finish == .nothing, "a second end is none") }
        switch finish {
        case .nothing: self.check(self.isWaiting, "the end waits for a caller that is away")
        case .wait: self.isWaiting = true
        case .keep:
            self.check(!self.isLossKnown, "whoever lost a connection is waited for")
            if !hasRoom { self.letGo("no room", self.machine.noRoom()) }
        case .end: self.end()
        }
        // The connection may have broken with the last bytes on their way.
        if let wire, hasRoom { for event in wire.events { self.see(event) } }
    }

    private mutating func giveUp() {
        self.moves.append("give up")
        let isOver = self.machine.gaveUp()
        self.check(!isOver || self.wire == nil, "nobody is given up who has a connection")
        if isOver { self.end() }
    }

    private mutating func letGo(_ why: String, _ isOver: Bool) {
        self.moves.append(why)
        self.check(isOver && self.wire == nil, "\(why): the stream is over")
        if isOver { self.end() }
    }

    private mutating func shrink() {
        self.moves.append("shrink")
        self.machine.shareExceeded()
        while self.kept.bytes > Self.keptUnasked { self.oldest += 1 }
    }

    private mutating func becomeWritable() {
        self.moves.append("writable")
        let tells = self.machine.becameWritable()
        self.check(tells == (self.wire != nil), "only a connection takes bytes")
    }

    private mutating func endSession() {
        self.moves.append("session ends")
        self.isFindable = false
        if self.machine.sessionEnded() { self.end() }
    }

    private mutating func reset() {
        self.moves.append("reset")
        self.wire = nil
        let isOver = self.machine.reset()
        self.check(isOver == (self.ends == 0), "a stream is broken off once")
        if isOver { self.end() }
    }

    // MARK: Promises

    /// What has to be kept, and the number of the newest event.
    private var kept: (bytes: Int, count: Int, last: Int) {
        let kept = self.sent.dropFirst(self.oldest - 1)
        return (kept.reduce(0, +), kept.count, self.sent.count)
    }

    private mutating func keep() {
        while self.kept.bytes > Self.keptBytes || self.kept.count > Self.keptEvents { self.oldest += 1 }
    }

    private mutating func end() {
        self.ends += 1
        self.isWaiting = false
        self.check(self.ends == 1, "the end is told once")
        self.check(self.machine.keptBytes == 0, "nothing is held after the end")
    }

    private mutating func checkPatience() {
        let isAway = self.hadConnection && self.wire == nil && self.ends == 0
        let mayReturn = isAway && self.isFindable && self.isLossKnown
        self.check(self.isWaiting == mayReturn, "patience is asked for exactly when somebody away may come back")
        self.check(
            self.ends > 0 || !self.isResumable || self.machine.keptBytes == self.kept.bytes,
            "what is held is what is kept"
        )
    }
}
