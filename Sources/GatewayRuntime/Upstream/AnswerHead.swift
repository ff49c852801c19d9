// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import GatewayPolicy
import GatewayTransport
import GatewayWire
import NIOCore

/// What is kept of an upstream's answer head: what the caller may see of it, and what the relay goes by.
///
/// Only fields that mean something to an MCP client pass. The rest (cookies, CORS, HSTS, `WWW-Authenticate`, the
/// upstream's session id) speaks for the upstream's own origin, and the caller talks to ours.
struct AnswerHead {
    var status = 0
    var mediaType = HTTP1MediaType.other
    /// nil: not announced, or of another coding than what comes.
    var length: Int?
    var isCloseDelimited = false
    /// The field lines for the caller.
    var fields = ByteBuffer()
    /// The session id, if it is one that can be sent back (visible ASCII, and no longer than
    /// the head of a request may be by default).
    var sessionID: String?
    var retryAfter: String?
    var location: String?
    /// The coding of the body, in words, if it is none that can be decoded: it then comes without one.
    var unsupportedCoding: String?
    /// What a 401 or 403 says of itself.
    var challenges = AuthChallenges()
    /// Whether the head says that a limit of rate is used up.
    var isLimited = false

    init() {}

    init(_ connection: UpstreamConnection) {
        let bytes = connection.responseBytes
        self.status = connection.response.status
        switch connection.response.framing {
        case .none: self.length = 0
        case .length(let length): self.length = length
        case .chunked: break
        case .untilClose: self.isCloseDelimited = true
        }
        let isRefusal = StatusReading.refusesCredential(self.status)
        for field in connection.response.fields {
            if isRefusal { self.readRefusal(field, of: bytes) }
            switch field.name {
            case .contentType:
                self.mediaType = HTTP1Text.mediaType(bytes.readableBytesUInt8Span.extracting(field.valueRange))
                self.pass(field, of: bytes)
            case .cacheControl, .xAccelBuffering, .mcpProtocolVersion, .mcpMethod, .mcpName, .mcpParam, .mcpOther:
                self.pass(field, of: bytes)
            case .mcpSessionID:
                let id = bytes.readableBytesUInt8Span.extracting(field.valueRange)
                if id.count <= HTTP1HeadLimits.request.headBytes, HTTP1Text.isVisibleASCII(id) {
                    self.sessionID = Self.text(field, of: bytes)
                }
            case .retryAfter: self.retryAfter = Self.text(field, of: bytes)
            case .location: self.location = Self.text(field, of: bytes)
            default: break
            }
        }
        // What comes is longer than what was announced.
        if connection.isDecoded { self.length = nil }
        self.unsupportedCoding = connection.unsupportedCoding
    }

    /// Headers that only refusals are looked at for, and that have no place in the list of names.
    private mutating func readRefusal(_ field: HTTP1Field, of bytes: ByteBuffer) {
        guard let name = field.lowercasedName(in: bytes), let value = field.value(in: bytes) else { return }
        switch name {
        case "www-authenticate": self.challenges.read(value)
        case "x-ratelimit-remaining": if value.elementsEqual("0".utf8) { self.isLimited = true }
        case "ratelimit": if String(decoding: value, as: UTF8.self).contains("r=0") { self.isLimited = true }
        default: break
        }
    }

    private mutating func pass(_ field: HTTP1Field, of bytes: ByteBuffer) {
        let start = bytes.readerIndex
        // Name, colon and value stand in one piece, and the parser found nothing in them that a field may not have.
        let line = Int(field.nameStart)..<Int(field.valueEnd)
        if let line = bytes.viewBytes(at: start + line.lowerBound, length: line.count) {
            self.fields.writeBytes(line)
            self.fields.writeStaticString("\r\n")
        }
    }

    private static func text(_ field: HTTP1Field, of bytes: ByteBuffer) -> String? {
        bytes.getString(at: bytes.readerIndex + field.valueRange.lowerBound, length: field.valueRange.count)
    }

    /// `Retry-After` in milliseconds, between 1 s and 300 s; nil if there is none that can be read.
    ///
    /// A date is taken relative to now (RFC 9110 §10.2.3, faults F30, F32).
    var retryAfterMilliseconds: Int? {
        guard let retryAfter else { return nil }
        let bytes = Array(retryAfter.utf8)
        let seconds: Int
        if !bytes.isEmpty, bytes.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) {
            seconds = Int(retryAfter) ?? .max
        } else if let date = HTTPDate.seconds(retryAfter) {
            seconds = date - Int(Platform.wallClock() / 1_000_000_000)
        } else {
            return nil
        }
        return min(max(seconds, 1), 300) * 1000
    }
}

extension AnswerHead {
    /// What a refusal seems to be about; `message` is the JSON-RPC message that came with it, if one did.
    func refusalKind(_ message: Envelope?) -> RefusalKind {
        let message = self.mediaType == .json ? message : nil
        return RefusalKind(
            status: self.status,
            bearerError: self.challenges.bearerError,
            hasChallenge: !self.challenges.isEmpty,
            isLimited: self.isLimited || self.retryAfter != nil,
            isBareError: message?.kind == .error && message?.id == nil
        )
    }
}
