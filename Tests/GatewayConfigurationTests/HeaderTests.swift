// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Headers, filters and TLS") struct HeaderTests {
    @Test("Headers arrive in order, with white space around their values left out")
    func headers() throws {
        let result = load(
            document(server: #""url": "https://h/", "headers": {"X-B": " 1 ", "Api_Key": "ä", "Cookie": "c=1"}"#)
        )
        let headers = try #require(result.http).headers
        #expect(headers.map(\.name) == ["X-B", "Api_Key", "Cookie"])
        #expect(headers.map { $0.value.reveal() } == ["1", "ä", "c=1"])
        #expect(result.codes == [])
    }

    @Test(
        "Headers that the gateway sets itself are left out with a warning",
        arguments: [
            "Accept", "content-type", "Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Param-X", "Accept-Encoding",
            "Last-Event-ID",
        ]
    )
    func ignored(name: String) {
        let result = load(document(server: "\"url\": \"https://h/\", \"headers\": {\"\(name)\": \"x\"}"))
        #expect(result.http?.headers.isEmpty == true)
        #expect(result.codes == ["header-ignored"])
    }

    @Test(
        "Headers of the connection and of the framing are refused in any letters",
        arguments: [
            "host", "HOST", "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
            "Content-Length", "Proxy-Anything",
            "Proxy-Connection", "Expect",
        ]
    )
    func forbidden(name: String) {
        #expect(
            load(document(server: "\"url\": \"https://h/\", \"headers\": {\"\(name)\": \"x\"}")).codes == [
                "forbidden-header"
            ]
        )
        #expect(load(document(options: "\"forwardHeaders\": [\"\(name)\"]")).codes == ["forbidden-header"])
    }

    @Test("Every control byte in a value is refused", arguments: Array(0x01...0x1f) + [0x7f])
    func controlBytes(byte: Int) {
        let digits = String(byte, radix: 16)
        let escape = "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        let result = load(document(server: "\"url\": \"https://h/\", \"headers\": {\"X\": \"a\(escape)b\"}"))
        #expect(result.codes == ["invalid-header"])
    }

    @Test(
        "Headers of callers that are never passed on are an error",
        arguments: [
            "Origin", "cookie", "Mcp-Session-Id", "Mcp-X", "Forwarded", "X-Forwarded-For", "X-Forwarded-Anything",
            "Accept", "Content-Type",
        ]
    )
    func neverForwarded(name: String) {
        #expect(load(document(options: "\"forwardHeaders\": [\"\(name)\"]")).codes == ["forbidden-header"])
    }

    @Test("Forwarded headers are lower case, each once, and give way to configured ones")
    func forwarded() {
        let result = load(
            document(
                server:
                    #""url": "https://h/", "headers": {"x-own": "1"}, "options": {"forwardHeaders": ["X-User", "X-OWN", "x-user", "X-Real-IP"]}"#
            )
        )
        #expect(result.one?.forwardHeaders == ["x-user", "x-real-ip"])
        #expect(result.codes == ["header-not-forwarded"])
    }

    @Test(
        "Authorization is passed on only without pool and inbound tokens, and with a warning",
        arguments: [
            ("", "", ["authorization-forwarded"]), (#""auth": {}, "#, "", ["authorization-forwarded"]),
            (#""authTokens": [], "#, #""authTokens": ["t"]"#, ["open-server", "authorization-forwarded"]),
            (#""auth": {"tokens": ["t"]}, "#, "", ["forbidden-header"]),
            (#""authTokens": ["t"], "auth": {}, "#, "", ["forbidden-header"]),
            ("", #""authTokens": ["t"]"#, ["forbidden-header"]),
        ]
    )
    func authorization(options: String, gatewayOptions: String, codes: [String]) {
        let result = load(
            document(options: options + #""forwardHeaders": ["Authorization"]"#, gatewayOptions: gatewayOptions)
        )
        #expect(result.codes == codes)
        #expect(
            (result.snapshot?.upstreams.first?.forwardHeaders ?? [])
                == (codes.contains("forbidden-header") ? [] : ["authorization"])
        )
    }

    @Test(
        "A tool filter has a mode in any letters and a list or text of names",
        arguments: [
            (#"{"mode": "allow", "list": ["a", "b"]}"#, .allow, ["a", "b"], []),
            (#"{"mode": "BLOCK", "list": ["a,b"]}"#, .block, ["a,b"], []),
            (#"{"mode": "Allow", "list": " a, b ,,c"}"#, .allow, ["a", "b", "c"], []),
            (#"{"mode": "allow", "list": []}"#, .allow, [], ["empty-tool-filter"]),
            (#"{"mode": "block"}"#, .block, [], ["empty-tool-filter"]),
        ] as [(String, ToolFilter.Mode, Set<String>, [String])]
    )
    func toolFilter(json: String, mode: ToolFilter.Mode, names: Set<String>, codes: [String]) {
        let result = load(document(options: "\"toolFilter\": \(json)"))
        #expect(result.snapshot?.upstreams.first?.toolFilter == ToolFilter(mode: mode, names: names))
        #expect(result.codes == codes)
    }

    @Test("A filter without mode and list hides nothing and says so")
    func emptyFilter() {
        let result = load(document(options: #""toolFilter": {}"#))
        #expect(result.snapshot?.upstreams.first?.toolFilter == nil)
        #expect(result.codes == ["no-effect"])
    }

    @Test(
        "TLS settings arrive, and what they weaken is warned of",
        arguments: [
            (#"{"caFile": "ca"}"#, TLSClientConfiguration(caFile: "ca"), []),
            (#"{"certFile": "c", "keyFile": "k"}"#, TLSClientConfiguration(certFile: "c", keyFile: "k"), []),
            (#"{"insecure": true}"#, TLSClientConfiguration(isInsecure: true), ["tls-not-verified"]),
            (#"{"insecure": false}"#, TLSClientConfiguration(), []), ("{}", TLSClientConfiguration(), []),
        ] as [(String, TLSClientConfiguration, [String])]
    )
    func tls(json: String, expected: TLSClientConfiguration, codes: [String]) {
        let result = load(document(server: "\"url\": \"https://h/\", \"tls\": \(json)"))
        #expect(result.http?.tls == expected)
        #expect(result.codes == codes)
        #expect(load(document(server: "\"url\": \"http://localhost/\", \"tls\": {}")).codes == ["no-effect"])
    }

    @Test("Sessions are shared for stdio and not for urls, unless it is written otherwise")
    func isolation() {
        #expect(load(document(server: #""command": "c""#)).one?.isolation == .shared)
        #expect(
            load(document(server: #""command": "c", "options": {"isolation": "session"}"#)).one?.isolation == .session
        )
        #expect(load(document(server: #""url": "https://h/""#)).one?.isolation == .session)
        #expect(load(document(options: #""isolation": "shared""#)).one?.isolation == .shared)
    }
}
