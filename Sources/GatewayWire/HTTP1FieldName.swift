// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The field names that the gateway looks at; every other one is `.other`.
///
/// Recognition is the only comparison of names on the way of a request: later code compares these.
package enum HTTP1FieldName: UInt8, CaseIterable, Sendable {
    case other
    case host
    case origin
    case authorization
    case connection
    case contentLength
    case transferEncoding
    case contentType
    case contentEncoding
    case accept
    case acceptEncoding
    case expect
    case keepAlive
    case te
    case trailer
    case upgrade
    case proxyConnection
    case proxyAuthorization
    case proxyAuthenticate
    case wwwAuthenticate
    case location
    case retryAfter
    case date
    case server
    case via
    case forwarded
    /// Any `X-Forwarded-*`.
    case xForwarded
    case xRealIP
    case cookie
    case setCookie
    case userAgent
    case cacheControl
    case xAccelBuffering
    case lastEventID
    case mcpSessionID
    case mcpProtocolVersion
    case mcpMethod
    case mcpName
    /// Any `Mcp-Param-*`.
    case mcpParam
    /// Any other `Mcp-*`.
    case mcpOther
    case allow

    /// Recognises a name in any letter case; what is not a token is `.other`.
    package init(_ name: Span<UInt8>) {
        self = HTTP1Text.isToken(name) ? HTTP1FieldName(token: name) : .other
    }

    /// Recognises a name in any letter case; what is not a token is `.other`.
    package init(_ name: String) {
        let bytes = Array(name.utf8)
        self.init(bytes.span)
    }

    /// Recognises a name whose bytes are known to be token bytes.
    ///
    /// Compares words of eight bytes with the case bit set in all of them: of the token bytes that are no letters this
    /// changes only `^` and `_`, into bytes that are in none of the names.
    @inline(__always)
    init(token name: Span<UInt8>) {
        let count = name.count
        guard count >= 2 else {
            self = .other
            return
        }
        let caseBits: UInt64 = 0x2020_2020_2020_2020
        if count < 8 {
            self = Self.short(HTTP1Bytes.word(name) | (caseBits &>> UInt64(64 &- 8 &* count)))
            return
        }
        let raw = name.bytes
        let first = HTTP1Bytes.load(raw, at: 0) | caseBits
        let last = HTTP1Bytes.load(raw, at: count &- 8) | caseBits
        let second = count > 16 ? HTTP1Bytes.load(raw, at: 8) | caseBits : 0
        let exact = Self.long(count, first, second, last)
        self = exact == .other ? Self.family(name, first) : exact
    }

    /// Names of two to seven bytes.
    @inline(__always)
    private static func short(_ word: UInt64) -> HTTP1FieldName {
        switch word {
        case HTTP1Bytes.word("te"): .te
        case HTTP1Bytes.word("via"): .via
        case HTTP1Bytes.word("host"): .host
        case HTTP1Bytes.word("date"): .date
        case HTTP1Bytes.word("allow"): .allow
        case HTTP1Bytes.word("accept"): .accept
        case HTTP1Bytes.word("origin"): .origin
        case HTTP1Bytes.word("expect"): .expect
        case HTTP1Bytes.word("cookie"): .cookie
        case HTTP1Bytes.word("server"): .server
        case HTTP1Bytes.word("trailer"): .trailer
        case HTTP1Bytes.word("upgrade"): .upgrade
        default: word & 0xffff_ffff == HTTP1Bytes.word("mcp-") && word >> 32 != 0 ? .mcpOther : .other
        }
    }

    /// Names of eight bytes and more: their first, second and last eight bytes (the last may overlap the others).
    @inline(__always)
    private static func long(_ count: Int, _ first: UInt64, _ second: UInt64, _ last: UInt64) -> HTTP1FieldName {
        func spells(_ one: StaticString, _ two: StaticString) -> Bool {
            first == HTTP1Bytes.word(one) && last == HTTP1Bytes.word(two)
        }
        func spells(_ one: StaticString, _ two: StaticString, _ three: StaticString) -> Bool {
            spells(one, three) && second == HTTP1Bytes.word(two)
        }
        switch count {
        case 8:
            if spells("location", "location") { return .location }
            if spells("mcp-name", "mcp-name") { return .mcpName }
        case 9:
            if spells("forwarde", "orwarded") { return .forwarded }
            if spells("x-real-i", "-real-ip") { return .xRealIP }
        case 10:
            if spells("connecti", "nnection") { return .connection }
            if spells("user-age", "er-agent") { return .userAgent }
            if spells("mcp-meth", "p-method") { return .mcpMethod }
            if spells("keep-ali", "ep-alive") { return .keepAlive }
            if spells("set-cook", "t-cookie") { return .setCookie }
        case 11:
            if spells("retry-af", "ry-after") { return .retryAfter }
        case 12:
            if spells("content-", "ent-type") { return .contentType }
        case 13:
            if spells("authoriz", "rization") { return .authorization }
            if spells("cache-co", "-control") { return .cacheControl }
            if spells("last-eve", "event-id") { return .lastEventID }
        case 14:
            if spells("content-", "t-length") { return .contentLength }
            if spells("mcp-sess", "ssion-id") { return .mcpSessionID }
        case 15:
            if spells("accept-e", "encoding") { return .acceptEncoding }
        case 16:
            if spells("content-", "encoding") { return .contentEncoding }
            if spells("proxy-co", "nnection") { return .proxyConnection }
            if spells("www-auth", "enticate") { return .wwwAuthenticate }
        case 17:
            if spells("transfer", "-encodin", "encoding") { return .transferEncoding }
            if spells("x-accel-", "bufferin", "uffering") { return .xAccelBuffering }
        case 18:
            if spells("proxy-au", "thentica", "enticate") { return .proxyAuthenticate }
        case 19:
            if spells("proxy-au", "thorizat", "rization") { return .proxyAuthorization }
        case 20:
            if spells("mcp-prot", "ocol-ver", "-version") { return .mcpProtocolVersion }
        default:
            break
        }
        return .other
    }

    /// Names that are told by how they begin.
    @inline(__always)
    private static func family(_ name: Span<UInt8>, _ first: UInt64) -> HTTP1FieldName {
        if first & 0xffff_ffff == HTTP1Bytes.word("mcp-") {
            let isParameter = name.count > 10 && HTTP1Bytes.equalsIgnoringCase(name.extracting(0..<10), "mcp-param-")
            return isParameter ? .mcpParam : .mcpOther
        }
        if first == HTTP1Bytes.word("x-forwar"), name.count > 12,
            HTTP1Bytes.equalsIgnoringCase(name.extracting(0..<12), "x-forwarded-")
        {
            return .xForwarded
        }
        return .other
    }
}
