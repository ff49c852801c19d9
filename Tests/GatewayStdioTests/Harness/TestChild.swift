// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayStdio
import GatewayTesting
import Logging
import NIOCore
import NIOPosix

/// What a child told its owner so far.
struct ChildNews: Sendable, CustomStringConvertible {
    var isStarted = false
    var lines: [[UInt8]] = []
    /// Lines altogether; `lines` has none of them if they are only counted.
    var lineCount = 0
    var pauses = 0
    var written: [Bool] = []
    var ending: StdioChild.Ending?
    /// Calls that came before the start or after the end.
    var misplacedCalls = 0

    var texts: [String] { self.lines.map { String(decoding: $0, as: UTF8.self) } }
    var description: String {
        let last = self.texts.suffix(3).map { String($0.prefix(100)) }
        return "started \(self.isStarted), \(self.lineCount) lines, the last \(last), ending "
            + String(describing: self.ending)
    }
}

/// An owner that writes down what it hears.
private final class ChildOwner: StdioChildDelegate {
    private let inbox: Inbox<ChildNews>
    private let keepsLines: Bool

    init(_ inbox: Inbox<ChildNews>, keepsLines: Bool) {
        self.inbox = inbox
        self.keepsLines = keepsLines
    }

    func childStarted() {
        self.inbox.change {
            if $0.isStarted || $0.ending != nil { $0.misplacedCalls += 1 }
            $0.isStarted = true
        }
    }

    func childSent(_ line: ByteBuffer) {
        self.inbox.change {
            if !$0.isStarted || $0.ending != nil || line.readableBytes == 0 { $0.misplacedCalls += 1 }
            $0.lineCount += 1
            if self.keepsLines { $0.lines.append(Array(line.readableBytesView)) }
        }
    }

    func childPaused() {
        self.inbox.change {
            if !$0.isStarted || $0.ending != nil { $0.misplacedCalls += 1 }
            $0.pauses += 1
        }
    }

    func childEnded(_ ending: StdioChild.Ending) {
        self.inbox.change {
            if $0.ending != nil { $0.misplacedCalls += 1 }
            $0.ending = ending
        }
    }
}

/// A child, its event loop and its owner.
final class TestChild: Sendable {
    let inbox: Inbox<ChildNews>
    let records = Inbox<[LogRecord]>([])
    let eventLoop: any EventLoop
    private let child: NIOLoopBound<StdioChild>

    init(
        _ command: String,
        _ arguments: [String] = [],
        environment: [(name: String, value: Secret)] = [],
        workingDirectory: String? = nil,
        inherited: StdioUpstreamConfiguration.InheritedEnvironment = .allowList,
        ours: [String: String] = ["PATH": "/usr/bin:/bin"],
        lineLimit: Int = 16 * 1024 * 1024,
        keepsLines: Bool = true,
        guardian: ProcessGuard? = nil,
        on eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next()
    ) async throws {
        let inbox = Inbox(ChildNews())
        let records = self.records
        self.inbox = inbox
        self.eventLoop = eventLoop
        self.child =
            try await eventLoop.submit {
                let logger = Logger(label: "test") { _ in RecordingLogHandler(records) }
                let child = StdioChild(
                    StdioUpstreamConfiguration(
                        command: command,
                        arguments: arguments,
                        environment: environment,
                        workingDirectory: workingDirectory,
                        inherited: inherited
                    ),
                    environment: ours,
                    name: "server",
                    lineLimit: lineLimit,
                    on: eventLoop,
                    guardian: guardian,
                    logger: logger,
                    buffers: BufferLedger(total: Gauge(), limit: .max),
                    delegate: ChildOwner(inbox, keepsLines: keepsLines)
                )
                return NIOLoopBound(child, eventLoop: eventLoop)
            }
            .get()
    }

    /// A test that failed leaves nothing running.
    deinit {
        guard self.inbox.now.ending == nil else { return }
        let child = self.child
        self.eventLoop.execute { child.value.kill() }
    }

    /// A started child that runs a script.
    static func running(_ script: String, lineLimit: Int = 16 * 1024 * 1024) async throws -> TestChild {
        let child = try await TestChild("sh", ["-c", script], lineLimit: lineLimit)
        try await child.start()
        return child
    }

    func on<Value: Sendable>(_ body: @escaping @Sendable (StdioChild) -> Value) async throws -> Value {
        let child = self.child
        return try await self.eventLoop.submit { body(child.value) }.get()
    }

    func start() async throws { try await self.on { $0.start() } }

    func stop() async throws { try await self.on { $0.stop() } }

    func send(_ text: String) async throws { try await self.send(ByteBuffer(string: text)) }

    func send(_ bytes: ByteBuffer) async throws {
        let inbox = self.inbox
        try await self.on { child in
            child.send(bytes) { isWritten in inbox.change { $0.written.append(isWritten) } }
        }
    }

    /// Waits for the process and gives its id.
    func processID() async throws -> Int32 {
        _ = try await self.inbox.wait("the start") { $0.isStarted || $0.ending != nil ? true : nil }
        guard let processID = try await self.on({ $0.processID }) else {
            throw TestTimeout(description: "no process: \(self.inbox.now)")
        }
        return processID
    }

    /// Waits for a number of lines and gives all there are.
    func lines(_ count: Int = 1, seconds: Int64 = 20) async throws -> [String] {
        try await self.inbox.wait("\(count) lines", seconds: seconds) { news in
            news.lines.count >= count ? news.texts : nil
        }
    }

    func ending() async throws -> StdioChild.Ending { try await self.inbox.wait("the end") { $0.ending } }

    /// Everything there is to know of a child that ends by itself.
    func finish() async throws -> ChildNews {
        _ = try await self.ending()
        return self.inbox.now
    }

    /// Waits for a log line.
    func record(_ message: String) async throws -> LogRecord {
        try await self.records.wait("the log line \(message)") { records in
            records.first { $0.message == message }
        }
    }
}
