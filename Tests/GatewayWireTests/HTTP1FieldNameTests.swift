// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Field names") struct HTTP1FieldNameTests {
    static let names: [(String, HTTP1FieldName)] = [
        ("Host", .host), ("Origin", .origin), ("Authorization", .authorization), ("Connection", .connection),
        ("Content-Length", .contentLength), ("Transfer-Encoding", .transferEncoding), ("Content-Type", .contentType),
        ("Content-Encoding", .contentEncoding), ("Accept", .accept), ("Accept-Encoding", .acceptEncoding),
        ("Expect", .expect), ("Keep-Alive", .keepAlive), ("TE", .te), ("Trailer", .trailer), ("Upgrade", .upgrade),
        ("Proxy-Connection", .proxyConnection), ("Proxy-Authorization", .proxyAuthorization),
        ("Proxy-Authenticate", .proxyAuthenticate), ("WWW-Authenticate", .wwwAuthenticate), ("Location", .location),
        ("Retry-After", .retryAfter), ("Date", .date), ("Server", .server), ("Via", .via), ("Forwarded", .forwarded),
        ("X-Forwarded-For", .xForwarded), ("X-Forwarded-Proto", .xForwarded), ("X-Forwarded-X", .xForwarded),
        ("X-Real-IP", .xRealIP), ("Cookie", .cookie), ("Set-Cookie", .setCookie), ("User-Agent", .userAgent),
        ("Cache-Control", .cacheControl), ("X-Accel-Buffering", .xAccelBuffering), ("Last-Event-ID", .lastEventID),
        ("Mcp-Session-Id", .mcpSessionID), ("MCP-Protocol-Version", .mcpProtocolVersion), ("Mcp-Method", .mcpMethod),
        ("Mcp-Name", .mcpName), ("Mcp-Param-Region", .mcpParam), ("Mcp-Param-X", .mcpParam), ("Allow", .allow),
        ("Mcp-Param-" + String(repeating: "a", count: 200), .mcpParam), ("Mcp-X", .mcpOther), ("Mcp-Extra", .mcpOther),
        ("Mcp-Param-", .mcpOther), ("Mcp-Protocol-Versions", .mcpOther), ("Mcp-Names", .mcpOther),
        ("Mcp-Nam", .mcpOther),
    ]

    static let others = [
        "", "H", "X", "Mcp-", "Mcp_X", "MCP", "Hos", "Hosts", "X-Forwarded-", "X-Forwarded", "X-ForwardedFor",
        "Forwarde",
        "Content_Length", "Content-Lengtn", "Dontent-Length", "Content-Length-", "Transfer_Encoding",
        "Transfer-Encodinh", "Transfer-Xncoding", "TransferrEncoding", "Proxy-Authentication", "X-Host", "Ta",
        "Set-Cookie2",
        "Content\rLength", "Content\u{d}Length", "H\u{4f}st\u{0}", "ho\u{17f}t", "\u{212a}eep-Alive", "@ost", "(ost",
        "Mcp\rName", "\u{d}cp-Name", "Proxy-Connectio", "Accept Encoding", "T\u{5}", "_e", "Authorizatio",
        "AAuthorization",
    ]

    @Test("Each name is recognised in any letter case", arguments: Self.names.map(\.0), [0, 1, 2])
    func recognises(name: String, letterCase: Int) throws {
        let expected = try #require(Self.names.first { $0.0 == name }).1
        let spelled = [name, name.uppercased(), name.lowercased()][letterCase]
        #expect(HTTP1FieldName(spelled) == expected)
        let bytes = Array(spelled.utf8)
        let found = HTTP1FieldName(bytes.span)
        #expect(found == expected)
    }

    @Test("Every name of the list has an example here")
    func complete() {
        #expect(Set(Self.names.map(\.1)).union([.other]) == Set(HTTP1FieldName.allCases))
    }

    @Test("A name that is only similar is another one", arguments: Self.others)
    func similar(name: String) {
        #expect(HTTP1FieldName(name) == .other)
    }

    @Test("A name with any one of its bytes changed, but for the letter case, is not recognised as the same")
    func oneByteChanged() {
        for (name, expected) in Self.names
        where expected != .xForwarded && expected != .mcpParam && expected != .mcpOther {
            for index in name.utf8.indices {
                for byte in UInt8.min...UInt8.max {
                    var bytes = Array(name.lowercased().utf8)
                    let offset = name.utf8.distance(from: name.utf8.startIndex, to: index)
                    let isSame = bytes[offset] == byte || (bytes[offset] - 32 == byte && (65...90).contains(byte))
                    bytes[offset] = byte
                    let found = HTTP1FieldName(bytes.span)
                    #expect((found == expected) == isSame, "\(name), \(byte) at \(offset)")
                }
            }
        }
    }

    @Test("The parser recognises names as the initialiser does")
    func parserAgrees() throws {
        for (name, expected) in Self.names where expected != .transferEncoding && expected != .contentLength {
            let bytes = latin1("HTTP/1.1 200 OK\r\n\(name): a\r\n\r\n")
            let summary = try parseResponse(bytes, cuts: [bytes.count])
            #expect(summary?.fields.map(\.name) == [expected])
        }
    }
}
