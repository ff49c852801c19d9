// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("MCP methods")
struct MCPMethodTests {
    private func method(_ literal: String) throws -> MCPMethod {
        let bytes = Array(literal.utf8)
        return MCPMethod(try #require(JSONValue.only(in: bytes).string), in: bytes.span)
    }

    @Test("Every known method is found by its wire name, plain and escaped", arguments: MCPMethod.allCases)
    func findsNames(_ method: MCPMethod) throws {
        #expect(try self.method("\"\(method.rawValue)\"") == method)
        let slashes = method.rawValue.split(separator: "/", omittingEmptySubsequences: false).joined(separator: "\\/")
        #expect(try self.method("\"\(slashes)\"") == method)
        let units = method.rawValue.utf8.map { byte in
            let digits = String(byte, radix: 16)
            return "\\u00" + (digits.count == 1 ? "0" : "") + digits
        }
        #expect(try self.method("\"\(units.joined())\"") == method)
        #expect(method.label == method.rawValue)
    }

    @Test("A name that differs in one byte, in length or in case is another method", arguments: MCPMethod.allCases)
    func comparesExactly(_ method: MCPMethod) throws {
        let name = Array(method.rawValue.utf8)
        for index in name.indices {
            var other = name
            other[index] = other[index] == 0x78 ? 0x79 : 0x78
            #expect(try self.method("\"\(String(decoding: other, as: UTF8.self))\"") == .other)
        }
        #expect(try self.method("\"\(method.rawValue)x\"") == .other)
        #expect(try self.method("\"\(method.rawValue.dropLast())\"") == .other)
        #expect(try self.method("\"\(method.rawValue.uppercased())\"") == .other)
    }

    @Test("Exactly the methods of the note in faults §4.2 are safe to send again")
    func knowsSafeMethods() {
        let safe = [
            "initialize", "ping", "server/discover", "tools/list", "prompts/list", "resources/list",
            "resources/templates/list", "tasks/list", "roots/list", "resources/read", "prompts/get",
            "completion/complete", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/get",
            "tasks/result", "tasks/cancel", "subscriptions/listen",
        ]
        #expect(Set(MCPMethod.allCases.filter(\.isSafe).map(\.rawValue)) == Set(safe))
    }

    @Test("The header Mcp-Name belongs to exactly six methods, which all have a name")
    func knowsNamedMethods() {
        let named = MCPMethod.allCases.filter(\.hasNameHeader)
        #expect(named == [.toolsCall, .promptsGet, .resourcesRead, .tasksGet, .tasksCancel, .tasksUpdate])
        #expect(named.map(\.nameParameter) == [.name, .name, .uri, .taskID, .taskID, .taskID])
        #expect(MCPMethod.other.nameParameter == nil)
        #expect(MCPMethod.NameParameter.taskID.rawValue == "taskId")
    }
}
