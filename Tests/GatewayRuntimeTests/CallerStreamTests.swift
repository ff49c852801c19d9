// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewaySession
import NIOCore
import NIOEmbedded
import Testing

@testable import GatewayRuntime

@Suite("A stream to a caller, as its connections and its source see it") struct CallerStreamTests {
    /// A connection that writes down what it gets, and does what it is told in the middle of that.
    final class Outlet: StreamOutlet {
        var isWritable = true
        private(set) var log: [String] = []
        /// What it does inside the call that is in the log last.
        var inside: (Outlet) -> Void = { _ in }

        func send(_ bytes: ByteBuffer) {
            let lines = String(buffer: bytes).split(separator: "\n")
            self.add(lines.first.map(String.init) ?? "")
        }

        func flush() {}
        func finish() { self.add("finish") }
        func reset() { self.add("reset") }

        private func add(_ entry: String) {
            self.log.append(entry)
            self.inside(self)
        }
    }

    final class Source: StreamSource {
        private(set) var log: [String] = []
        var inside: (String) -> Void = { _ in }

        func streamBecameWritable() { self.add("writable") }
        func streamMoved() { self.add("moved") }
        func streamDetached() { self.add("detached") }
        func streamExpired() { self.add("expired") }

        private func add(_ entry: String) {
            self.log.append(entry)
            self.inside(entry)
        }
    }

    /// A stream with everything around it.
    final class Probe {
        let eventLoop = EmbeddedEventLoop()
        let loop: LoopResources
        let ledger = BufferLedger(total: Gauge(), limit: .max)
        let share: ReplayShare
        let source = Source()
        private(set) lazy var stream = CallerStream(
            number: 7,
            loop: self.loop,
            isResumable: true,
            isPrimed: self.isPrimed,
            source: self.source,
            share: self.share,
            overdueLimit: 100,
            keep: { [hasRoom] in hasRoom },
            onEnd: { [unowned self] _ in self.ends += 1 }
        )
        private let isPrimed: Bool
        private let hasRoom: Bool
        private(set) var ends = 0

        init(isPrimed: Bool = false, hasRoom: Bool = true) {
            self.loop = LoopResources(eventLoop: self.eventLoop)
            self.share = ReplayShare(in: self.ledger)
            self.isPrimed = isPrimed
            self.hasRoom = hasRoom
        }

        var held: Int { self.ledger.sessionBytes }

        func send(_ count: Int = 1, size: Int = 1) {
            for _ in 0..<count { self.stream.send(ByteBuffer(repeating: UInt8(ascii: "x"), count: size)) }
        }

        /// A connection that leaves at once when this is in its log.
        func outlet(leavingAt entry: String? = nil) -> Outlet {
            let outlet = Outlet()
            outlet.inside = { [unowned self] outlet in
                if let entry, outlet.log.last == entry { self.stream.detach(outlet) }
            }
            return outlet
        }
    }

    // MARK: Closed inside our own call

    @Test("A connection that is lost in the middle of the replay gets no more, and its caller is waited for")
    func lostInReplay() {
        let probe = Probe()
        let (first, second, third) = (probe.outlet(), probe.outlet(leavingAt: "id: 7-2"), probe.outlet())
        probe.stream.attach(first)
        probe.send(4)
        probe.stream.detach(first)
        probe.stream.attach(second, after: 0)
        #expect(second.log == ["id: 7-1", "id: 7-2"])
        #expect(!probe.stream.hasOutlet)
        // Nobody was told that there is a connection that takes bytes.
        #expect(probe.source.log == ["writable", "detached", "detached", "moved"])
        probe.stream.attach(third, after: 1)
        #expect(third.log == ["id: 7-2", "id: 7-3", "id: 7-4"])
        #expect(probe.source.log.suffix(2) == ["moved", "writable"])
        probe.eventLoop.advanceTime(by: .seconds(3_600))
        #expect(probe.ends == 0)
    }

    @Test("A connection that is lost in the middle of an event leaves the rest for its caller")
    func lostInSend() {
        let probe = Probe()
        let (first, second) = (probe.outlet(leavingAt: "id: 7-2"), probe.outlet())
        probe.stream.attach(first)
        probe.send(3)
        #expect(first.log == ["id: 7-1", "id: 7-2"])
        probe.stream.attach(second, after: 1)
        #expect(second.log == ["id: 7-2", "id: 7-3"])
    }

    @Test("A connection that says it is gone when the stream ends it changes nothing", arguments: ["finish", "reset"])
    func lostInEnd(end: String) {
        let probe = Probe(hasRoom: false)
        let outlet = probe.outlet(leavingAt: end)
        probe.stream.attach(outlet)
        probe.send()
        if end == "finish" { probe.stream.finish() } else { probe.stream.reset() }
        #expect(outlet.log == ["id: 7-1", end])
        #expect(probe.ends == 1 && probe.held == 0)
        // Whoever ends it is not told of that.
        #expect(probe.source.log == ["writable"])
    }

    @Test("A second connection that comes inside the end of the first has the stream")
    func replacedInside() {
        let probe = Probe()
        let (first, second, third) = (Outlet(), Outlet(), Outlet())
        probe.stream.attach(first)
        probe.send()
        first.inside = { _ in probe.stream.attach(third, after: 0) }
        probe.stream.attach(second, after: 0)
        probe.send()
        #expect(first.log == ["id: 7-1", "finish"])
        #expect(second.log == ["id: 7-1", "finish"])
        #expect(third.log == ["id: 7-1", "id: 7-2"])
    }

    @Test("What its source does when it hears of a loss finds the stream as it is: a reset leaves no timer behind")
    func resetInLoss() {
        let probe = Probe()
        let outlet = Outlet()
        probe.source.inside = { if $0 == "detached" { probe.stream.reset() } }
        probe.stream.attach(outlet)
        probe.send()
        probe.stream.detach(outlet)
        #expect(probe.ends == 1 && probe.held == 0)
        probe.eventLoop.advanceTime(by: .seconds(120))
        #expect(probe.ends == 1)
        #expect(probe.source.log == ["writable", "detached"])
    }

    @Test("A connection to which too much piles up is broken, and its caller gets the event when it comes back")
    func overdue() {
        let probe = Probe()
        let (first, second) = (Outlet(), Outlet())
        first.isWritable = false
        probe.stream.attach(first)
        probe.send(2, size: 200)
        #expect(first.log == ["id: 7-1", "reset"])
        #expect(probe.source.log == ["writable", "detached"])
        probe.stream.attach(second, after: 1)
        #expect(second.log == ["id: 7-2"])
    }

    // MARK: Old connections

    @Test("The word of a connection whose place another took goes nowhere")
    func oldConnection() {
        let probe = Probe()
        let (first, second) = (Outlet(), Outlet())
        probe.stream.attach(first)
        probe.stream.attach(second)
        #expect(first.log == ["finish"])
        let heard = probe.source.log
        probe.stream.detach(first)
        probe.stream.outletBecameWritable(first)
        #expect(probe.source.log == heard)
        probe.stream.outletBecameWritable(second)
        #expect(probe.source.log == heard + ["writable"])
        probe.send()
        #expect(second.log == ["id: 7-1"])
    }

    // MARK: Ends

    @Test("A stream that is over gives a connection its end alone, and is not over again", arguments: [nil, 0, 9])
    func attachedWhenOver(event: Int?) {
        let probe = Probe(isPrimed: true)
        probe.stream.attach(Outlet())
        probe.send(3)
        probe.stream.reset()
        let outlet = Outlet()
        probe.stream.attach(outlet, after: event)
        probe.stream.finish()
        probe.send()
        #expect(outlet.log == ["finish"])
        probe.eventLoop.advanceTime(by: .seconds(120))
        #expect(probe.ends == 1 && probe.held == 0)
    }

    @Test("A stream that ends before anybody came is over, and holds nothing")
    func neverAttached() {
        let probe = Probe()
        probe.send()
        #expect(probe.held > 0)
        probe.stream.finish()
        #expect(probe.ends == 1 && probe.held == 0)
        #expect(probe.source.log == [])
    }

    @Test("What came before the first connection is sent to it")
    func beforeTheFirst() {
        let probe = Probe(isPrimed: true)
        let (first, second) = (Outlet(), Outlet())
        probe.send(2)
        probe.stream.attach(first)
        #expect(first.log == ["id: 7-1", "id: 7-2"])
        probe.stream.attach(second)
        #expect(second.log == ["id: 7-3"])
        #expect(probe.source.log == ["writable", "moved", "writable"])
    }

    @Test(
        "A finished stream waits for a caller that lost something, from the last time that it asked",
        arguments: [true, false]
    )
    func finished(wasLost: Bool) {
        let probe = Probe()
        let (first, second, third) = (Outlet(), Outlet(), Outlet())
        probe.stream.attach(first)
        probe.send(2)
        if wasLost { probe.stream.detach(first) }
        probe.stream.finish()
        probe.eventLoop.advanceTime(by: .seconds(59))
        probe.stream.attach(second, after: 1)
        #expect(second.log == ["id: 7-2", "finish"])
        probe.eventLoop.advanceTime(by: .seconds(59))
        probe.stream.attach(third, after: 0)
        #expect(third.log == ["id: 7-1", "id: 7-2", "finish"])
        probe.eventLoop.advanceTime(by: .seconds(59))
        #expect(probe.ends == 0)
        probe.eventLoop.advanceTime(by: .seconds(1))
        #expect(probe.ends == 1 && probe.held == 0)
    }

    @Test("Whoever fills a stream hears once that nobody came back in time")
    func expired() {
        let probe = Probe()
        let outlet = Outlet()
        probe.stream.attach(outlet)
        probe.stream.detach(outlet)
        probe.eventLoop.advanceTime(by: .seconds(59))
        #expect(probe.source.log == ["writable", "detached"])
        probe.eventLoop.advanceTime(by: .seconds(1))
        probe.stream.giveUp()
        #expect(probe.source.log == ["writable", "detached", "expired"])
        #expect(probe.ends == 1)
    }

    @Test(
        "A stream that is over is let go of at once: no timer keeps it",
        arguments: [StreamEnd.giveUp, .sessionEnded, .reset, .resetInLoss, .patience]
    )
    func letGo(end: StreamEnd) {
        let eventLoop = EmbeddedEventLoop()
        weak var left: CallerStream?
        do {
            let (source, outlet) = (Source(), Outlet())
            let loop = LoopResources(eventLoop: eventLoop)
            let stream = CallerStream(number: 7, loop: loop, isResumable: true, source: source, overdueLimit: 100)
            left = stream
            if end == .resetInLoss { source.inside = { [unowned stream] in if $0 == "detached" { stream.reset() } } }
            stream.attach(outlet)
            stream.detach(outlet)
            switch end {
            case .giveUp: stream.giveUp()
            case .sessionEnded: stream.sessionEnded()
            case .reset: stream.reset()
            case .resetInLoss: break
            case .patience: eventLoop.advanceTime(by: .seconds(60))
            }
        }
        #expect(left == nil)
    }

    enum StreamEnd: Sendable { case giveUp, sessionEnded, reset, resetInLoss, patience }

    // MARK: Sessions

    @Test("Once its session is over nobody is waited for, and whoever has the stream gets the rest")
    func sessionEnded() {
        let probe = Probe()
        let outlet = Outlet()
        probe.stream.attach(outlet)
        probe.stream.sessionEnded()
        probe.send()
        #expect(outlet.log == ["id: 7-1"] && probe.ends == 0)
        probe.stream.detach(outlet)
        #expect(probe.source.log == ["writable", "expired"])
        #expect(probe.ends == 1 && probe.held == 0)
    }

    @Test(
        "Streams that are finished and wait for their caller count among those of a session that wait: 64 and no more"
    )
    func waitingTogether() {
        let probe = Probe()
        var over: [Int] = []
        for number in 1...66 {
            let (first, second) = (Outlet(), Outlet())
            let stream = CallerStream(
                number: number,
                loop: probe.loop,
                isResumable: true,
                source: nil,
                share: probe.share,
                overdueLimit: 100,
                onEnd: { over.append($0.number) }
            )
            stream.attach(first)
            stream.detach(first)
            stream.attach(second, after: 0)
            stream.finish()
            probe.eventLoop.run()
        }
        #expect(over == [1, 2])
    }

    static func session(_ probe: Probe) throws -> CallerSession {
        var random = SystemRandomNumberGenerator()
        return CallerSession(
            id: SessionID(using: &random),
            principal: Principal(endpoint: EndpointID(), token: nil, forwarded: []),
            upstream: try .untouched(on: probe.loop, buffers: probe.ledger),
            buffers: probe.ledger
        )
    }

    @Test("A caller that stayed away for too long can listen again")
    func listensAgain() throws {
        let probe = Probe()
        let session = try Self.session(probe)
        let (first, second) = (Outlet(), Outlet())
        let listener = session.makeListener(on: probe.loop)
        listener.value.attach(first)
        #expect(session.makeListener(on: probe.loop).value === listener.value)
        listener.value.detach(first)
        probe.eventLoop.advanceTime(by: .seconds(60))
        #expect(session.listener == nil)
        #expect(!session.deliver(ByteBuffer(string: "{}")))
        session.makeListener(on: probe.loop).value.attach(second)
        #expect(session.deliver(ByteBuffer(string: "{}")))
        #expect(second.log == ["id: 0-1"])
        _ = session.close()
        #expect(second.log == ["id: 0-1", "finish"])
    }

    @Test("In a session that is over a stream is at its end at once, and waits for nobody")
    func sessionOver() throws {
        let probe = Probe()
        let session = try Self.session(probe)
        _ = session.close()
        let (listening, answered) = (Outlet(), Outlet())
        session.makeListener(on: probe.loop).value.attach(listening)
        #expect(listening.log == ["finish"])
        let answer = session.makeAnswerStream(on: probe.loop, source: probe.source, overdueLimit: 100)
        answer.attach(answered)
        answer.send(ByteBuffer(string: "{}"))
        answer.detach(answered)
        #expect(answered.log == ["id: 1-1"])
        #expect(probe.source.log == ["writable", "expired"] && probe.held == 0)
    }
}
