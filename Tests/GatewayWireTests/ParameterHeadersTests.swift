// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Parameter headers") struct ParameterHeadersTests {
    /// The tools of a list whose one tool has this schema.
    private static func headers(_ schema: String) -> ParameterHeaders? {
        let list = #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"t","inputSchema":\#(schema)}]}}"#
        return ParameterHeaders.read(Array(list.utf8).span).first?.headers
    }

    private static let schema = """
        {"type":"object","properties":{
          "region":{"type":"string","x-mcp-header":"Region"},
          "count":{"type":"integer","x-mcp-header":"Count"},
          "dry":{"type":"boolean","x-mcp-header":"Dry"},
          "deep":{"type":"object","properties":{"k\\u0065y":{"type":"string","x-mcp-header":"Deep-Key"}}},
          "plain":{"type":"string"}}}
        """

    /// What is wrong with a call that has these arguments and headers.
    private static func rejection(_ arguments: String, _ fields: [(String, String)]) -> EraRejection? {
        let body = Array(arguments.utf8)
        var head: [UInt8] = []
        var headers: ParameterHeaders.Headers = [:]
        for (name, value) in fields {
            let start = head.count
            head += Array(value.utf8)
            ParameterHeaders.add(Array(name.utf8).span, value: start..<head.count, to: &headers)
        }
        return Self.headers(Self.schema)?
            .rejection(arguments: arguments.isEmpty ? nil : 0, in: body.span, headers: headers, in: head.span)
    }

    @Test(
        "Headers that say what the arguments say pass",
        arguments: [
            (#"{}"#, []), ("", []), (#"{"plain":"x","region":null}"#, []),
            (#"{"region":"north"}"#, [("Mcp-Param-Region", "north")]),
            (#"{"region":"north"}"#, [("MCP-PARAM-REGION", " north ")]),
            (#"{"region":"n\u006frth"}"#, [("mcp-param-region", "north")]),
            (#"{"region":"Zürich"}"#, [("Mcp-Param-Region", "=?base64?WsO8cmljaA==?=")]),
            (#"{"count":42}"#, [("Mcp-Param-Count", "42")]), (#"{"count":42.0}"#, [("Mcp-Param-Count", "42")]),
            (#"{"count":42}"#, [("Mcp-Param-Count", "42.00")]), (#"{"count":-0}"#, [("Mcp-Param-Count", "0")]),
            (#"{"count":9007199254740993}"#, [("Mcp-Param-Count", "9007199254740993")]),
            (#"{"count":1e3}"#, [("Mcp-Param-Count", "1000")]),
            (#"{"dry":true}"#, [("Mcp-Param-Dry", "true")]),
            (#"{"deep":{"key":"x"}}"#, [("Mcp-Param-Deep-Key", "x")]), (#"{"deep":7}"#, []),
            // An object cannot be said; a header of no tool's says nothing.
            (#"{"region":{"a":1}}"#, []),
            (#"{"region":"north"}"#, [("Mcp-Param-Region", "north"), ("Mcp-Param-Other", "x")]),
        ] as [(String, [(String, String)])]
    )
    func equal(arguments: String, fields: [(String, String)]) {
        #expect(Self.rejection(arguments, fields) == nil)
    }

    @Test(
        "Headers that say something else than the arguments, or are missing, are refused",
        arguments: [
            (#"{"region":"north"}"#, []), (#"{"region":"north"}"#, [("Mcp-Param-Region", "south")]),
            (#"{"region":"north"}"#, [("Mcp-Param-Region", "North")]),
            (#"{"region":"north"}"#, [("Mcp-Param-Region", "north"), ("mcp-param-region", "north")]),
            (#"{"region":"Zürich"}"#, [("Mcp-Param-Region", "=?base64?WsO8cmljaA=?=")]),
            (#"{}"#, [("Mcp-Param-Region", "north")]), ("", [("Mcp-Param-Region", "")]),
            (#"{"region":null}"#, [("Mcp-Param-Region", "null")]),
            (#"{"region":{"a":1}}"#, [("Mcp-Param-Region", #"{"a":1}"#)]),
            (#"{"count":42}"#, [("Mcp-Param-Count", "43")]), (#"{"count":42}"#, [("Mcp-Param-Count", "42.1")]),
            (#"{"count":42}"#, [("Mcp-Param-Count", "4.2e1")]), (#"{"count":42}"#, [("Mcp-Param-Count", "-42")]),
            (#"{"count":9007199254740993}"#, [("Mcp-Param-Count", "9007199254740992")]),
            (#"{"count":42}"#, []), (#"{"dry":true}"#, [("Mcp-Param-Dry", "True")]),
            (#"{"deep":{"key":"x"}}"#, []), (#"{"deep":7}"#, [("Mcp-Param-Deep-Key", "7")]),
        ] as [(String, [(String, String)])]
    )
    func unequal(arguments: String, fields: [(String, String)]) {
        let rejection = Self.rejection(arguments, fields)
        #expect(rejection?.code == .headerMismatch)
        #expect(rejection?.status == 400)
    }

    @Test(
        "A tool whose annotations are not valid, or that has none, wants nothing",
        arguments: [
            #"{"type":"object"}"#, #"{"properties":{"a":{"type":"string"}}}"#, "true", "[]",
            #"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            #"{"properties":{"a":{"x-mcp-header":"A"}}}"#,
            #"{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}"#,
            #"{"properties":{"a":{"type":"string","x-mcp-header":"A b"}}}"#,
            #"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            #"{"properties":{"a":{"type":"string","x-mcp-header":7}}}"#,
            #"{"properties":{"a":{"type":"string","x-mcp-header":"X"},"b":{"type":"string","x-mcp-header":"x"}}}"#,
            #"{"type":"string","x-mcp-header":"Root"}"#,
        ]
    )
    func nothing(schema: String) {
        #expect(Self.headers(schema) == nil)
    }

    @Test("Tools are told by their decoded names; what is no list of tools says nothing")
    func lists() {
        let tools = #"[{"name":"\u0061"},7,{"title":"none"},{"name":"b","inputSchema":{}}]"#
        let list = #"{"result":{"tools":\#(tools),"x":1}}"#
        #expect(ParameterHeaders.read(Array(list.utf8).span).map(\.tool) == [Array("a".utf8), Array("b".utf8)])
        let others = [
            "", "{}", #"{"result":[]}"#, #"{"result":{"tools":{}}}"#, #"{"error":{}}"#, #"{"result":{"tools":["#,
        ]
        for text in others {
            #expect(ParameterHeaders.read(Array(text.utf8).span).isEmpty)
        }
    }
}
