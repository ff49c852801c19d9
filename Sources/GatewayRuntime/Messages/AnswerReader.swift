// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore

/// Reads from upstreams' messages the little that the gateway goes by.
enum AnswerReader {
    /// The envelope of a message; nil if it is none.
    static func read(_ message: ByteBuffer, depth: Int) -> Envelope? {
        let scanner = EnvelopeScanner(source: .upstream, maximumDepth: depth)
        // Why it is none does not matter: a peer's mistake has one answer.
        guard let scan = try? scanner.scan(message.readableBytesUInt8Span), case .message(let envelope) = scan else {
            return nil
        }
        return envelope
    }

    /// `result.protocolVersion` of an answer to `initialize`.
    static func protocolVersion(of envelope: Envelope, in message: ByteBuffer) -> String? {
        let bytes = message.readableBytesUInt8Span
        guard let result = envelope.result else { return nil }
        return Envelope.member("protocolVersion", at: result.lowerBound, in: bytes)?.string?.decoded(in: bytes)
    }

    /// `result.supportedVersions` of an answer to `server/discover`; nil if there is no such list.
    static func supportedVersions(of envelope: Envelope, in message: ByteBuffer) -> [String]? {
        let bytes = message.readableBytesUInt8Span
        guard let result = envelope.result,
            let list = Envelope.member("supportedVersions", at: result.lowerBound, in: bytes), list.kind == .array
        else { return nil }
        return Self.strings(at: list.range.lowerBound, in: bytes)
    }

    /// `error.data.supported` of -32022; empty if it is not there.
    static func refusedVersions(of envelope: Envelope, in message: ByteBuffer) -> [String] {
        let bytes = message.readableBytesUInt8Span
        guard let error = envelope.error, let data = Envelope.member("data", at: error.lowerBound, in: bytes),
            let list = Envelope.member("supported", at: data.range.lowerBound, in: bytes), list.kind == .array
        else { return [] }
        return Self.strings(at: list.range.lowerBound, in: bytes)
    }

    /// `params.cursor` of a request for a page of a list; nil for the first page.
    static func cursor(of envelope: Envelope, in message: ByteBuffer) -> String? {
        let bytes = message.readableBytesUInt8Span
        guard let params = envelope.params,
            let cursor = Envelope.member("cursor", at: params.lowerBound, in: bytes)?.string?.decoded(in: bytes)
        else { return nil }
        return cursor.isEmpty ? nil : cursor
    }

    /// What a caller's `initialize` says that it can do for a server.
    static func capabilities(of envelope: Envelope, in message: ByteBuffer) -> Set<SessionBridge.Capability> {
        let bytes = message.readableBytesUInt8Span
        guard let params = envelope.params,
            let declared = Envelope.member("capabilities", at: params.lowerBound, in: bytes), declared.kind == .object
        else { return [] }
        var capabilities: Set<SessionBridge.Capability> = []
        for (name, capability) in [
            ("sampling", SessionBridge.Capability.sampling), ("elicitation", .elicitation), ("roots", .roots),
        ] as [(StaticString, SessionBridge.Capability)] {
            let value = Envelope.member(name, at: declared.range.lowerBound, in: bytes)
            if value?.kind == .object { capabilities.insert(capability) }
        }
        return capabilities
    }

    /// The strings of the array at `start`.
    private static func strings(at start: Int, in bytes: Span<UInt8>) -> [String] {
        var scanner = JSONScanner(at: start, depthLimit: .max)
        var strings: [String] = []
        do {
            var hasNext = try scanner.beginArray(in: bytes)
            while hasNext {
                if let string = try scanner.value(in: bytes).string { strings.append(string.decoded(in: bytes)) }
                hasNext = try scanner.nextElement(in: bytes)
            }
        } catch {
            return strings
        }
        return strings
    }
}

extension SSEEvent {
    /// The message that the event carries, without a copy if it is one line; nil for an event that is to be skipped.
    func messageBytes(in bytes: ByteBuffer) -> ByteBuffer? {
        self.carriesMessage(in: bytes.readableBytesUInt8Span) ? self.dataBytes(in: bytes) : nil
    }

    /// The data as one piece, without a copy if it is one line; nil if the event has none.
    func dataBytes(in bytes: ByteBuffer) -> ByteBuffer? {
        switch self.data {
        case .none: nil
        case .single(let range): bytes.getSlice(at: bytes.readerIndex + range.lowerBound, length: range.count)
        case .lines: ByteBuffer(bytes: self.joinedData(in: bytes.readableBytesUInt8Span))
        }
    }
}
