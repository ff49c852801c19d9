// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Era classifier")
struct EraClassifierTests {
    /// The values of the three headers; none, one, or more than one each.
    struct Headers {
        var version: [String] = []
        var method: [String] = []
        var name: [String] = []
    }

    private static let current = "2026-07-28"

    private func classify(_ body: String, _ headers: Headers) throws -> Result<Era, EraRejection> {
        var head = "POST / HTTP/1.1\r\n"
        func field(_ values: [String]) -> HeaderField {
            guard let value = values.first else { return .absent }
            if values.count > 1 { return .repeated }
            head += "X:"
            let start = head.utf8.count
            head += value
            let end = head.utf8.count
            head += "\r\n"
            return .one(start..<end)
        }
        let routing = RoutingHeaders(
            version: field(headers.version),
            method: field(headers.method),
            name: field(headers.name)
        )
        let envelope = try Envelope(body)
        let headBytes = Array(head.utf8)
        let bodyBytes = Array(body.utf8)
        do throws(EraRejection) {
            let era = try EraClassifier.classify(envelope, in: bodyBytes.span, headers: routing, in: headBytes.span)
            return .success(era)
        } catch {
            return .failure(error)
        }
    }

    private func code(_ body: String, _ headers: Headers) throws -> EraRejection.Code? {
        switch try self.classify(body, headers) {
        case .success: nil
        case .failure(let rejection): rejection.code
        }
    }

    /// A request with an envelope of `version`, or without one.
    private func request(
        _ method: String,
        version: String? = Self.current,
        params: String = "",
        capabilities: String = "{}"
    ) -> String {
        let meta = version.map { version in
            let capabilities =
                capabilities.isEmpty ? "" : #","io.modelcontextprotocol/clientCapabilities":\#(capabilities)"#
            return #""_meta":{"io.modelcontextprotocol/protocolVersion":"\#(version)"\#(capabilities)}"#
        }
        let members = [params, meta ?? ""].filter { !$0.isEmpty }.joined(separator: ",")
        return #"{"jsonrpc":"2.0","id":1,"method":"\#(method)","params":{\#(members)}}"#
    }

    @Test("Without header and envelope a message is of the handshake era")
    func classifiesWithoutHeader() throws {
        let bodies = [
            self.request("initialize", version: nil), self.request("tools/call", version: nil, params: #""name":"a""#),
            #"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, #"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ]
        for body in bodies {
            #expect(try self.classify(body, Headers()) == .success(.handshake(nil)))
        }
    }

    @Test("A handshake version in the header is the handshake era, and the other headers mean nothing there")
    func classifiesHandshakeVersions() throws {
        for revision in ProtocolRevision.allCases where !revision.isStateless {
            let headers = Headers(version: [" \(revision.rawValue)\t"], method: ["x", "y"], name: ["z"])
            for body in [
                self.request("initialize", version: nil), self.request("tools/call", version: nil),
                #"{"jsonrpc":"2.0","id":1,"error":{}}"#,
            ] {
                #expect(try self.classify(body, headers) == .success(.handshake(revision)))
            }
        }
    }

    @Test("The stateless revision, or an unknown one that header and body agree on, is the stateless era")
    func classifiesStatelessVersions() throws {
        for (version, revision) in [("2026-07-28", ProtocolRevision.july2026), ("2027-01-01", nil), ("x", nil)] {
            let body = self.request("tools/list", version: version)
            let headers = Headers(version: [version], method: ["tools/list"])
            #expect(try self.classify(body, headers) == .success(.stateless(revision)))
        }
    }

    @Test(
        "Version header and envelope have to agree",
        arguments: [
            (nil, "2026-07-28", .headerMismatch), (nil, "2025-11-25", .headerMismatch),
            ("2026-07-28", "2027-01-01", .headerMismatch), ("2027-01-01", "2026-07-28", .headerMismatch),
            ("2026-07-28", "2025-11-25", .headerMismatch), ("2025-11-25", "2026-07-28", .headerMismatch),
            ("2025-06-18", "2025-11-25", .headerMismatch), ("2025-11-25", "2025-11-25", .unsupportedVersion),
            ("2024-11-05", "2024-11-05", .unsupportedVersion), ("2026-07-28", nil, .invalidParams),
            ("2027-01-01", nil, .invalidParams), ("", nil, .invalidParams),
            ("2026-07-2", "2026-07-28", .headerMismatch),
            ("2026-07-288", "2026-07-28", .headerMismatch),
        ] as [(String?, String?, EraRejection.Code)]
    )
    func comparesVersions(_ header: String?, _ body: String?, _ code: EraRejection.Code) throws {
        let headers = Headers(version: header.map { [$0] } ?? [], method: ["tools/list"])
        guard case .failure(let rejection) = try self.classify(self.request("tools/list", version: body), headers)
        else {
            Issue.record("it passes")
            return
        }
        #expect(rejection.code == code)
        #expect(rejection.status == 400)
        #expect((rejection.requested != nil) == (code == .unsupportedVersion))
    }

    @Test("The version that is not supported is told")
    func tellsRequestedVersion() throws {
        let body = self.request("tools/list", version: "2025-11-25")
        guard case .failure(let rejection) = try self.classify(body, Headers(version: ["2025-11-25"])) else {
            Issue.record("it passes")
            return
        }
        #expect(rejection.requested.map { body[utf8: $0.content] } == "2025-11-25")
    }

    @Test("An envelope without capabilities, or with values of the wrong type, lacks them")
    func needsEnvelope() throws {
        let headers = Headers(version: [Self.current], method: ["tools/list"])
        for capabilities in ["", "null", "[]", "true"] {
            #expect(try self.code(self.request("tools/list", capabilities: capabilities), headers) == .invalidParams)
        }
        let number = #"""
            {"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{\#
            "io.modelcontextprotocol/protocolVersion":20260728,"io.modelcontextprotocol/clientCapabilities":{}}}}
            """#
        #expect(try self.code(number, headers) == .invalidParams)
        #expect(try self.code(number, Headers(version: ["2025-11-25"])) == .invalidParams)
        #expect(try self.code(#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, headers) == .invalidParams)
    }

    @Test("Headers that come twice are refused in the stateless era")
    func refusesRepeatedHeaders() throws {
        let body = self.request("tools/list")
        let version = Self.current
        #expect(try self.code(body, Headers(version: [version, version], method: ["tools/list"])) == .headerMismatch)
        let method = Headers(version: [version], method: ["tools/list", "tools/list"])
        #expect(try self.code(body, method) == .headerMismatch)
        let name = Headers(version: [version], method: ["tools/list"], name: ["a", "a"])
        #expect(try self.code(body, name) == .headerMismatch)
        let handshake = Headers(version: ["2025-11-25", "2025-11-25"])
        #expect(try self.code(self.request("tools/list", version: nil), handshake) == .headerMismatch)
    }

    @Test(
        "Mcp-Method has to be the method of the body, byte for byte",
        arguments: [
            ("tools/list", true), (" \t tools/list ", true), ("tools/call", false), ("Tools/List", false), ("", false),
            ("tools/list x", false), ("=?base64?dG9vbHMvbGlzdA==?=", false),
        ]
    )
    func comparesMethod(_ header: String, _ passes: Bool) throws {
        for name in ["tools/list", #"tools\/list"#, #"tool\u0073/list"#] {
            let code = try self.code(self.request(name), Headers(version: [Self.current], method: [header]))
            #expect(code == (passes ? nil : .headerMismatch))
        }
        #expect(try self.code(self.request("tools/list"), Headers(version: [Self.current])) == .headerMismatch)
    }

    @Test(
        "Mcp-Name has to be the name in the body, decoded on both sides",
        arguments: [
            (#"add"#, "add", true), (#"add"#, "  add\t", true), (#"add"#, "Add", false), (#"add"#, "ad", false),
            (#"add"#, "addd", false), (#"add"#, "", false), (#"\u0061dd"#, "add", true), (#"a\/b"#, "a/b", true),
            ("größe", "=?base64?Z3LDtsOfZQ==?=", true), (#"gr\u00f6\u00dfe"#, "=?base64?Z3LDtsOfZQ==?=", true),
            ("add", "=?base64?YWRk?=", true), ("add", "=?base64?YWRl?=", false), ("", "=?base64??=", true),
            ("=?base64?YWRk?=", "=?base64?YWRk?=", false), ("=?base64?YWRk?=", "=?base64?PT9iYXNlNjQ/WVdSaz89?=", true),
            ("=?base64?YWRk", "=?base64?YWRk", true), ("YWRk?=", "YWRk?=", true), ("=?base64?=", "=?base64?=", true),
            (" a ", "=?base64?IGEg?=", true), (" a ", " a ", false), ("a", "=?base64?YQ?=", false),
            ("a", "=?base64?YQ=?=", false), ("a", "=?base64?YQ==?=", true), ("a", "=?base64?YR==?=", false),
            ("a", "=?base64?YQ===?=", false), ("a", "=?base64?Y Q==?=", false), ("a", "=?base64?YQ==YQ==?=", false),
            ("a", "=?BASE64?YQ==?=", false), ("\u{fb}\u{ff}", "=?base64?w7vDvw==?=", true),
            ("a?", "=?base64?YT8_?=", false),
        ]
    )
    func comparesName(_ name: String, _ header: String, _ passes: Bool) throws {
        for (method, member) in [
            ("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri"), ("tasks/get", "taskId"),
        ] {
            let body = self.request(method, params: "\"\(member)\":\"\(name)\"")
            let headers = Headers(version: [Self.current], method: [method], name: [header])
            #expect(try self.code(body, headers) == (passes ? nil : .headerMismatch), "\(method)")
        }
    }

    @Test("A method with a name needs it in header and body; without one the header means nothing")
    func needsName() throws {
        for method in MCPMethod.allCases where method.hasNameHeader {
            let member = try #require(method.nameParameter?.rawValue)
            let body = self.request(method.rawValue, params: "\"\(member)\":\"a\"")
            #expect(try self.code(body, Headers(version: [Self.current], method: [method.rawValue])) == .headerMismatch)
            let headers = Headers(version: [Self.current], method: [method.rawValue], name: ["a"])
            #expect(try self.code(body, headers) == nil)
            #expect(try self.code(self.request(method.rawValue), headers) == .headerMismatch)
            #expect(try self.code(self.request(method.rawValue, params: "\"\(member)\":1"), headers) == .headerMismatch)
        }
        for method in ["tools/list", "resources/subscribe", "completion/complete", "vendor/x"] {
            let headers = Headers(version: [Self.current], method: [method])
            #expect(try self.code(self.request(method, params: #""name":"a","uri":"u""#), headers) == nil)
            let named = Headers(version: [Self.current], method: [method], name: ["other"])
            #expect(try self.code(self.request(method, params: #""name":"a","uri":"u""#), named) == nil)
        }
    }

    @Test("There is no initialize in the stateless era, but headers come first")
    func refusesInitialize() throws {
        let headers = Headers(version: [Self.current], method: ["initialize"])
        guard case .failure(let rejection) = try self.classify(self.request("initialize"), headers) else {
            Issue.record("it passes")
            return
        }
        #expect(rejection.code == .methodNotFound)
        #expect(rejection.status == 404)
        #expect(try self.code(self.request("initialize"), Headers(version: [Self.current])) == .headerMismatch)
        #expect(try self.code(self.request("initialize", version: nil), headers) == .invalidParams)
        #expect(try self.code(self.request("initialize"), Headers()) == .headerMismatch)
    }

    @Test("A response is refused in the stateless era", arguments: ["\"result\":{}", "\"error\":{\"code\":1}"])
    func refusesResponses(_ member: String) throws {
        let body = #"{"jsonrpc":"2.0","id":1,\#(member)}"#
        #expect(try self.code(body, Headers(version: [Self.current])) == .invalidRequest)
    }

    @Test("A notification needs no envelope and no headers, but those that it has have to be right")
    func classifiesNotifications() throws {
        let plain = #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#
        let method = "notifications/cancelled"
        #expect(try self.classify(plain, Headers(version: [Self.current])) == .success(.stateless(.july2026)))
        #expect(try self.code(plain, Headers(version: [Self.current], method: [method])) == nil)
        #expect(try self.code(plain, Headers(version: [Self.current], method: ["x"])) == .headerMismatch)
        let enveloped = #"""
            {"jsonrpc":"2.0","method":"\#(method)","params":{\#
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}
            """#
        #expect(try self.code(enveloped, Headers(version: [Self.current])) == nil)
        #expect(try self.code(enveloped, Headers(version: ["2027-01-01"])) == .headerMismatch)
        #expect(try self.code(enveloped, Headers()) == .headerMismatch)
    }

    @Test("Revisions are known by their exact names and ordered by date")
    func knowsRevisions() {
        for revision in ProtocolRevision.allCases {
            #expect(ProtocolRevision(rawValue: revision.rawValue) == revision)
            let name = Array(revision.rawValue.utf8)
            #expect(self.revision(name) == revision)
            for index in name.indices {
                var other = name
                other[index] = 0x78
                #expect(self.revision(other) == nil)
            }
            #expect(self.revision(name + [0x20]) == nil)
        }
        #expect(ProtocolRevision.allCases == ProtocolRevision.allCases.sorted())
        #expect(ProtocolRevision.allCases.filter(\.isStateless) == [.july2026])
        #expect(ProtocolRevision.allCases.filter(\.allowsBatches) == [.march2025])
    }

    @Test("A revision is known in a JSON string, escaped too")
    func knowsRevisionsInStrings() throws {
        for literal in [#""2025-11-25""#, #""\u0032025-11-25""#] {
            let bytes = Array(literal.utf8)
            let string = try #require(JSONValue.only(in: bytes).string)
            let revision = ProtocolRevision(string, in: bytes.span)
            #expect(revision == .november2025)
        }
    }

    private func revision(_ name: [UInt8]) -> ProtocolRevision? { ProtocolRevision(name.span) }
}
