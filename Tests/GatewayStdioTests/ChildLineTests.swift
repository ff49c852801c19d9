// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayStdio
import GatewayTesting
import Logging
import NIOCore
import Testing

@Suite("Lines of a child", .timeLimit(.minutes(1))) struct ChildLineTests {
    @Test("A message goes to the child as a line and comes back as one")
    func echoes() async throws {
        let child = try await TestChild.running("cat")
        _ = try await child.processID()
        try await child.send(#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        #expect(try await child.lines() == [#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#])
        try await child.stop()
        let news = try await child.finish()
        #expect(news.ending == .stopped)
        #expect(news.written == [true])
        #expect(news.pauses > 0)
        #expect(news.misplacedCalls == 0)
    }

    @Test("A thousand lines keep their order both ways")
    func keepsOrder() async throws {
        let child = try await TestChild.running("cat")
        _ = try await child.processID()
        try await child.on { child in
            for number in 0..<1000 { child.send(ByteBuffer(string: #"{"id":\#(number)}"#)) }
        }
        #expect(try await child.lines(1000) == (0..<1000).map { #"{"id":\#($0)}"# })
        try await child.stop()
        #expect(try await child.ending() == .stopped)
    }

    @Test("A line of 8 MiB passes both ways, and is reported as written when the pipe has all of it")
    func passesLongLines() async throws {
        let child = try await TestChild.running("cat")
        _ = try await child.processID()
        let line = ByteBuffer(repeating: UInt8(ascii: "x"), count: 8 * 1024 * 1024)
        try await child.send(line)
        let received = try await child.inbox.wait("the line") { $0.lines.first }
        #expect(received.count == line.readableBytes)
        #expect(child.inbox.now.written == [true])
        #expect(try await child.on { $0.pendingBytes } == 0)
        try await child.stop()
        #expect(try await child.ending() == .stopped)
    }

    @Test(
        "Lines are cut at line feeds, in whatever pieces they come, and a last one without an end counts if it looks whole",
        arguments: [
            (#"printf '{"a"'; sleep 0.2; printf ':1}\n'"#, [#"{"a":1}"#]),
            (#"printf '{}\r\n[]\r\n'"#, ["{}", "[]"]),
            (#"printf '\n\n{}\n \n\n[]\n\n'"#, ["{}", "[]"]),
            (#"printf '\357\273\277{}\n'"#, ["{}"]),
            (#"printf '{"a":"\342\200\250"}\n'"#, ["{\"a\":\"\u{2028}\"}"]),
            (#"printf '\000x\n'"#, ["\u{0}x"]),
            (#"printf '{}\n{"last":1}'"#, ["{}", #"{"last":1}"#]),
            (#"printf '{}\n[{"last":1}]\r'"#, ["{}", #"[{"last":1}]"#]),
            (#"printf '{}\n{"last":'"#, ["{}"]),
            ("true", []),
        ]
    )
    func frames(_ script: String, _ lines: [String]) async throws {
        let news = try await TestChild.running(script).finish()
        #expect(news.texts == lines)
        #expect(news.ending == .exited(code: 0))
        #expect(news.misplacedCalls == 0)
    }

    @Test("What a child wrote before its exit is delivered before its end, however fast it was")
    func deliversAll() async throws {
        let news = try await TestChild.running("seq 1 50000; exit 3").finish()
        #expect(news.lines.count == 50000)
        #expect(news.texts.last == "50000")
        #expect(news.ending == .exited(code: 3))
    }

    @Test(
        "A line of the limit passes, and a child with a longer one is killed",
        arguments: [(65536, true), (65537, false)]
    )
    func bounds(_ length: Int, _ passes: Bool) async throws {
        let script = "head -c \(length) /dev/zero | tr '\\0' x; echo; sleep 60"
        let child = try await TestChild.running(script, lineLimit: 65536)
        if passes {
            #expect(try await child.lines().map(\.utf8.count) == [length])
            try await child.on { $0.kill() }
            #expect(try await child.ending() == .stopped)
        } else {
            let processID = try await child.processID()
            #expect(try await child.ending() == .lineTooLong)
            #expect(child.inbox.now.lines.isEmpty)
            try await SystemView.wait("the end of the group") { !SystemView.exists(-processID) }
        }
    }

    @Test("A line without an end is given up at the limit, not when memory is full")
    func boundsEndlessLine() async throws {
        let child = try await TestChild.running("exec cat /dev/zero", lineLimit: 1 << 20)
        #expect(try await child.ending() == .lineTooLong)
        let record = try await child.record("child exited")
        #expect(record.level == .warning)
        #expect(record.metadata["reason"] == "a line above the limit")
    }
}
