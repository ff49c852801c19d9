// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayStdio
import GatewayTesting
import Logging
import NIOCore
import NIOPosix
import Testing

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("The end of a child", .timeLimit(.minutes(1))) struct ChildEndingTests {
    @Test(
        "A child that ends by itself says how, in the log as well",
        arguments: [
            ("exit 0", StdioChild.Ending.exited(code: 0)), ("exit 7", .exited(code: 7)),
            ("kill -SEGV $$", .signalled(11)),
            ("kill -TERM $$", .signalled(15)), ("read line; exit 9", .exited(code: 9)),
        ]
    )
    func ends(_ script: String, _ ending: StdioChild.Ending) async throws {
        let child = try await TestChild.running("echo one >&2; printf two >&2; " + script)
        _ = try await child.inbox.wait("the start") { $0.isStarted ? true : nil }
        try await child.send("{}")
        #expect(try await child.ending() == ending)
        let record = try await child.record("child exited")
        #expect(record.level == .warning)
        #expect(record.metadata["upstream"] == "server")
        #expect(record.metadata["stderr_tail"] == "one\ntwo")
        #expect(record.metadata["pid"].flatMap { Int32($0) } != nil)
        switch ending {
        case .exited(let code): #expect(record.metadata["code"] == "\(code)")
        case .signalled(let signal): #expect(record.metadata["signal"] == "\(signal)")
        default: break
        }
    }

    @Test("What a child on trial says is kept back, and its end is for its owner to tell")
    func keepsBackTrials() async throws {
        let child = try await TestChild("sh", ["-c", "for n in 1 2 3 4 5 6 7; do echo $n >&2; done; exit 3"])
        try await child.on {
            $0.isTrial = true
            $0.start()
        }
        #expect(try await child.ending() == .exited(code: 3))
        #expect(child.records.now.isEmpty)
        let last = try await child.on { $0.lastErrors.map { "\($0)" } }
        #expect(last == "3\n4\n5\n6\n7")
    }

    @Test("A child that its owner had to end at once is a warning, with its last words")
    func tellsOfKills() async throws {
        let child = try await TestChild.running("echo why >&2; echo; echo '{}'; sleep 60")
        _ = try await child.lines()
        try await child.on { $0.kill() }
        #expect(try await child.ending() == .stopped)
        let record = try await child.record("child exited")
        #expect(record.level == .warning)
        #expect(record.metadata["stderr_tail"] == "why")
    }

    @Test("A child that cannot be started says why")
    func reportsFailedStarts() async throws {
        let directory = "/tmp/mcp-proxy-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        mkdir(directory, 0o755)
        defer { rmdir(directory) }
        for (name, content, mode) in [("plain", "x", 0o644), ("script", "#!/nowhere/interpreter\n", 0o755)] {
            let file = try #require(fopen("\(directory)/\(name)", "w"))
            fputs(content, file)
            fclose(file)
            chmod("\(directory)/\(name)", mode_t(mode))
        }
        defer { for name in ["plain", "script"] { unlink("\(directory)/\(name)") } }
        let cases: [(TestChild, String)] = [
            (try await TestChild("/nowhere/command"), "the command was not found"),
            (try await TestChild("no-such-command"), "the command was not found"),
            (try await TestChild(""), "the command was not found"),
            (try await TestChild("\(directory)/plain"), "the command is not executable"),
            (try await TestChild("plain", ours: ["PATH": directory]), "the command is not executable"),
            (try await TestChild("\(directory)/script"), "the interpreter of the command was not found"),
            (try await TestChild("cat", workingDirectory: "/nowhere"), "the working directory cannot be entered"),
            (
                try await TestChild("cat", ["a\u{0}b"]),
                "the command, an argument or a variable has a character that none can have"
            ),
        ]
        for (child, reason) in cases {
            try await child.start()
            let news = try await child.finish()
            #expect(news.ending == .notStarted(reason))
            #expect(!news.isStarted)
            let record = try await child.record("child not started")
            #expect(record.level == .warning)
            #expect(record.metadata == ["upstream": "server", "reason": reason])
        }
    }

    @Test(
        "A child that closes a pipe and lives on is killed with its group",
        arguments: ["exec >&-; sleep 60", "exec <&-; sleep 60", "exec <&- >&-; sleep 60 & sleep 60"]
    )
    func killsHalfClosed(_ script: String) async throws {
        let child = try await TestChild.running(script)
        let processID = try await child.processID()
        #expect(try await child.ending() == .closedOutput)
        try await SystemView.wait("the end of the group") { !SystemView.exists(-processID) }
    }

    @Test("A child may close its standard error and do without")
    func allowsClosedStandardError() async throws {
        let child = try await TestChild.running("exec 2>&-; exec cat")
        _ = try await child.processID()
        try await child.send("{}")
        #expect(try await child.lines() == ["{}"])
        try await Task.sleep(for: .milliseconds(400))
        try await child.send("[]")
        #expect(try await child.lines(2) == ["{}", "[]"])
        try await child.stop()
        #expect(try await child.ending() == .stopped)
    }

    /// How long it takes at the most is tested end to end: here the machine is busy with all the other tests.
    @Test(
        "A stop asks before it kills: the end of input, then SIGTERM, then SIGKILL",
        arguments: [
            ("exec cat", 0.0), ("sleep 60", 1.9), ("trap '' TERM; while :; do sleep 60; done", 4.9),
            ("trap '' TERM; sleep 60 & sleep 60 & wait; wait", 4.9),
        ]
    )
    func stops(_ script: String, _ earliest: Double) async throws {
        // With a loop of its own, so that it measures no other test.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let child = try await TestChild("sh", ["-c", "echo ready; " + script], on: group.next())
        try await child.start()
        let processID = try await child.processID()
        _ = try await child.lines()
        let clock = ContinuousClock()
        let start = clock.now
        try await child.stop()
        try await child.stop()
        #expect(try await child.ending() == .stopped)
        let time = (clock.now - start) / .seconds(1)
        #expect(time >= earliest, "\(time) s")
        try await SystemView.wait("the end of the group", seconds: 10) { !SystemView.exists(-processID) }
        #expect(try await child.record("child exited").level == .debug)
        try await group.shutdownGracefully()
    }

    @Test("A stop closes the input behind what was sent")
    func stopsBehindMessages() async throws {
        let child = try await TestChild.running("sleep 0.1; exec wc -c")
        _ = try await child.processID()
        try await child.send(ByteBuffer(repeating: UInt8(ascii: "x"), count: 1 << 20))
        try await child.stop()
        let news = try await child.finish()
        #expect(news.texts.map { $0.filter { $0 != " " } } == ["1048577"])
        #expect(news.written == [true])
    }

    @Test("The leader's exit is the end, whoever holds its pipes, and the rest of the group is killed")
    func endsWithLeader() async throws {
        let child = try await TestChild.running("sleep 60 & echo $!; for i in 1 2 3 4 5; do sleep 60 & done; exit 3")
        let clock = ContinuousClock()
        let start = clock.now
        let news = try await child.finish()
        #expect(news.ending == .exited(code: 3))
        #expect(clock.now - start < .seconds(5))
        let grandchild = try #require(news.texts.first.flatMap { Int32($0) })
        try await SystemView.wait("the end of the grandchild") { !SystemView.exists(grandchild) }
    }

    @Test("A grandchild in a session of its own escapes, but holds up nothing")
    func outlivesEscapedGrandchild() async throws {
        let child = try await TestChild.running(#"setsid sh -c 'echo $$; exec sleep 60' & sleep 1; exit 3"#)
        let news = try await child.finish()
        #expect(news.ending == .exited(code: 3))
        let grandchild = try #require(news.texts.first.flatMap { Int32($0) })
        #expect(SystemView.exists(grandchild))
        kill(grandchild, SIGKILL)
    }

    @Test("Stopping and killing are safe at any time, and the end comes once")
    func stopsAtAnyTime() async throws {
        let never = try await TestChild("cat")
        try await never.stop()
        #expect(try await never.ending() == .stopped)
        try await never.start()
        try await never.stop()
        let early = try await TestChild("cat")
        try await early.on { child in
            child.start()
            child.stop()
            child.kill()
        }
        #expect(try await early.ending() == .stopped)
        #expect(!early.inbox.now.isStarted)
        let late = try await TestChild.running("exit 0")
        #expect(try await late.ending() == .exited(code: 0))
        try await late.on { child in
            child.stop()
            child.kill()
            child.start()
        }
        try await late.send("{}")
        #expect(late.inbox.now.written == [false])
        for child in [never, early, late] {
            #expect(child.inbox.now.misplacedCalls == 0)
            #expect(try await child.on { $0.processID } == nil)
            #expect(try await child.on { $0.pendingBytes } == 0)
        }
    }
}
