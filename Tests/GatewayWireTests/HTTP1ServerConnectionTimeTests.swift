// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("The connection of a caller, and time") struct HTTP1ServerConnectionTimeTests {
    typealias Probe = ConnectionProbe
    typealias Stage = ConnectionStage

    // MARK: Deadlines

    /// How long a stage may last, and what its end is; nil where nothing but an event leads on.
    static func end(of stage: Stage) -> (after: Duration, tick: HTTP1ServerConnection.Tick, stage: Stage)? {
        switch stage {
        case .idle: (.seconds(10), .flushAndClose, .flushing)
        case .head: (.seconds(10), .tooSlow, .head)
        case .sizedBody: (.seconds(30), .tooSlow, .sizedBody)
        case .chunkedBody: (.seconds(30), .tooSlow, .chunkedBody)
        case .lingering: (.seconds(2), .close, .closed)
        case .admitting, .complete, .answering, .answeringWithHead, .flushing, .closed: nil
        }
    }

    @Test("A stage ends at its deadline and not before", arguments: Stage.allCases, [-1, 0, 1, 3_600_000])
    func deadline(_ stage: Stage, milliseconds: Int) {
        let end = Self.end(of: stage)
        let isOver = end != nil && milliseconds >= 0
        for pending in [0, 1] {
            var probe = Probe(at: stage)
            let tick = probe.tick(
                at: (end?.after ?? .zero) + .milliseconds(milliseconds),
                written: 1,
                pending: pending
            )
            // A caller that still takes its last answer has time left to ask again.
            let isTaking = stage == .idle && pending > 0
            #expect(tick == (isOver && !isTaking ? end?.tick : .nothing), "\(pending) bytes pending")
            let found = probe.stage()
            #expect(found == (isOver && !isTaking ? end?.stage : stage), "\(pending) bytes pending")
        }
    }

    @Test("Between two requests a connection is kept for the idle time, which begins when the answer was taken")
    func idleTime() {
        for takenAt in [0, 80] {
            var probe = Probe(at: .answering)
            probe.answer()
            if takenAt > 0 {
                for second in 1...takenAt {
                    let tick = probe.tick(at: .seconds(second), written: 1 << 20, pending: 1 << 20 - second << 12)
                    #expect(tick == .nothing)
                }
            }
            let before = probe.tick(at: .seconds(takenAt + 75) - .milliseconds(1))
            #expect(before == .nothing)
            let after = probe.tick(at: .seconds(takenAt + 75))
            #expect(after == .flushAndClose)
        }
    }

    @Test("The time of a head begins with its first byte, and more bytes do not extend it")
    func headTime() {
        var probe = Probe(at: .answering)
        probe.answer()
        probe.now = .seconds(70)
        probe.receive("G")
        probe.now = .seconds(79)
        probe.receive("E")
        let before = probe.tick(at: .seconds(80) - .milliseconds(1))
        #expect(before == .nothing)
        let after = probe.tick(at: .seconds(80))
        #expect(after == .tooSlow)
    }

    @Test("While the caller does not take its answers its next head is not too slow")
    func blockedHead() {
        var probe = Probe(at: .head)
        probe.machine.becameWritable(false)
        let blocked = probe.tick(at: .seconds(10), written: 1, pending: 1)
        #expect(blocked == .nothing)
        probe.machine.becameWritable(true)
        let free = probe.tick(at: .seconds(11))
        #expect(free == .tooSlow)
    }

    @Test(
        "Bytes of a body buy time at the rate, and only bytes of the body",
        arguments: [(0, 30), (65_536, 31), (655_360, 40), (1_048_576, 46)],
        [false, true]
    )
    func bodyRate(_ bought: (bytes: Int, deadline: Int), isChunked: Bool) {
        var probe = Probe()
        probe.begin(isChunked ? Probe.chunked : Probe.post(4 << 20))
        probe.now = .seconds(29)
        let size = String(bought.bytes, radix: 16)
        if isChunked { probe.receive(bought.bytes == 0 ? "1;\(String(repeating: "x", count: 4000))" : "\(size)\r\n") }
        probe.receive(String(repeating: "x", count: bought.bytes))
        let before = probe.tick(at: .seconds(bought.deadline) - .milliseconds(1))
        #expect(before == .nothing)
        let after = probe.tick(at: .seconds(bought.deadline))
        #expect(after == .tooSlow)
    }

    // MARK: Slow readers

    @Test("A caller has to take 16 KiB in the time of a slow reader", arguments: [0, 16_383, 16_384, 16_385])
    func slowReader(taken: Int) {
        let isKept = taken >= 16_384
        for stage in Stage.allCases where ![.lingering, .head, .sizedBody, .chunkedBody].contains(stage) {
            var probe = Probe(at: stage)
            let amount = 1 << 20
            probe.tick(at: .zero, written: UInt64(amount), pending: amount)
            let before = probe.tick(at: .milliseconds(59_999), written: UInt64(amount), pending: amount)
            #expect(before == .nothing, "at \(stage)")
            let after = probe.tick(at: .seconds(60), written: UInt64(amount), pending: amount - taken)
            let isBroken = !isKept && stage != .closed
            #expect(after == (isBroken ? .breakSlowReader : .nothing), "at \(stage)")
            // The end of a connection on which somebody answers comes from whoever is told.
            let isAnswering = probe.machine.isAnswering
            #expect(isAnswering == stage.says.isAnswering, "at \(stage)")
            let found = probe.stage()
            #expect(found == (isBroken && !isAnswering ? .closed : stage), "at \(stage)")
        }
    }

    @Test("What a slow reader took counts from the last time that it took enough, whatever is written meanwhile")
    func slowReaderAgain() {
        var probe = Probe(at: .answeringWithHead)
        var (written, pending) = (1 << 20, 1 << 20)
        for minute in 0..<5 {
            let tick = probe.tick(at: .seconds(60 * minute), written: UInt64(written), pending: pending)
            #expect(tick == .nothing)
            written += 1 << 20
            pending += 1 << 20 - 16 * 1024
        }
        let last = probe.tick(at: .seconds(300), written: UInt64(written), pending: pending + 16 * 1024)
        #expect(last == .breakSlowReader)
    }

    @Test("A reader that took everything starts anew")
    func slowReaderStartsAnew() {
        var probe = Probe(at: .answeringWithHead)
        probe.tick(at: .zero, written: 1, pending: 1)
        probe.tick(at: .seconds(59), written: 1, pending: 0)
        probe.tick(at: .seconds(60), written: 2, pending: 1)
        let before = probe.tick(at: .milliseconds(119_999), written: 2, pending: 1)
        #expect(before == .nothing)
        let after = probe.tick(at: .seconds(120), written: 2, pending: 1)
        #expect(after == .breakSlowReader)
    }

    @Test("More bytes pending than were ever written are no trap")
    func impossiblePending() {
        var probe = Probe(at: .answering)
        let tick = probe.tick(at: .zero, written: 0, pending: .max)
        #expect(tick == .nothing)
    }

    // MARK: The end of the process

    @Test(
        "What arrives while the process stops has three seconds, however much comes",
        arguments: [Stage.head, .sizedBody, .chunkedBody]
    )
    func drainShortens(_ stage: Stage) {
        var probe = Probe()
        if stage == .head { probe.receive("G") }
        if stage == .sizedBody { probe.begin(Probe.post(4 << 20)) }
        if stage == .chunkedBody {
            probe.begin(Probe.chunked)
            probe.receive("400000\r\n")
        }
        if stage != .head { probe.receive(String(repeating: "x", count: 1 << 20)) }
        probe.now = .seconds(1)
        let drain = probe.machine.drain(now: .seconds(1))
        #expect(drain == .nothing)
        probe.now = .seconds(2)
        if stage != .head { probe.receive(String(repeating: "x", count: 1 << 20)) }
        let before = probe.tick(at: .milliseconds(3999))
        #expect(before == .nothing)
        let after = probe.tick(at: .seconds(4))
        #expect(after == .tooSlow)
    }

    @Test("The end of the process gives nobody more time")
    func drainDoesNotExtend() {
        var probe = Probe(at: .head)
        _ = probe.machine.drain(now: .seconds(9))
        let tick = probe.tick(at: .seconds(10))
        #expect(tick == .tooSlow)
    }

    @Test("A body that begins while the process stops has three seconds, however much comes", arguments: [false, true])
    func drainBeforeBody(isChunked: Bool) {
        var probe = Probe()
        probe.receive("P")
        _ = probe.machine.drain(now: .zero)
        probe.now = .seconds(1)
        probe.receive(String((isChunked ? Probe.chunked : Probe.post(4 << 20)).dropFirst()))
        probe.admit()
        if isChunked { probe.receive("400000\r\n") }
        probe.receive(String(repeating: "x", count: 1 << 20))
        let before = probe.tick(at: .milliseconds(3999))
        #expect(before == .nothing)
        let after = probe.tick(at: .seconds(4))
        #expect(after == .tooSlow)
    }

    @Test("A request that was complete in time is answered, and nothing follows it")
    func drainServes() {
        var probe = Probe(at: .head)
        _ = probe.machine.drain(now: .zero)
        probe.serve(Probe.get + Probe.get)
        let keepsAlive = probe.machine.keepsAlive
        #expect(!keepsAlive)
        let after = probe.answer()
        #expect(after == .flushAndClose)
    }
}
