// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Tool catalogue")
struct ToolCatalogueTests {
    /// The message with only the tools whose names are in `admitted`; nil if nothing is to be removed.
    private func filter(_ text: String, _ admitted: Set<String>) throws -> String? {
        let bytes = Array(text.utf8)
        let removals = try ToolCatalogue.removals(in: bytes.span, maximumDepth: 64) { admitted.contains($0) }
        guard let removals else { return nil }
        #expect(zip(removals, removals.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
        return String(decoding: ToolCatalogue.removing(removals, from: bytes.span), as: UTF8.self)
    }

    @Test("Every choice of tools leaves exactly those, in order, as they were written", arguments: 0..<32)
    func keepsEveryChoice(_ mask: Int) throws {
        let tools = (0..<5)
            .map { #"{ "name" : "t\#($0)", "inputSchema": {"name":"x","n":1.0,"big":9007199254740993} }"# }
        let head = #"{"jsonrpc":"2.0", "id": 1.50, "result":{"x":[1,2],"tools": [ "#
        let tail = #" ] , "nextCursor":"c","tool":[]},"extra":"\ud800"}"#
        let kept = (0..<5).filter { mask >> $0 & 1 == 1 }
        let filtered = try self.filter(head + tools.joined(separator: " ,\n ") + tail, Set(kept.map { "t\($0)" }))
        if kept.count == 5 {
            #expect(filtered == nil)
            return
        }
        let text = try #require(filtered)
        #expect(text.hasPrefix(head) && text.hasSuffix(tail))
        var rest = text.dropFirst(head.count).dropLast(tail.count)
        for (index, tool) in kept.enumerated() {
            if index > 0 {
                rest = rest.drop { " \n".contains($0) }
                #expect(rest.first == ",")
                rest = rest.dropFirst().drop { " \n".contains($0) }
            }
            #expect(rest.hasPrefix(tools[tool]))
            rest = rest.dropFirst(tools[tool].count)
        }
        #expect(rest.isEmpty)
    }

    @Test(
        "What has no tools to remove is left alone",
        arguments: [
            #"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#,
            #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}]}}"#,
            #"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"tools"}}"#, "{}",
        ]
    )
    func leavesAlone(_ text: String) throws {
        #expect(try self.filter(text, ["a"]) == nil)
    }

    @Test(
        "The cursor of the next page is read, however its key is written",
        arguments: [
            (#"{"result":{"tools":[],"nextCursor":"a\u0062"}}"#, "ab"),
            (#"{"result":{"next\u0043ursor":"","tools":[]}}"#, ""),
            (#"{"result":{"tools":[],"nextCursor":null}}"#, nil),
            (#"{"result":{"tools":[],"nextCursor":7}}"#, nil), (#"{"result":{"tools":[]},"nextCursor":"x"}"#, nil),
        ] as [(String, String?)]
    )
    func nextCursor(text: String, expected: String?) throws {
        let bytes = Array(text.utf8)
        let page = try ToolCatalogue.page(in: bytes.span, maximumDepth: 64) { _ in true }
        #expect(page.nextCursor?.decoded(in: bytes.span) == expected)
    }

    @Test("Names are compared decoded, so that an escaped name hides nothing")
    func decodesNames() throws {
        let text = ##"{"result":{"tools":[{"name":"\u0064elete"},{"n\u0061me":"a\/b"},{"name":"keep"}]}}"##
        var names: [String] = []
        let bytes = Array(text.utf8)
        _ = try ToolCatalogue.removals(in: bytes.span, maximumDepth: 64) { name in
            names.append(name)
            return true
        }
        #expect(names == ["delete", "a/b", "keep"])
        #expect(try self.filter(text, ["keep"]) == #"{"result":{"tools":[{"name":"keep"}]}}"#)
    }

    @Test("Keys that decide are recognised however they are written")
    func decodesKeys() throws {
        let text = ##"{"r\u0065sult":{"t\u006fols":[{"name":"a"},{"name":"b"}]}}"##
        #expect(try self.filter(text, ["a"]) == ##"{"r\u0065sult":{"t\u006fols":[{"name":"a"}]}}"##)
    }

    @Test("What is no tool with a name goes")
    func removesNameless() throws {
        let text =
            #"{"result":{"tools":[5,{"name":"a"},{"title":"a"},{"name":1},"a",["a"],{"name":null},{"name":"a"}]}}"#
        #expect(try self.filter(text, ["a"]) == #"{"result":{"tools":[{"name":"a"},{"name":"a"}]}}"#)
    }

    @Test(
        "A list that cannot be told for sure is an error",
        arguments: [
            "", "[]", "5", #"{"result":{"tools":[]}"#, #"{"result":{"tools":[]}}x"#, #"{"result":null}"#,
            #"{"result":[]}"#,
            #"{"result":{}}"#, #"{"result":{"tools":null}}"#, #"{"result":{"tools":{"name":"a"}}}"#,
            #"{"result":{"tools":[]},"result":{"tools":[]}}"#, #"{"result":{"tools":[],"tools":[]}}"#,
            ##"{"result":{"tools":[],"t\u006fols":[]}}"##, ##"{"result":{"tools":[]},"\u0072esult":{}}"##,
            #"{"result":{"tools":[{"name":"a","name":"b"}]}}"#,
            ##"{"result":{"tools":[{"name":"a","n\u0061me":"b"}]}}"##,
            "{\"result\":{\"tools\":[{\"name\":\"\u{1}\"}]}}",
            #"{"result":{"tools":[]},"Result":{"tools":[]}}"#, #"{"result":{"tools":[],"TOOLS":[{"name":"b"}]}}"#,
            #"{"result":{"tools":[],"toolſ":[]}}"#, #"{"result":{"tools":[{"name":"a","Name":"b"}]}}"#,
            ##"{"result":{"tools":[{"name":"a","N\u0061me":"b"}]}}"##, #"{"result":{"tools":[{"Name":"b"}]}}"#,
        ]
    )
    func refuses(_ text: String) {
        #expect(throws: ToolCatalogueError.self) { try self.filter(text, ["a"]) }
    }

    @Test("A list that is as deep as a message may be is filtered, one that is deeper is not", arguments: [3, 64, 200])
    func takesLimit(_ limit: Int) {
        // The message, its result, the array, the tool and what is in it.
        func isFiltered(depth: Int) -> Bool {
            let inner = String(repeating: "[", count: depth - 4) + String(repeating: "]", count: depth - 4)
            let bytes = Array(#"{"result":{"tools":[{"name":"a","x":\#(inner)}]}}"#.utf8)
            let removals = try? ToolCatalogue.removals(in: bytes.span, maximumDepth: limit) { _ in false }
            return removals != nil
        }
        #expect(isFiltered(depth: max(limit, 5)) == (limit >= 5))
        #expect(!isFiltered(depth: max(limit, 5) + 1))
    }

    @Test("Nesting is limited", arguments: [4, 5, 6])
    func limitsNesting(_ limit: Int) {
        let bytes = Array(#"{"result":{"tools":[{"name":"a","x":[]}]}}"#.utf8)
        let removals = try? ToolCatalogue.removals(in: bytes.span, maximumDepth: limit) { _ in false }
        #expect((removals != nil) == (limit >= 5))
    }
}
