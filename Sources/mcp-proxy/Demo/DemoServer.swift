// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore

/// The server of `mcp-proxy demo`: three tools over streamable HTTP, in both eras, without sessions, for whoever has a
/// token that was not revoked.
final class DemoServer: RequestHandler {
    /// A bearer token, and the name by which the server knows its owner.
    struct Token {
        let value: String
        let owner: String
    }

    /// The token that is refused, and those that are not; made anew each time.
    let revoked: String
    let tokens: [Token]

    init() {
        func make() -> String { String(UInt64.random(in: .min ... .max), radix: 36) }
        self.revoked = "demo-revoked-\(make())"
        self.tokens = ["alice", "bob", "carol"].map { Token(value: "demo-\($0)-\(make())", owner: $0) }
    }

    var isDraining: Bool { false }

    func rejected(_ request: InboundRequest, _ rejection: Rejection, on loop: LoopResources) {}

    func rejectedConnection(from peer: SocketAddress?) {}

    let buffers = BufferLedger(total: Gauge(), limit: .max)

    func admit(_ request: InboundRequest, from connection: ConnectionFacts, on loop: LoopResources) -> Rejection? {
        request.parser.method == .post ? nil : Rejection(.method, 405, "use POST", fields: "Allow: POST\r\n")
    }

    func handle(
        _ request: InboundRequest,
        from connection: ConnectionFacts,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let body = request.body
        let authorization = request.value(.authorization).map { String(decoding: $0, as: UTF8.self) }
        guard let caller = self.tokens.first(where: { "Bearer \($0.value)" == authorization }) else {
            responder.respond(status: 401, json: ErrorAnswer.body(code: -32_600, message: "this token was revoked")) {
                $0.writeStaticString("WWW-Authenticate: Bearer error=\"invalid_token\"\r\n")
            }
            return nil
        }
        guard let scan = try? EnvelopeScanner().scan(body.readableBytesUInt8Span), case .message(let message) = scan
        else {
            responder.respond(status: 400, json: ErrorAnswer.body(code: -32_700, message: "no JSON-RPC message"))
            return nil
        }
        guard message.kind == .request, let id = message.id,
            let idBytes = body.getBytes(at: body.readerIndex + id.range.lowerBound, length: id.range.count)
        else {
            responder.respond(status: 202, body: nil) { _ in }
            return nil
        }
        let result = Self.answer(message, in: body, to: caller.owner)
        let answer: [UInt8]
        if let result {
            answer = Array(#"{"jsonrpc":"2.0","id":"#.utf8) + idBytes + #","result":\#(result)}"#.utf8
        } else {
            answer = ErrorAnswer.body(code: -32_601, message: "method not found", id: idBytes)
        }
        responder.respond(status: result == nil && message.hasStatelessEnvelope ? 404 : 200, json: answer)
        return nil
    }

    /// The result as JSON; nil for a method that is not served.
    private static func answer(_ message: Envelope, in body: ByteBuffer, to caller: String) -> String? {
        let server = #"{"name":"demo","version":"\#(Version.current)"}"#
        // Members that only the stateless era has are left out for the other.
        let complete = message.hasStatelessEnvelope ? #""resultType":"complete","# : ""
        let caching = message.hasStatelessEnvelope ? #""ttlMs":0,"cacheScope":"public","# : ""
        switch message.method {
        case .initialize:
            let offered = message.initializeVersion.flatMap { ProtocolRevision($0, in: body.readableBytesUInt8Span) }
            let version = offered.flatMap { $0.isStateless ? nil : $0 } ?? .november2025
            return #"{"protocolVersion":"\#(version.rawValue)","capabilities":{"tools":{}},"serverInfo":\#(server)}"#
        case .serverDiscover:
            return #"{\#(complete)\#(caching)"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"#
                + #""serverInfo":\#(server)}"#
        case .ping:
            return "{}"
        case .toolsList:
            return #"{\#(complete)\#(caching)"tools":[\#(Self.tools)]}"#
        case .toolsCall:
            let text = Self.call(message, in: body, by: caller)
            return #"{\#(complete)"content":[{"type":"text","text":\#(text)}],"isError":false}"#
        default:
            return nil
        }
    }

    private static let tools = """
        {"name":"echo","description":"Says what it was told","inputSchema":{"type":"object",\
        "properties":{"text":{"type":"string"}},"required":["text"]}},\
        {"name":"add","description":"Adds two whole numbers","inputSchema":{"type":"object",\
        "properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"]}},\
        {"name":"whoami","description":"Says whose token a call came with","inputSchema":{"type":"object"}}
        """

    /// The text of a tool's answer, as a JSON literal.
    private static func call(_ message: Envelope, in body: ByteBuffer, by caller: String) -> String {
        let arguments = DemoArguments(message, in: body)
        switch message.name?.decoded(in: body.readableBytesUInt8Span) {
        case "echo":
            return ErrorAnswer.quoted(arguments.strings["text"] ?? "")
        case "add":
            let (sum, overflow) = (arguments.integers["a"] ?? 0).addingReportingOverflow(arguments.integers["b"] ?? 0)
            return ErrorAnswer.quoted(overflow ? "too large" : "\(sum)")
        case "whoami":
            return ErrorAnswer.quoted("you came with the token of \(caller)")
        default:
            return ErrorAnswer.quoted("there are three tools: echo, add and whoami")
        }
    }
}

/// `params.arguments` of a call, as far as the demo's tools need them.
private struct DemoArguments {
    var strings: [String: String] = [:]
    var integers: [String: Int64] = [:]

    init(_ message: Envelope, in body: ByteBuffer) {
        guard let params = message.params else { return }
        let bytes = body.readableBytesUInt8Span
        // The text was scanned whole before; what is no object has no arguments.
        try? self.read(JSONScanner(at: params.lowerBound), in: bytes)
    }

    private mutating func read(_ start: JSONScanner, in bytes: Span<UInt8>) throws {
        var scanner = start
        var hasNext = try scanner.beginObject(in: bytes)
        while hasNext {
            let isArguments = try scanner.key(in: bytes).equals("arguments", in: bytes)
            if isArguments, scanner.peek(in: bytes) == UInt8(ascii: "{") {
                return try self.readArguments(&scanner, in: bytes)
            }
            _ = try scanner.value(in: bytes)
            hasNext = try scanner.nextMember(in: bytes)
        }
    }

    private mutating func readArguments(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws {
        var hasNext = try scanner.beginObject(in: bytes)
        while hasNext {
            let name = try scanner.key(in: bytes).decoded(in: bytes)
            let value = try scanner.value(in: bytes)
            self.strings[name] = value.string?.decoded(in: bytes)
            self.integers[name] = value.integer(in: bytes)
            hasNext = try scanner.nextMember(in: bytes)
        }
    }
}
