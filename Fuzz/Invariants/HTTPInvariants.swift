// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(GatewayWire)
import GatewayWire
#endif

/// What must hold of the HTTP/1.1 codec, the checks of Host and Origin, routes and URLs for any bytes: nothing traps, the
/// verdict does not depend on how the bytes are cut, every range lies in the bytes, and what was accepted and is written
/// out again in the plainest form is accepted again with the same framing.
enum HTTPInvariants {
    /// What is violated, or nil.
    static func violation(of bytes: [UInt8]) -> String? {
        let cut = bytes.isEmpty ? 0 : Int(bytes[bytes.count / 2]) % (bytes.count + 1)
        do throws(Violation) {
            try checkRequest(bytes, cut: cut)
            try checkResponse(bytes, cut: cut, method: [.post, .head, .connect][cut % 3])
            try checkChunks(bytes, cut: cut)
            try checkText(bytes)
        } catch {
            return error.text
        }
        return nil
    }
}

/// Something that must hold and does not, in words.
private struct Violation: Error {
    let text: String
}

private func check(_ condition: Bool, _ text: StaticString) throws(Violation) {
    if !condition { throw Violation(text: "\(text)") }
}

/// The verdict on a head: its length, nil if it is incomplete, or the error.
private typealias Verdict = Result<Int?, HTTP1Error>

/// Feeds a request as far as each of `cuts`.
private func parseRequest(_ bytes: [UInt8], _ cuts: some Sequence<Int>) -> ReadRequest {
    var read = ReadRequest()
    do throws(HTTP1Error) {
        for cut in cuts {
            guard let length = try read.parser.parse(bytes.span.extracting(0..<cut)) else { continue }
            read.verdict = .success(length)
            break
        }
    } catch {
        read.verdict = .failure(error)
    }
    return read
}

/// A parser with the bytes that it was given, and its verdict on them.
private struct ReadRequest: ~Copyable {
    var parser = HTTP1RequestParser()
    var verdict = Verdict.success(nil)
}

/// Feeds a response as far as each of `cuts`.
private func parseResponse(
    _ bytes: [UInt8],
    _ cuts: some Sequence<Int>,
    _ method: HTTP1Method
) -> ReadResponse {
    var read = ReadResponse(parser: HTTP1ResponseParser(requestMethod: method))
    do throws(HTTP1Error) {
        for cut in cuts {
            guard let length = try read.parser.parse(bytes.span.extracting(0..<cut)) else { continue }
            read.verdict = .success(length)
            break
        }
    } catch {
        read.verdict = .failure(error)
    }
    return read
}

private struct ReadResponse: ~Copyable {
    var parser: HTTP1ResponseParser
    var verdict = Verdict.success(nil)
}

/// What a chunked body decodes to: data and length, or the error, with at most `step` bytes arriving at a time.
private func decodeChunks(_ bytes: [UInt8], step: Int) throws(Violation) -> (data: [UInt8], verdict: Verdict) {
    var decoder = HTTP1ChunkedDecoder()
    var data: [UInt8] = []
    var position = 0
    var end = min(step, bytes.count)
    while true {
        let given = end - position
        let found: HTTP1ChunkedDecoder.Step
        do throws(HTTP1Error) {
            found = try decoder.next(bytes.span.extracting(position..<end))
        } catch {
            return (data, .failure(error))
        }
        try check(decoder.consumed <= given, "more consumed than given")
        switch found {
        case .data(let range):
            try check(!range.isEmpty && range.upperBound == decoder.consumed, "data outside of what is consumed")
            data += bytes[(position + range.lowerBound)..<(position + range.upperBound)]
            position += decoder.consumed
        case .end:
            try check(decoder.hasEnded, "an end that is none")
            return (data, .success(position + decoder.consumed))
        case .needsMore:
            try check(decoder.consumed == given, "bytes left behind")
            position = end
            if end == bytes.count { return (data, .success(nil)) }
            end = min(end + step, bytes.count)
        }
    }
}

private func checkFields(_ fields: [HTTP1Field], _ bytes: [UInt8], length: Int) throws(Violation) {
    var last = 0
    for field in fields {
        try check(last < field.nameRange.lowerBound, "fields out of order")
        try check(
            !field.nameRange.isEmpty && field.nameRange.upperBound <= field.valueRange.lowerBound,
            "a name out of place"
        )
        try check(field.valueRange.upperBound < length, "a value out of place")
        try check(HTTP1Text.isToken(bytes.span.extracting(field.nameRange)), "a name that is no token")
        try check(HTTP1Text.isFieldValue(bytes.span.extracting(field.valueRange)), "a value that is none")
        try check(HTTP1FieldName(bytes.span.extracting(field.nameRange)) == field.name, "a name recognised in two ways")
        last = field.valueRange.upperBound
    }
}

/// Start line and fields in the plainest form.
private func rewritten(_ startLine: [UInt8], _ fields: [HTTP1Field], _ bytes: [UInt8]) -> [UInt8] {
    var head = startLine + Array("\r\n".utf8)
    for field in fields {
        head += bytes[field.nameRange] + Array(": ".utf8) + bytes[field.valueRange] + Array("\r\n".utf8)
    }
    return head + Array("\r\n".utf8)
}

private let guardian = RequestGuard(
    baseOrigin: WebOrigin(scheme: .https, host: "gateway.example", isIPv6Literal: false, port: 443),
    allowedHosts: [HostPort(host: "2001:db8::1", port: nil, isIPv6Literal: true)],
    allowedOrigins: []
)

private let routes = try? RouteTable(basePath: "", servers: [(index: 0, route: "echo"), (index: 1, route: "a/b")])

private func checkRequest(_ bytes: [UInt8], cut: Int) throws(Violation) {
    let whole = parseRequest(bytes, [bytes.count])
    let dripped = parseRequest(bytes, 0...bytes.count)
    let split = parseRequest(bytes, [cut, bytes.count])
    try check(whole.verdict == dripped.verdict && whole.verdict == split.verdict, "a request read in two ways")
    guard case .success(let found) = whole.verdict, let length = found else { return }
    try check(length <= bytes.count && length <= HTTP1HeadLimits.request.headBytes, "a head that is too long")
    try check(
        whole.parser.fields == dripped.parser.fields && whole.parser.framing == dripped.parser.framing,
        "fields read in two ways"
    )
    try check(
        whole.parser.target == dripped.parser.target && whole.parser.path == dripped.parser.path,
        "a target read in two ways"
    )
    try checkFields(whole.parser.fields, bytes, length: length)
    try check(whole.parser.target.upperBound < length && !whole.parser.target.isEmpty, "a target out of place")
    try check(whole.parser.path.clamped(to: whole.parser.target) == whole.parser.path, "a path outside of the target")
    try check(
        whole.parser.query.map { $0.upperBound == whole.parser.target.upperBound } ?? true,
        "a query out of place"
    )
    try check(whole.parser.framing != .untilClose, "a request until the end of the connection")
    try check(whole.parser.method != .other && whole.parser.method != .connect, "a method that is not implemented")
    if let host = whole.parser.host {
        let verdict = guardian.admitsHost(bytes.span.extracting(host), isLocalAddressLoopback: true)
        try check(verdict != .malformed, "a Host that only the parser accepts")
    }
    _ = routes?.route(bytes.span.extracting(whole.parser.path))
    let line =
        Array("\(whole.parser.method.rawValue) ".utf8) + bytes[whole.parser.target]
        + Array(" HTTP/1.\(whole.parser.minorVersion)".utf8)
    let plain = rewritten(line, whole.parser.fields, bytes)
    let limits = HTTP1HeadLimits(headBytes: 2 * plain.count, fields: 100, targetBytes: 2048)
    var again = HTTP1RequestParser(limits: limits)
    let second = try? again.parse(plain.span)
    try check(second == plain.count, "a request that is refused when it is written plainly")
    try check(
        again.framing == whole.parser.framing && again.keepsAlive == whole.parser.keepsAlive,
        "a framing that changed"
    )
}

private func checkResponse(_ bytes: [UInt8], cut: Int, method: HTTP1Method) throws(Violation) {
    let whole = parseResponse(bytes, [bytes.count], method)
    let dripped = parseResponse(bytes, 0...bytes.count, method)
    let split = parseResponse(bytes, [cut, bytes.count], method)
    try check(whole.verdict == dripped.verdict && whole.verdict == split.verdict, "a response read in two ways")
    guard case .success(let found) = whole.verdict, let length = found else { return }
    try check(length <= bytes.count && length <= HTTP1HeadLimits.response.headBytes, "a head that is too long")
    try check(
        whole.parser.fields == dripped.parser.fields && whole.parser.framing == dripped.parser.framing,
        "fields read in two ways"
    )
    try checkFields(whole.parser.fields, bytes, length: length)
    try check((100...999).contains(whole.parser.status), "a status that is none")
    try check(!(whole.parser.keepsAlive && whole.parser.framing == .untilClose), "a connection that ends and stays")
    let plain = rewritten(
        Array("HTTP/1.\(whole.parser.minorVersion) \(whole.parser.status)".utf8),
        whole.parser.fields,
        bytes
    )
    let limits = HTTP1HeadLimits(headBytes: 2 * plain.count, fields: 256, targetBytes: 1)
    var again = HTTP1ResponseParser(limits: limits, requestMethod: method)
    let second = try? again.parse(plain.span)
    try check(second == plain.count, "a response that is refused when it is written plainly")
    try check(
        again.framing == whole.parser.framing && again.keepsAlive == whole.parser.keepsAlive,
        "a framing that changed"
    )
}

private func checkChunks(_ bytes: [UInt8], cut: Int) throws(Violation) {
    let whole = try decodeChunks(bytes, step: max(bytes.count, 1))
    for step in [1, max(cut, 1)] {
        let dripped = try decodeChunks(bytes, step: step)
        try check(whole.verdict == dripped.verdict && whole.data == dripped.data, "a chunked body read in two ways")
    }
}

private func checkText(_ bytes: [UInt8]) throws(Violation) {
    let text = String(decoding: bytes, as: UTF8.self)
    _ = guardian.admitsHost(bytes.span, isLocalAddressLoopback: true)
    let origin = WebOrigin(text)
    let verdict = guardian.admitsOrigin(bytes.span, isLocalAddressLoopback: true)
    try check(
        verdict == .forbidden || origin.map { $0.isLoopback || $0.host == "gateway.example" } == true,
        "a foreign origin"
    )
    try check(origin.map { WebOrigin($0.description) == $0 } ?? true, "an origin that changed")
    if let url = HTTPURL(text) {
        let again = HTTPURL("\(url.origin)\(url.target)")
        try check(again?.origin == url.origin && again?.target == url.target, "a URL that changed")
    }
    let hostPort = HostPort(text)
    try check((hostPort != nil) == (HostPort.Layout(bytes.span) != nil), "a host read in two ways")
    try check(hostPort.map { HostPort($0.authority) == $0 } ?? true, "a host that changed")
    _ = HTTP1Accept(bytes.span).admitsJSON
    _ = HTTP1Text.mediaType(bytes.span)
    _ = HTTP1Text.list(bytes.span, contains: "close")
    try check(
        HTTP1Text.isFieldValue(bytes.span) == HTTP1Text.isFieldValue(text.utf8) || !text.utf8.elementsEqual(bytes),
        "a value read in two ways"
    )
    if let value = HTTP1Text.decimal(bytes.span) { try check(value >= 0, "a negative length") }
}
