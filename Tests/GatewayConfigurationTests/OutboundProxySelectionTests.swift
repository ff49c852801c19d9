// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayWire
import Testing

@testable import GatewayConfiguration

@Suite("Selection of an outbound proxy") struct OutboundProxySelectionTests {
    /// What a row of credentials §3.2 ends with.
    enum Expected: Sendable, Equatable {
        case direct
        /// The host of the proxy, and the variable that named it.
        case proxy(String, by: String)
        case unusable(String)
    }

    struct Row: Sendable, CustomTestStringConvertible {
        var id: String
        var environment: [String: String]
        var url: String
        var expected: Expected
        var isDiscarded = false

        init(
            _ id: String,
            _ environment: [String: String],
            _ url: String,
            _ expected: Expected,
            isDiscarded: Bool = false
        ) {
            self.id = id
            self.environment = environment
            self.url = url
            self.expected = expected
            self.isDiscarded = isDiscarded
        }

        var testDescription: String { "\(self.id) \(self.url)" }
    }

    private static let a = "http://a.proxy:1"
    private static let b = "http://b.proxy:2"
    private static let c = "http://c.proxy:3"
    private static let http = "http://target.test/"
    private static let https = "https://target.test/"

    /// The rows of credentials §3.2.
    static let rows: [Row] = [
        Row("E1", ["http_proxy": a, "HTTP_PROXY": b], http, .proxy("a.proxy", by: "http_proxy")),
        Row("E2", ["HTTP_PROXY": b], http, .proxy("b.proxy", by: "HTTP_PROXY")),
        Row("E3", ["HTTPS_PROXY": b], https, .proxy("b.proxy", by: "HTTPS_PROXY")),
        Row("E4", ["https_proxy": a, "HTTPS_PROXY": b], https, .proxy("a.proxy", by: "https_proxy")),
        Row("E5", ["ALL_PROXY": c], http, .proxy("c.proxy", by: "ALL_PROXY")),
        Row("E5", ["ALL_PROXY": c], https, .proxy("c.proxy", by: "ALL_PROXY")),
        Row("E6", ["http_proxy": "", "HTTP_PROXY": b], http, .proxy("b.proxy", by: "HTTP_PROXY")),
        Row("E7", ["https_proxy": "", "HTTPS_PROXY": b], https, .proxy("b.proxy", by: "HTTPS_PROXY")),
        Row("E8", ["https_proxy": "", "ALL_PROXY": c], https, .proxy("c.proxy", by: "ALL_PROXY")),
        Row("E9", ["HTTP_PROXY": b], https, .direct),
        Row("E9", ["http_proxy": a], https, .direct),
        Row("E10", ["REQUEST_METHOD": "GET", "HTTP_PROXY": b], http, .direct, isDiscarded: true),
        Row("E11", ["REQUEST_METHOD": "GET", "http_proxy": a], http, .proxy("a.proxy", by: "http_proxy")),
        Row("E12", ["REQUEST_METHOD": "GET", "HTTPS_PROXY": b], https, .proxy("b.proxy", by: "HTTPS_PROXY")),
        Row(
            "E13",
            ["no_proxy": "other.test", "NO_PROXY": "target.test", "https_proxy": a],
            https,
            .proxy("a.proxy", by: "https_proxy")
        ),
        Row("E14", ["no_proxy": "", "NO_PROXY": "target.test", "https_proxy": a], https, .direct),
        Row("E15", ["HTTPS_PROXY": "127.0.0.1:39202"], https, .proxy("127.0.0.1", by: "HTTPS_PROXY")),
        Row("E16", ["HTTPS_PROXY": "http://[::1"], https, .unusable("HTTPS_PROXY")),
        Row("E17", ["HTTPS_PROXY": "ftp://CANARY@h"], https, .unusable("HTTPS_PROXY")),
        Row("E18", ["HTTPS_PROXY": " \(a) "], https, .proxy("a.proxy", by: "HTTPS_PROXY")),
    ]

    /// What those rows do not say.
    static let more: [Row] = [
        Row("lower case of all first", ["all_proxy": a, "ALL_PROXY": b], http, .proxy("a.proxy", by: "all_proxy")),
        Row("the own variable first", ["all_proxy": a, "HTTP_PROXY": b], http, .proxy("b.proxy", by: "HTTP_PROXY")),
        Row("blank is unset", ["http_proxy": " \t\r\n", "HTTP_PROXY": b], http, .proxy("b.proxy", by: "HTTP_PROXY")),
        Row("no CGI", ["REQUEST_METHOD": "", "HTTP_PROXY": b], http, .proxy("b.proxy", by: "HTTP_PROXY")),
        Row(
            "after the discarded one",
            ["REQUEST_METHOD": "GET", "HTTP_PROXY": b, "ALL_PROXY": c],
            http,
            .proxy("c.proxy", by: "ALL_PROXY"),
            isDiscarded: true
        ),
        Row("nothing discarded", ["REQUEST_METHOD": "GET", "HTTP_PROXY": " "], http, .direct),
        Row(
            "no fall-over from a bad one",
            ["https_proxy": "ftp://h", "HTTPS_PROXY": b],
            https,
            .unusable("https_proxy")
        ),
        Row("a bad one that is not needed", ["https_proxy": "ftp://h", "NO_PROXY": "target.test"], https, .direct),
        Row(
            "a bad one of the other scheme",
            ["https_proxy": "ftp://h", "http_proxy": a],
            http,
            .proxy("a.proxy", by: "http_proxy")
        ),
        Row("nothing", [:], https, .direct),
    ]

    private func selection(_ row: Row) throws -> OutboundProxySelection {
        let target = try #require(HTTPURL(written: row.url)).origin
        return OutboundProxySelection(.environment, to: target, environment: row.environment)
    }

    private func outcome(_ selection: OutboundProxySelection) -> Expected {
        switch selection.outcome {
        case .direct: .direct
        case .proxy(let proxy, .variable(let name)): .proxy(proxy.host, by: name)
        case .proxy(let proxy, let rule): .proxy(proxy.host, by: "\(rule)")
        case .unusable(let unusable): .unusable(unusable.variable)
        }
    }

    @Test("Variables are looked at in one order, and a bad one that is needed is an error", arguments: rows + more)
    func environment(row: Row) throws {
        let selection = try self.selection(row)
        #expect(self.outcome(selection) == row.expected)
        #expect(selection.notices == (row.isDiscarded ? [.ignoredInCGI(variable: "HTTP_PROXY")] : []))
        if let proxy = selection.proxy, case .proxy(_, let variable) = row.expected {
            #expect(proxy.setting == variable)
        }
    }

    @Test("The same rows decide about a server: its proxy, or an error at it that withholds the value", arguments: rows)
    func server(row: Row) throws {
        let result = load(document(server: "\"url\": \"\(row.url)\""), environment: row.environment)
        let error =
            #"environment variable HTTPS_PROXY is not a usable proxy URL (value withheld); upstream "one" needs it."#
            + " Fix it or set mcpServers.one.options.proxy to false ("
        switch row.expected {
        case .direct:
            #expect(result.snapshot != nil && result.http?.outboundProxy == nil)
            #expect(result.codes == (row.isDiscarded ? ["environment-proxy-discarded"] : []))
        case .proxy(let host, _):
            #expect(result.http?.outboundProxy?.host == host)
            #expect(result.codes == [])
        case .unusable:
            #expect(result.snapshot == nil && result.http?.outboundProxy == nil)
            #expect(result.codes == ["environment-proxy-invalid"])
            #expect(result.findings.first?.path == "mcpServers.one.url")
            #expect(result.findings.first?.message.hasPrefix(error) == true)
            #expect(!"\(result)".contains("CANARY"))
        }
    }

    @Test(
        "S1 to S7: options.proxy decides whether the environment is asked, and for what",
        arguments: [
            ("S1", "false", nil, "options.proxy"), ("S2", #""http://p:1""#, "p", "options.proxy.url"),
            ("S2", #"{"url": "http://p:1"}"#, "p", "options.proxy.url"),
            (
                "S2", #"{"url": "http://p:1", "noProxy": "up.example.com"}"#, nil,
                "options.proxy.noProxy entry 1 (up.example.com)"
            ),
            ("S3", #"{"url": "http://p:1", "useEnv": true}"#, nil, "NO_PROXY entry 1 (example.com)"),
            ("S3", #"{"url": "http://p:1", "useEnv": true, "noProxy": "*"}"#, nil, "options.proxy.noProxy entry 1 (*)"),
            ("S4", #"{"useEnv": true}"#, nil, "NO_PROXY entry 1 (example.com)"),
            ("S5", "null", nil, "NO_PROXY entry 1 (example.com)"), ("S5", "{}", nil, "NO_PROXY entry 1 (example.com)"),
            ("S6", #"{"useEnv": false}"#, nil, "options.proxy"),
        ] as [(String, String, String?, String)]
    )
    func sources(id: String, json: String, host: String?, rule: String) throws {
        // With NO_PROXY for the server, and without.
        var environment = ["https_proxy": "http://env:1", "NO_PROXY": "example.com"]
        let result = load(document(options: "\"proxy\": \(json)"), environment: environment)
        #expect(result.codes == [])
        let http = try #require(result.http)
        #expect(http.outboundProxy?.host == host)
        let selection = OutboundProxySelection(http.proxy, to: http.url.origin, environment: environment)
        switch selection.outcome {
        case .direct(let decided), .proxy(_, let decided): #expect("\(decided)" == rule)
        case .unusable: Issue.record("unusable")
        }
        environment["NO_PROXY"] = nil
        let other = load(document(options: "\"proxy\": \(json)"), environment: environment).http?.outboundProxy?.host
        let expected =
            switch id {
            case "S4", "S5": "env"
            case "S3" where !json.contains("noProxy"): "p"
            default: host
            }
        #expect(other == expected)
    }

    @Test("S7: a child process has no proxy, whatever the variables say, and is told so if it asks for one")
    func stdio() {
        let environment = ["ALL_PROXY": "ftp://h", "NO_PROXY": "/"]
        let asking = document(server: #""command": "c", "options": {"proxy": "http://p:1"}"#)
        #expect(load(asking, environment: environment).codes == ["no-effect"])
        #expect(load(document(server: #""command": "c""#), environment: environment).codes == [])
        let inheriting = document(server: #""command": "c""#, gateway: #", "options": {"proxy": "http://p:1"}"#)
        #expect(load(inheriting, environment: environment).codes == [])
    }

    @Test("A proxy says where it is set: at the server, where it is inherited from, or in which variable")
    func setting() {
        func setting(_ options: String, _ inherited: String, _ environment: [String: String]) -> String? {
            let text = document(options: options, gatewayOptions: inherited)
            return load(text, environment: environment).http?.outboundProxy?.setting
        }
        #expect(setting(#""proxy": "p:1""#, #""proxy": "q:1""#, [:]) == "mcpServers.one.options.proxy")
        #expect(setting(#""proxy": {"url": "p:1"}"#, "", [:]) == "mcpServers.one.options.proxy")
        #expect(setting("", #""proxy": "q:1""#, [:]) == "mcpProxy.options.proxy")
        #expect(setting("", #""proxy": {"url": "q:1"}"#, [:]) == "mcpProxy.options.proxy")
        #expect(setting("", "", ["https_proxy": "p:1"]) == "https_proxy")
        #expect(setting(#""proxy": {"useEnv": true}"#, #""proxy": "q:1""#, ["ALL_PROXY": "p:1"]) == "ALL_PROXY")
        #expect(setting(#""proxy": null"#, #""proxy": "q:1""#, [:]) == "mcpProxy.options.proxy")
    }

    @Test(
        "A variable is a proxy like one of the options: kinds, ports, and a login that is decoded once",
        arguments: [
            ("p", .http, 80, nil, nil), ("p:3128/", .http, 3128, nil, nil), ("HTTPS://p", .https, 443, nil, nil),
            ("socks5://p", .socks5, 1080, nil, nil), ("socks5h://u@p:9", .socks5h, 9, "u", nil),
            ("u:p%3A%40%25%2F%23@p:1", .http, 1, "u", "p:@%/#"), ("http://u+v:w+x@p:1", .http, 1, "u+v", "w+x"),
            ("http://%C3%BC:%E7%A4%BA@p:1", .http, 1, "ü", "示"), ("http://ü:示@p:1", .http, 1, "ü", "示"),
            ("http://u:a:b@c@p:1", .http, 1, "u", "a:b@c"), ("http://u:@p:1", .http, 1, "u", ""),
        ] as [(String, OutboundProxy.Kind, Int, String?, String?)]
    )
    func variable(text: String, kind: OutboundProxy.Kind, port: Int, user: String?, password: String?) throws {
        let proxy = try #require(
            self.selection(Row("", ["https_proxy": text], Self.https, .direct)).proxy
        )
        #expect(proxy.host == "p" && proxy.kind == kind && proxy.port == port)
        #expect(proxy.username == user.map { Secret($0) } && proxy.password == password.map { Secret($0) })
        #expect(proxy.tunnel == .auto && proxy.tls == TLSClientConfiguration())
    }

    @Test(
        "What a variable cannot mean is refused with a reason, and nothing of it is shown",
        arguments: [
            "ftp://CANARY", "socks4://CANARY", "socks4a://CANARY", "pac+http://CANARY/x.pac", "quic://CANARY",
            "http://", "http://CANARY:0", "http://CANARY:65536", "http://u:CANARY", "http://CANARY:1/x@h",
            "CANARY%zz@h",
            "http://u:CANARY#1@h", "http://a%3Ab:CANARY@h", "http://u:CANARY%0d%0a@h", "http://:CANARY@h",
            "http://[CANARY]:1", "http://CANARY h:1",
        ]
    )
    func refused(text: String) throws {
        let selection = try self.selection(Row("", ["https_proxy": text], Self.https, .direct))
        guard case .unusable(let unusable) = selection.outcome else {
            Issue.record("\(selection.outcome)")
            return
        }
        #expect(unusable.variable == "https_proxy" && !unusable.reason.isEmpty)
        var shown = "\(selection) \(unusable.message(forServer: "s")) \(String(reflecting: selection))"
        dump(selection, to: &shown)
        #expect(!shown.contains("CANARY"))
    }

    @Test(
        "A user or password for SOCKS that is longer than 255 bytes makes the variable unusable",
        arguments: [255, 256]
    )
    func socksLength(count: Int) throws {
        let text = String(repeating: "u", count: count)
        for login in ["\(text):p", "u:\(text)"] {
            let row = Row("", ["https_proxy": "socks5h://\(login)@p:1"], Self.https, .direct)
            #expect(try (self.selection(row).proxy != nil) == (count == 255))
        }
    }
}
