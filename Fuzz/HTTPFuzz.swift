// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Fuzz target `http`: the HTTP/1.1 codec, the checks of Host and Origin, and URLs. Every input goes through all of them.
//
// What must hold for any bytes: nothing traps; the verdict does not depend on how the bytes are cut; every range lies in
// the bytes; what was accepted and is written out again in the plainest form is accepted again with the same framing.

#if canImport(GatewayWire)
package import GatewayWire
#endif

private func check(_ condition: Bool, _ message: StaticString) {
    if !condition { fatalError("\(message)") }
}

/// The verdict on a head: its length, nil if it is incomplete, or the error.
private typealias Verdict = Result<Int?, HTTP1Error>

/// Feeds a request as far as each of `cuts`.
private func parseRequest(_ bytes: [UInt8], _ cuts: some Sequence<Int>) -> (HTTP1RequestParser, Verdict) {
    var parser = HTTP1RequestParser()
    do throws(HTTP1Error) {
        for cut in cuts {
            if let length = try parser.parse(bytes.span.extracting(0..<cut)) { return (parser, .success(length)) }
        }
    } catch {
        return (parser, .failure(error))
    }
    return (parser, .success(nil))
}

/// Feeds a response as far as each of `cuts`.
private func parseResponse(
    _ bytes: [UInt8],
    _ cuts: some Sequence<Int>,
    _ method: HTTP1Method
) -> (HTTP1ResponseParser, Verdict) {
    var parser = HTTP1ResponseParser(requestMethod: method)
    do throws(HTTP1Error) {
        for cut in cuts {
            if let length = try parser.parse(bytes.span.extracting(0..<cut)) { return (parser, .success(length)) }
        }
    } catch {
        return (parser, .failure(error))
    }
    return (parser, .success(nil))
}

/// What a chunked body decodes to: data and length, or the error, with at most `step` bytes arriving at a time.
private func decodeChunks(_ bytes: [UInt8], step: Int) -> (data: [UInt8], verdict: Verdict) {
    var decoder = HTTP1ChunkedDecoder()
    var data: [UInt8] = []
    var position = 0
    var end = min(step, bytes.count)
    do throws(HTTP1Error) {
        while true {
            let given = end - position
            let found = try decoder.next(bytes.span.extracting(position..<end))
            check(decoder.consumed <= given, "more consumed than given")
            switch found {
            case .data(let range):
                check(!range.isEmpty && range.upperBound == decoder.consumed, "data outside of what is consumed")
                data += bytes[(position + range.lowerBound)..<(position + range.upperBound)]
                position += decoder.consumed
            case .end:
                check(decoder.hasEnded, "an end that is none")
                return (data, .success(position + decoder.consumed))
            case .needsMore:
                check(decoder.consumed == given, "bytes left behind")
                position = end
                if end == bytes.count { return (data, .success(nil)) }
                end = min(end + step, bytes.count)
            }
        }
    } catch {
        return (data, .failure(error))
    }
}

private func checkFields(_ fields: [HTTP1Field], _ bytes: [UInt8], length: Int) {
    var last = 0
    for field in fields {
        check(last < field.nameRange.lowerBound, "fields out of order")
        check(
            !field.nameRange.isEmpty && field.nameRange.upperBound <= field.valueRange.lowerBound,
            "a name out of place"
        )
        check(field.valueRange.upperBound < length, "a value out of place")
        check(HTTP1Text.isToken(bytes.span.extracting(field.nameRange)), "a name that is no token")
        check(HTTP1Text.isFieldValue(bytes.span.extracting(field.valueRange)), "a value that is none")
        check(HTTP1FieldName(bytes.span.extracting(field.nameRange)) == field.name, "a name recognised in two ways")
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

private func fuzzRequest(_ bytes: [UInt8], cut: Int) {
    let (parser, verdict) = parseRequest(bytes, [bytes.count])
    let (dripped, drippedVerdict) = parseRequest(bytes, 0...bytes.count)
    let (_, splitVerdict) = parseRequest(bytes, [cut, bytes.count])
    check(verdict == drippedVerdict && verdict == splitVerdict, "a request read in two ways")
    guard case .success(let found) = verdict, let length = found else { return }
    check(length <= bytes.count && length <= HTTP1HeadLimits.request.headBytes, "a head that is too long")
    check(parser.fields == dripped.fields && parser.framing == dripped.framing, "fields read in two ways")
    check(parser.target == dripped.target && parser.path == dripped.path, "a target read in two ways")
    checkFields(parser.fields, bytes, length: length)
    check(parser.target.upperBound < length && !parser.target.isEmpty, "a target out of place")
    check(parser.path.clamped(to: parser.target) == parser.path, "a path outside of the target")
    check(parser.query.map { $0.upperBound == parser.target.upperBound } ?? true, "a query out of place")
    check(parser.framing != .untilClose, "a request until the end of the connection")
    check(parser.method != .other && parser.method != .connect, "a method that is not implemented")
    if let host = parser.host {
        let verdict = guardian.admitsHost(bytes.span.extracting(host), isLocalAddressLoopback: true)
        check(verdict != .malformed, "a Host that only the parser accepts")
    }
    _ = routes?.route(bytes.span.extracting(parser.path))
    let line =
        Array("\(parser.method.rawValue) ".utf8) + bytes[parser.target] + Array(" HTTP/1.\(parser.minorVersion)".utf8)
    let plain = rewritten(line, parser.fields, bytes)
    let limits = HTTP1HeadLimits(headBytes: 2 * plain.count, fields: 100, targetBytes: 2048)
    var again = HTTP1RequestParser(limits: limits)
    let second = try? again.parse(plain.span)
    check(second == plain.count, "a request that is refused when it is written plainly")
    check(again.framing == parser.framing && again.keepsAlive == parser.keepsAlive, "a framing that changed")
}

private func fuzzResponse(_ bytes: [UInt8], cut: Int, method: HTTP1Method) {
    let (parser, verdict) = parseResponse(bytes, [bytes.count], method)
    let (dripped, drippedVerdict) = parseResponse(bytes, 0...bytes.count, method)
    let (_, splitVerdict) = parseResponse(bytes, [cut, bytes.count], method)
    check(verdict == drippedVerdict && verdict == splitVerdict, "a response read in two ways")
    guard case .success(let found) = verdict, let length = found else { return }
    check(length <= bytes.count && length <= HTTP1HeadLimits.response.headBytes, "a head that is too long")
    check(parser.fields == dripped.fields && parser.framing == dripped.framing, "fields read in two ways")
    checkFields(parser.fields, bytes, length: length)
    check((100...999).contains(parser.status), "a status that is none")
    check(!(parser.keepsAlive && parser.framing == .untilClose), "a connection that ends and stays")
    let plain = rewritten(Array("HTTP/1.\(parser.minorVersion) \(parser.status)".utf8), parser.fields, bytes)
    let limits = HTTP1HeadLimits(headBytes: 2 * plain.count, fields: 256, targetBytes: 1)
    var again = HTTP1ResponseParser(limits: limits, requestMethod: method)
    let second = try? again.parse(plain.span)
    check(second == plain.count, "a response that is refused when it is written plainly")
    check(again.framing == parser.framing && again.keepsAlive == parser.keepsAlive, "a framing that changed")
}

private func fuzzChunks(_ bytes: [UInt8], cut: Int) {
    let whole = decodeChunks(bytes, step: max(bytes.count, 1))
    for step in [1, max(cut, 1)] {
        let dripped = decodeChunks(bytes, step: step)
        check(whole.verdict == dripped.verdict && whole.data == dripped.data, "a chunked body read in two ways")
    }
}

private func fuzzText(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    _ = guardian.admitsHost(bytes.span, isLocalAddressLoopback: true)
    let origin = WebOrigin(text)
    let verdict = guardian.admitsOrigin(bytes.span, isLocalAddressLoopback: true)
    check(
        verdict == .forbidden || origin.map { $0.isLoopback || $0.host == "gateway.example" } == true,
        "a foreign origin"
    )
    check(origin.map { WebOrigin($0.description) == $0 } ?? true, "an origin that changed")
    if let url = HTTPURL(text) {
        let again = HTTPURL("\(url.origin)\(url.target)")
        check(again?.origin == url.origin && again?.target == url.target, "a URL that changed")
    }
    let hostPort = HostPort(text)
    check((hostPort != nil) == (HostPort.Layout(bytes.span) != nil), "a host read in two ways")
    check(hostPort.map { HostPort($0.authority) == $0 } ?? true, "a host that changed")
    _ = HTTP1Accept(bytes.span).admitsJSON
    _ = HTTP1Text.mediaType(bytes.span)
    _ = HTTP1Text.list(bytes.span, contains: "close")
    check(
        HTTP1Text.isFieldValue(bytes.span) == HTTP1Text.isFieldValue(text.utf8) || !text.utf8.elementsEqual(bytes),
        "a value read in two ways"
    )
    if let value = HTTP1Text.decimal(bytes.span) { check(value >= 0, "a negative length") }
}

/// The entry point that libFuzzer calls.
@_cdecl("LLVMFuzzerTestOneInput")
package func fuzzHTTP(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    let cut = bytes.isEmpty ? 0 : Int(bytes[bytes.count / 2]) % (bytes.count + 1)
    fuzzRequest(bytes, cut: cut)
    fuzzResponse(bytes, cut: cut, method: [.post, .head, .connect][cut % 3])
    fuzzChunks(bytes, cut: cut)
    fuzzText(bytes)
    return 0
}
