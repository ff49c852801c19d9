// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Synchronization

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A request as it arrived at a scripted upstream.
struct ArrivedRequest: Sendable, CustomStringConvertible {
    /// Counts the connections from 0.
    let connection: Int
    let head: String
    var body: [UInt8]

    var line: String { self.head.components(separatedBy: "\r\n")[0] }
    var httpMethod: String { String(self.line.prefix { $0 != " " }) }
    /// Names in lower case.
    var fields: [(name: String, value: String)] {
        self.head.components(separatedBy: "\r\n").dropFirst().filter { !$0.isEmpty }
            .map { line in
                let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                return (parts[0].lowercased(), parts.dropFirst().joined().trimmingCharacters(in: .whitespaces))
            }
    }
    subscript(_ name: String) -> String? { self.fields.first { $0.name == name }?.value }
    var text: String { String(decoding: self.body, as: UTF8.self) }
    var json: [String: Any] { (try? JSONSerialization.jsonObject(with: Data(self.body)) as? [String: Any]) ?? [:] }
    /// The JSON-RPC method.
    var method: String { self.json["method"] as? String ?? "" }
    /// The JSON-RPC id as JSON text.
    var id: String {
        switch self.json["id"] {
        case let id as String: "\"\(id)\""
        case let id as Int: "\(id)"
        default: "null"
        }
    }
    var description: String { "\(self.line) \(self.text.prefix(200))" }
}

/// One request at a scripted upstream, and the way back.
struct UpstreamTurn: Sendable {
    let request: ArrivedRequest
    /// Counts the requests from 0.
    let number: Int
    let channel: any Channel

    func send(_ bytes: [UInt8]) { self.channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }
    func send(_ text: String) { self.send(Array(text.utf8)) }

    /// Closes behind what was sent.
    func close() {
        let channel = self.channel
        channel.writeAndFlush(ByteBuffer()).whenComplete { _ in channel.close(promise: nil) }
    }

    /// Breaks the connection.
    func reset() {
        let channel = self.channel
        guard let options = channel as? any SocketOptionProvider else { return self.close() }
        options.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in channel.close(promise: nil) }
    }

    /// A whole answer with a length.
    func answer(
        _ status: Int = 200,
        _ body: String,
        type: String? = "application/json",
        fields: [String] = []
    ) {
        var head = "HTTP/1.1 \(status) X\r\n"
        if let type { head += "Content-Type: \(type)\r\n" }
        for field in fields { head += "\(field)\r\n" }
        self.send("\(head)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    /// A JSON-RPC result for this request.
    func result(_ result: String = "{}", fields: [String] = []) {
        self.answer(200, self.resultText(result), fields: fields)
    }

    func resultText(_ result: String = "{}") -> String {
        #"{"jsonrpc":"2.0","id":\#(self.request.id),"result":\#(result)}"#
    }

    /// The head of an event stream in chunks.
    func beginEvents(fields: [String] = []) {
        let more = fields.map { "\($0)\r\n" }.joined()
        self.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\(more)\r\n")
    }

    /// One chunk.
    func chunk(_ text: String) { self.send(String(text.utf8.count, radix: 16) + "\r\n" + text + "\r\n") }

    func event(_ data: String) { self.chunk("event: message\ndata: \(data)\n\n") }

    func endChunks() { self.send("0\r\n\r\n") }

    /// What a well-behaved handshake upstream says; `session` is issued with `initialize`.
    func behave(session: String? = nil) {
        switch (self.request.httpMethod, self.request.method) {
        case ("POST", "initialize"):
            let result = #"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"u","version":"1"}}"#
            self.result(result, fields: session.map { ["Mcp-Session-Id: \($0)"] } ?? [])
        case ("POST", "server/discover"):
            self.answer(400, #"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no"}}"#)
        case ("POST", let method) where method.hasPrefix("notifications/") || method.isEmpty:
            self.answer(202, "", type: nil)
        case ("DELETE", _):
            self.answer(200, "", type: nil)
        case ("GET", _):
            self.answer(405, "", type: nil)
        default:
            self.result()
        }
    }
}

/// An upstream whose answers are bytes that a test chooses, and that remembers what arrived.
final class ScriptedUpstream: Sendable {
    typealias Script = @Sendable (UpstreamTurn) -> Void

    /// What a test can wait for.
    struct Journal: Sendable {
        var requests: [ArrivedRequest] = []
        /// Heads that the head script was asked about.
        var heads = 0
        var connections = 0
        var open: Set<Int> = []
        /// Requests that no script took, for a test that answers by hand.
        var turns: [UpstreamTurn] = []
        /// Bytes of bodies that were read, complete or not.
        var bodyBytes = 0
    }

    let journal = Inbox(Journal())
    private let listening = Mutex<Wire.Listening?>(nil)
    private let script: Script?
    /// Told of each head before its body; true: the request was dealt with.
    private let headScript: (@Sendable (UpstreamTurn) -> Bool)?

    private init(script: Script?, headScript: (@Sendable (UpstreamTurn) -> Bool)?) {
        self.script = script
        self.headScript = headScript
    }

    var port: Int { self.listening.withLock { $0?.port } ?? 0 }
    var requests: [ArrivedRequest] { self.journal.now.requests }

    /// Starts on a port of its own; without `script` a test takes each request with `turn`.
    static func start(
        head: (@Sendable (UpstreamTurn) -> Bool)? = nil,
        sendBuffer: Int? = nil,
        _ script: Script?
    ) async throws -> ScriptedUpstream {
        let upstream = ScriptedUpstream(script: script, headScript: head)
        let listening = try await Wire.current.listen(sendBuffer: sendBuffer) { channel in
            try channel.pipeline.syncOperations.addHandler(ScriptedConnection(upstream))
        }
        upstream.listening.withLock { $0 = listening }
        return upstream
    }

    func stop() async { await self.listening.withLock { $0 }?.stop() }

    /// The next request that no script took.
    func turn(seconds: Int64 = 10) async throws -> UpstreamTurn {
        try await self.journal.wait("a request at the upstream", seconds: seconds) { journal in
            journal.turns.isEmpty ? nil : journal.turns.removeFirst()
        }
    }

    /// Waits for a number of requests that fit.
    @discardableResult
    func requests(
        _ count: Int,
        where fits: @escaping @Sendable (ArrivedRequest) -> Bool = { _ in true }
    ) async throws -> [ArrivedRequest] {
        try await self.journal.wait("\(count) requests") { journal in
            let fitting = journal.requests.filter(fits)
            return fitting.count >= count ? fitting : nil
        }
    }

    /// Waits until connection `number` is closed.
    func closed(_ number: Int, seconds: Int64 = 10) async throws {
        try await self.journal.wait("the end of connection \(number)", seconds: seconds) { journal in
            journal.connections > number && !journal.open.contains(number) ? () : nil
        }
    }

    fileprivate func arrived(_ request: ArrivedRequest, on channel: any Channel, isHeadOnly: Bool) -> Bool {
        var number = 0
        if isHeadOnly {
            guard let headScript else { return false }
            // Counted before anybody acts on it: what the script breaks off comes again at once, on another event loop.
            self.journal.change { journal in
                number = journal.heads
                journal.heads += 1
            }
            guard headScript(UpstreamTurn(request: request, number: number, channel: channel)) else { return false }
            self.journal.change { $0.requests.append(request) }
            return true
        }
        self.journal.change { journal in
            number = journal.requests.count
            journal.requests.append(request)
            if self.script == nil {
                journal.turns.append(UpstreamTurn(request: request, number: number, channel: channel))
            }
        }
        self.script?(UpstreamTurn(request: request, number: number, channel: channel))
        return true
    }
}

/// Splits what arrives into requests; only `Content-Length` is understood, which is all that the gateway sends.
private final class ScriptedConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let upstream: ScriptedUpstream
    private var number = 0
    private var bytes: [UInt8] = []
    private var head: ArrivedRequest?
    private var length = 0
    /// A request that was answered before its end: nothing more is read as a request.
    private var isOver = false

    init(_ upstream: ScriptedUpstream) {
        self.upstream = upstream
    }

    func channelActive(context: ChannelHandlerContext) {
        self.upstream.journal.change { journal in
            self.number = journal.connections
            journal.connections += 1
            journal.open.insert(self.number)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.upstream.journal.change { $0.open.remove(self.number) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        self.bytes += self.unwrapInboundIn(data).readableBytesView
        let end = Array("\r\n\r\n".utf8)
        while !self.isOver {
            if self.head == nil {
                guard let range = self.bytes.firstRange(of: end) else { return }
                let text = String(decoding: self.bytes[..<range.upperBound], as: UTF8.self)
                let request = ArrivedRequest(connection: self.number, head: text, body: [])
                self.bytes.removeFirst(range.upperBound)
                self.length = request["content-length"].flatMap(Int.init) ?? 0
                if self.upstream.arrived(request, on: context.channel, isHeadOnly: true) {
                    self.isOver = true
                    return
                }
                self.head = request
            }
            guard var request = self.head, self.bytes.count >= self.length else { return }
            request.body = Array(self.bytes.prefix(self.length))
            self.bytes.removeFirst(self.length)
            self.head = nil
            _ = self.upstream.arrived(request, on: context.channel, isHeadOnly: false)
        }
        self.upstream.journal.change { $0.bodyBytes += self.bytes.count }
        self.bytes = []
    }
}
