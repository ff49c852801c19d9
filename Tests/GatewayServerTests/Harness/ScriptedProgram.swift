// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayRuntime
import GatewayStdio
import GatewayTesting
import Logging
import NIOCore

/// A line that a scripted child was sent, and the way back.
struct ChildTurn: Sendable {
    /// Counts the children from 0.
    let child: Int
    let line: String
    fileprivate let process: NIOLoopBound<ScriptedChild>

    var json: [String: Any] {
        (try? JSONSerialization.jsonObject(with: Data(self.line.utf8)) as? [String: Any]) ?? [:]
    }
    var method: String { self.json["method"] as? String ?? "" }
    /// The JSON-RPC id as JSON text.
    var id: String {
        switch self.json["id"] {
        case let id as String: "\"\(id)\""
        case let id as Int: "\(id)"
        default: "null"
        }
    }

    /// Writes a line.
    func say(_ line: String) { self.act { $0.say(ByteBuffer(string: line)) } }

    func result(_ result: String = "{}") { self.say(self.resultText(result)) }

    func resultText(_ result: String = "{}") -> String {
        #"{"jsonrpc":"2.0","id":\#(self.id),"result":\#(result)}"#
    }

    func error(_ code: Int, _ message: String) {
        self.say(#"{"jsonrpc":"2.0","id":\#(self.id),"error":{"code":\#(code),"message":"\#(message)"}}"#)
    }

    /// Ends the process.
    func end(_ ending: StdioChild.Ending) { self.act { $0.end(ending) } }

    private func act(_ body: @escaping @Sendable (ScriptedChild) -> Void) {
        let process = self.process
        process.eventLoop.execute { body(process.value) }
    }

    /// What a well-behaved server of the handshake says.
    func behave() {
        switch self.method {
        case "initialize":
            self.result(#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#)
        case "server/discover":
            self.error(-32601, "no such method")
        case let method where method.hasPrefix("notifications/") || method.isEmpty:
            break
        default:
            self.result()
        }
    }
}

/// A program that is no process: what its children say to each line a test chooses.
final class ScriptedProgram: Sendable {
    typealias Script = @Sendable (ChildTurn) -> Void

    /// What a test can wait for.
    struct Journal: Sendable {
        /// Children that were started.
        var started = 0
        /// Those of them that run.
        var running: Set<Int> = []
        var turns: [ChildTurn] = []
    }

    let journal = Inbox(Journal())
    private let script: Script
    /// How a child ends that is started; nil: it runs.
    private let failure: (@Sendable (Int) -> StdioChild.Ending?)?

    init(
        _ script: @escaping Script = { $0.behave() },
        failure: (@Sendable (Int) -> StdioChild.Ending?)? = nil
    ) {
        self.script = script
        self.failure = failure
    }

    var lines: [String] { self.journal.now.turns.map(\.line) }

    /// What the gateway makes its children with.
    var access: StdioAccess {
        StdioAccess(environment: [:], guardian: nil) { _, eventLoop, delegate in
            ScriptedChild(self, on: eventLoop, delegate)
        }
    }

    /// The configuration of a server that is this program.
    static let transport = UpstreamConfiguration.Transport.stdio(
        StdioUpstreamConfiguration(
            command: "scripted",
            arguments: [],
            environment: [],
            workingDirectory: nil,
            inherited: .allowList
        )
    )

    /// Waits for so many lines that fit.
    @discardableResult
    func turns(
        _ count: Int,
        seconds: Int64 = 10,
        where fits: @escaping @Sendable (ChildTurn) -> Bool = { _ in true }
    ) async throws -> [ChildTurn] {
        try await self.journal.wait("\(count) lines", seconds: seconds) { journal in
            let fitting = journal.turns.filter(fits)
            return fitting.count >= count ? fitting : nil
        }
    }

    fileprivate func started() -> (number: Int, failure: StdioChild.Ending?) {
        var number = 0
        self.journal.change { journal in
            number = journal.started
            journal.started += 1
        }
        let failure = self.failure?(number)
        if failure == nil { self.journal.change { $0.running.insert(number) } }
        return (number, failure)
    }

    fileprivate func took(_ turn: ChildTurn) {
        self.journal.change { $0.turns.append(turn) }
        self.script(turn)
    }

    fileprivate func ended(_ number: Int) { self.journal.change { $0.running.remove(number) } }
}

/// A child of a scripted program.
private final class ScriptedChild: LineChild {
    var isTrial = false
    var lastErrors: Logger.MetadataValue? { nil }
    private(set) var lastOutput = NIODeadline.now()
    var pendingBytes: Int { 0 }
    var isReadingPaused = false {
        didSet { if !self.isReadingPaused { self.later { $0.passOn() } } }
    }

    private let program: ScriptedProgram
    private let eventLoop: any EventLoop
    /// Nil once it has ended.
    private var delegate: (any StdioChildDelegate)?
    private var number = -1
    private var isRunning = false
    /// Lines that nobody has read.
    private var said: [ByteBuffer] = []

    init(_ program: ScriptedProgram, on eventLoop: any EventLoop, _ delegate: any StdioChildDelegate) {
        self.program = program
        self.eventLoop = eventLoop
        self.delegate = delegate
    }

    /// A process does everything a moment later.
    private func later(_ body: @escaping @Sendable (ScriptedChild) -> Void) {
        let child = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.execute { body(child.value) }
    }

    func start() {
        self.later { child in
            guard child.delegate != nil else { return }
            let (number, failure) = child.program.started()
            child.number = number
            if let failure { return child.end(failure) }
            child.isRunning = true
            child.delegate?.childStarted()
        }
    }

    func send(_ message: ByteBuffer, written: (@Sendable (Bool) -> Void)?) {
        guard self.isRunning else {
            written?(false)
            return
        }
        let line = String(buffer: message)
        self.later { child in
            guard child.isRunning else { return }
            written?(true)
            child.program.took(
                ChildTurn(
                    child: child.number,
                    line: line,
                    process: NIOLoopBound(child, eventLoop: child.eventLoop)
                )
            )
        }
    }

    func say(_ line: ByteBuffer) {
        guard self.isRunning else { return }
        self.said.append(line)
        self.passOn()
    }

    private func passOn() {
        guard !self.isReadingPaused, !self.said.isEmpty else { return }
        while !self.isReadingPaused, !self.said.isEmpty {
            self.lastOutput = .now()
            self.delegate?.childSent(self.said.removeFirst())
        }
        self.delegate?.childPaused()
    }

    func stop() { self.later { $0.end(.stopped) } }

    func kill() { self.later { $0.end(.stopped) } }

    func end(_ ending: StdioChild.Ending) {
        guard let delegate else { return }
        self.delegate = nil
        if self.isRunning { self.program.ended(self.number) }
        self.isRunning = false
        delegate.childEnded(ending)
    }
}
