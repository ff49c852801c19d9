// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayStdio
import GatewayTesting
import Logging
import NIOCore
import NIOPosix
import Testing

@Suite("A child and its owner at different speeds", .timeLimit(.minutes(3))) struct ChildFlowTests {
    @Test("Standard error is read however much there is, logged up to a rate, and the rest counted")
    func survivesErrorFlood() async throws {
        let clock = ContinuousClock()
        let start = clock.now
        let child = try await TestChild.running("yes error | head -c 20000000 >&2; echo '{}'; exec cat")
        #expect(try await child.lines(seconds: 50) == ["{}"])
        try await child.send("[]")
        #expect(try await child.lines(2) == ["{}", "[]"])
        try await child.stop()
        #expect(try await child.ending() == .stopped)
        let records = child.records.now
        let logged = records.filter { $0.message == "child stderr" }.count
        let suppressed = records.filter { $0.message == "child stderr suppressed" }.compactMap { $0.metadata["bytes"] }
        // "error" and a line feed make six bytes; whether line feeds count depends on what is looked at.
        let total = logged * 5 + suppressed.compactMap { Int($0) }.reduce(0, +)
        #expect(total > 20_000_000 * 5 / 6 && total <= 20_000_000)
        #expect(suppressed.count >= 1)
        let seconds = Int((clock.now - start) / .seconds(1)) + 2
        #expect(logged * 5 <= 64 * 1024 * seconds)
        #expect(suppressed.count <= seconds)
        let tail = try #require(records.last { $0.message == "child exited" }?.metadata["stderr_tail"])
        #expect(tail.hasSuffix("error\ner"))
        #expect(tail.utf8.count <= 2048)
    }

    @Test("A line of standard error is logged without its end, and cut where it is too long")
    func logsErrors() async throws {
        let child = try await TestChild.running(#"printf 'a\tb\r\n\n' >&2; head -c 20000 /dev/zero | tr '\0' x >&2"#)
        #expect(try await child.ending() == .exited(code: 0))
        let lines = child.records.now.filter { $0.message == "child stderr" }
        #expect(lines.map { $0.metadata["line"]?.utf8.count } == [3, 8192])
        #expect(lines.first?.metadata == ["upstream": "server", "line": "a\tb"])
        #expect(lines.allSatisfy { $0.level == .debug }, "what a program says while it works is no news")
    }

    @Test("A child that reads nothing holds up neither the loop nor the other children on it")
    func doesNotBlock() async throws {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let deaf = try await TestChild("sleep", ["60"], on: eventLoop)
        let other = try await TestChild("cat", on: eventLoop)
        for child in [deaf, other] {
            try await child.start()
            _ = try await child.processID()
        }
        let message = ByteBuffer(repeating: UInt8(ascii: "x"), count: 1 << 20)
        for _ in 0..<4 { try await deaf.send(message) }
        let pending = try await deaf.on { $0.pendingBytes }
        #expect(pending > 3 << 20 && pending < 4 << 20)
        try await other.send("{}")
        #expect(try await other.lines() == ["{}"])
        #expect(deaf.inbox.now.written.isEmpty)
        try await deaf.on { $0.kill() }
        #expect(try await deaf.ending() == .stopped)
        #expect(deaf.inbox.now.written == [false, false, false, false])
        try await other.stop()
        #expect(try await other.ending() == .stopped)
    }

    @Test("While reading is paused a child comes to a stop, and goes on afterwards")
    func pausesReading() async throws {
        let child = try await TestChild("yes", ["{}"], keepsLines: false)
        try await child.start()
        _ = try await child.inbox.wait("lines") { $0.lineCount > 1000 ? true : nil }
        try await child.on { $0.isReadingPaused = true }
        let processID = try await child.processID()
        let count = child.inbox.now.lineCount
        // It sleeps in its write, and nothing comes: that is no event.
        try await SystemView.wait("the child to stop") { SystemView.fields(of: processID).first == "S" }
        try await Task.sleep(for: .milliseconds(200))
        #expect(child.inbox.now.lineCount == count)
        #expect(SystemView.fields(of: processID).first == "S")
        try await child.on { $0.isReadingPaused = false }
        _ = try await child.inbox.wait("more lines") { $0.lineCount > count + 100_000 ? true : nil }
        try await child.on { $0.kill() }
        #expect(try await child.ending() == .stopped)
    }

    @Test("What a child wrote before its exit is delivered although reading is paused")
    func deliversWhilePaused() async throws {
        let child = try await TestChild("sh", ["-c", "seq 1 1000; exit 0"])
        try await child.on { child in
            child.isReadingPaused = true
            child.start()
        }
        let news = try await child.finish()
        #expect(news.texts == (1...1000).map { "\($0)" })
    }

    @Test("Two hundred children leave no descriptor and no zombie")
    func leavesNothing() async throws {
        // A sanitizer that has made a name for an address keeps the pipes of the program that does that.
        let before = SystemView.pipesAndProcesses()
        for _ in 0..<20 {
            var children: [TestChild] = []
            for number in 0..<10 {
                let child = try await TestChild(number == 0 ? "no-such-command" : "cat")
                try await child.start()
                children.append(child)
            }
            for (number, child) in children.enumerated() {
                if number > 0 { _ = try await child.processID() }
                try await child.stop()
            }
            for child in children { _ = try await child.ending() }
        }
        // Those of other tests end as well.
        try await SystemView.wait("descriptors to be closed", seconds: 50) {
            SystemView.pipesAndProcesses() <= max(before, 2)
        }
        try await SystemView.wait("zombies to be reaped") { SystemView.zombies().isEmpty }
    }
}
