// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore

/// The server of `mcp-proxy demo`: two tools over streamable HTTP, in both eras, without sessions.
final class DemoServer: RequestHandler {
    var isDraining: Bool { false }

    func rejected(_ reason: RejectionReason) {}

    func buffered(_ change: Int) {}

    func admit(_ request: InboundRequest, from connection: ConnectionFacts) -> Rejection? {
        request.parser.method == .post ? nil : Rejection(.method, 405, "use POST", fields: "Allow: POST\r\n")
    }

    func handle(
        _ request: InboundRequest,
        from connection: ConnectionFacts,
        responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let body = request.body
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
        let result = Self.answer(message, in: body)
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
    private static func answer(_ message: Envelope, in body: ByteBuffer) -> String? {
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
            let text = Self.call(message, in: body)
            return #"{\#(complete)"content":[{"type":"text","text":\#(text)}],"isError":false}"#
        default:
            return nil
        }
    }

    private static let tools = """
        {"name":"echo","description":"Says what it was told","inputSchema":{"type":"object",\
        "properties":{"text":{"type":"string"}},"required":["text"]}},\
        {"name":"add","description":"Adds two whole numbers","inputSchema":{"type":"object",\
        "properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"]}}
        """

    /// The text of a tool's answer, as a JSON literal.
    private static func call(_ message: Envelope, in body: ByteBuffer) -> String {
        let arguments = DemoArguments(message, in: body)
        switch message.name?.decoded(in: body.readableBytesUInt8Span) {
        case "echo":
            return ErrorAnswer.quoted(arguments.strings["text"] ?? "")
        case "add":
            let (sum, overflow) = (arguments.integers["a"] ?? 0).addingReportingOverflow(arguments.integers["b"] ?? 0)
            return ErrorAnswer.quoted(overflow ? "too large" : "\(sum)")
        default:
            return ErrorAnswer.quoted("there are two tools: echo and add")
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
