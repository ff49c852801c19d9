// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// Everything a request parser says about a head, for comparison.
struct RequestSummary: Equatable {
    let length: Int
    let method: HTTP1Method
    let target: Range<Int>
    let form: HTTP1TargetForm
    let path: Range<Int>
    let query: Range<Int>?
    let host: Range<Int>?
    let minorVersion: Int
    let framing: HTTP1BodyFraming
    let keepsAlive: Bool
    let expectsContinue: Bool
    let hasUpgrade: Bool
    let fields: [HTTP1Field]

    init(_ parser: borrowing HTTP1RequestParser, length: Int) {
        self.length = length
        self.method = parser.method
        self.target = parser.target
        self.form = parser.targetForm
        self.path = parser.path
        self.query = parser.query
        self.host = parser.host
        self.minorVersion = parser.minorVersion
        self.framing = parser.framing
        self.keepsAlive = parser.keepsAlive
        self.expectsContinue = parser.expectsContinue
        self.hasUpgrade = parser.hasUpgrade
        self.fields = parser.fields
    }
}

/// Everything a response parser says about a head, for comparison.
struct ResponseSummary: Equatable {
    let length: Int
    let status: Int
    let minorVersion: Int
    let framing: HTTP1BodyFraming
    let keepsAlive: Bool
    let fields: [HTTP1Field]

    init(_ parser: borrowing HTTP1ResponseParser, length: Int) {
        self.length = length
        self.status = parser.status
        self.minorVersion = parser.minorVersion
        self.framing = parser.framing
        self.keepsAlive = parser.keepsAlive
        self.fields = parser.fields
    }
}

/// Parses a request with the bytes arriving as far as each of `cuts` says, one after the other.
///
/// - Returns: nil if the head is not complete.
func parseRequest(
    _ bytes: [UInt8],
    cuts: some Sequence<Int>,
    limits: HTTP1HeadLimits = .request
) throws(HTTP1Error) -> RequestSummary? {
    var parser = HTTP1RequestParser(limits: limits)
    for cut in cuts {
        if let length = try parser.parse(bytes.span.extracting(0..<cut)) {
            return RequestSummary(parser, length: length)
        }
    }
    return nil
}

/// Parses a response like ``parseRequest(_:cuts:limits:)``.
func parseResponse(
    _ bytes: [UInt8],
    cuts: some Sequence<Int>,
    limits: HTTP1HeadLimits = .response,
    requestMethod: HTTP1Method = .post
) throws(HTTP1Error) -> ResponseSummary? {
    var parser = HTTP1ResponseParser(limits: limits, requestMethod: requestMethod)
    for cut in cuts {
        if let length = try parser.parse(bytes.span.extracting(0..<cut)) {
            return ResponseSummary(parser, length: length)
        }
    }
    return nil
}

/// A decoded chunked body.
struct ChunkedBody: Equatable {
    var data: [UInt8] = []
    /// How many bytes belong to the body; nil if its end was not reached.
    var length: Int?
}

/// Decodes a chunked body with at most `step` bytes arriving at a time, the first time `first`.
func decodeChunks(_ bytes: [UInt8], step: Int = .max, first: Int? = nil) throws(HTTP1Error) -> ChunkedBody {
    var decoder = HTTP1ChunkedDecoder()
    var body = ChunkedBody()
    var position = 0
    var end = min(first ?? step, bytes.count)
    while true {
        let found = try decoder.next(bytes.span.extracting(position..<end))
        switch found {
        case .data(let range):
            body.data += bytes[(position + range.lowerBound)..<(position + range.upperBound)]
            position += decoder.consumed
        case .end:
            body.length = position + decoder.consumed
            return body
        case .needsMore:
            position += decoder.consumed
            if end == bytes.count { return body }
            end = min(end + min(step, bytes.count), bytes.count)
        }
    }
}

/// What a throwing call gave, in a form that can be compared.
func outcome<Value>(_ body: () throws(HTTP1Error) -> Value) -> Result<Value, HTTP1Error> {
    do throws(HTTP1Error) {
        return .success(try body())
    } catch {
        return .failure(error)
    }
}

extension Result where Failure == HTTP1Error {
    /// The reason of a failure; nil for a success.
    var reason: HTTP1Error.Reason? {
        if case .failure(let error) = self { return error.reason }
        return nil
    }
}

/// The bytes of a Latin-1 text: each scalar is one byte.
func latin1(_ text: String) -> [UInt8] {
    text.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
}
