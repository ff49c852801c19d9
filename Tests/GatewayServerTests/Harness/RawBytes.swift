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

/// What arrived on a connection so far.
struct RawBytes: Sendable, CustomStringConvertible {
    enum Ending: Sendable {
        /// The peer shut down its side in order.
        case closed
        /// The connection broke.
        case reset
    }

    var bytes: [UInt8] = []
    var ending: Ending?

    var text: String { String(decoding: self.bytes, as: UTF8.self) }
    var description: String {
        "\(String(self.text.prefix(1500)).debugDescription) ending \(String(describing: self.ending))"
    }
}

/// One HTTP answer, read by rules of its own so that the gateway's parser is not its own judge.
struct RawAnswer: Sendable {
    var status: Int
    var version: String
    var fields: [(name: String, value: String)]
    var body: [UInt8]
    /// Bytes of the answer on the wire.
    var length: Int

    var text: String { String(decoding: self.body, as: UTF8.self) }
    /// The values of a field; `name` in lower case.
    func values(_ name: String) -> [String] { self.fields.filter { $0.name == name }.map(\.value) }
    subscript(_ name: String) -> String? { self.values(name).first }

    /// The body as JSON; empty if it is none.
    var json: [String: Any] { (try? JSONSerialization.jsonObject(with: Data(self.body)) as? [String: Any]) ?? [:] }
    var error: [String: Any] { self.json["error"] as? [String: Any] ?? [:] }
    var code: Int? { self.error["code"] as? Int }
    var data: [String: Any] { self.error["data"] as? [String: Any] ?? [:] }
    var reason: String? { self.data["reason"] as? String }
    var executed: String? { self.data["executed"] as? String }

    /// Reads the answer at the start of `bytes`; nil if it is not complete.
    init?(_ bytes: [UInt8], isHead: Bool, hasEnded: Bool) {
        guard let headEnd = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
        let lines = String(decoding: bytes[..<headEnd.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        let parts = lines[0].split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let status = Int(parts[1]) else { return nil }
        self.version = String(parts[0])
        self.status = status
        self.fields = lines.dropFirst()
            .map { line in
                let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                return (parts[0].lowercased(), parts.dropFirst().joined().trimmingCharacters(in: .whitespaces))
            }
        self.body = []
        self.length = headEnd.upperBound
        let rest = bytes[headEnd.upperBound...]
        if isHead || (100..<200).contains(status) || status == 204 { return }
        if self["transfer-encoding"] == "chunked" {
            guard let (body, end) = Self.dechunked(rest) else { return nil }
            self.body = body
            self.length = end
        } else if let length = self["content-length"].flatMap(Int.init) {
            guard rest.count >= length else { return nil }
            self.body = Array(rest.prefix(length))
            self.length += length
        } else {
            guard hasEnded else { return nil }
            self.body = Array(rest)
            self.length = bytes.count
        }
    }

    /// The data of chunks up to the last; nil if that is not there.
    static func dechunked(_ bytes: ArraySlice<UInt8>) -> (body: [UInt8], end: Int)? {
        var body: [UInt8] = []
        var rest = bytes
        while let lineEnd = rest.firstRange(of: [13, 10]) {
            guard let size = Int(String(decoding: rest[..<lineEnd.lowerBound], as: UTF8.self), radix: 16) else {
                return nil
            }
            rest = rest[lineEnd.upperBound...]
            guard rest.count >= size + 2 else { return nil }
            body += rest.prefix(size)
            rest = rest.dropFirst(size + 2)
            if size == 0 { return (body, rest.startIndex) }
        }
        return nil
    }
}

/// Collects what arrives on a channel.
final class RawBytesHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let inbox: Inbox<RawBytes>

    init(_ inbox: Inbox<RawBytes>) {
        self.inbox = inbox
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        self.inbox.change { $0.bytes += bytes.readableBytesView }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed {
            self.inbox.change { $0.ending = $0.ending ?? .closed }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.inbox.change { $0.ending = $0.ending ?? .reset }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.inbox.change { $0.ending = $0.ending ?? .closed }
    }
}
