// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@testable import GatewayRuntime

@Suite("Redirect memory") struct RedirectMemoryTests {
    private static func way(_ locations: String..., from remembered: String? = nil) throws -> Redirection {
        let url = try #require(HTTPURL("http://one.example/mcp"))
        var way = Redirection()
        way.start(at: remembered)
        for location in locations { #expect(way.follow(location, from: url) == true) }
        return way
    }

    @Test("The target of a redirect is remembered if it takes the message", arguments: [200, 202, 400, 401, 404, 500])
    func remember(status: Int) throws {
        let memory = RedirectMemory()
        memory.observe(try Self.way("/mcp/"), status)
        #expect(memory.target == (status < 300 ? "/mcp/" : nil))
    }

    @Test("A remembered target that is not there any more is forgotten", arguments: [302, 307, 404, 405])
    func forget(status: Int) throws {
        let memory = RedirectMemory()
        memory.observe(try Self.way("/mcp/"), 200)
        memory.observe(try Self.way(from: "/mcp/"), status)
        #expect(memory.target == nil)
    }

    @Test("A remembered target is kept whatever else it answers", arguments: [200, 202, 400, 401, 403, 429, 500, 503])
    func keep(status: Int) throws {
        let memory = RedirectMemory()
        memory.observe(try Self.way("/mcp/"), 200)
        memory.observe(try Self.way(from: "/mcp/"), status)
        #expect(memory.target == "/mcp/")
    }

    @Test("A target that leads on is replaced, and late news of it changes nothing")
    func replace() throws {
        let memory = RedirectMemory()
        memory.observe(try Self.way("/mcp/"), 200)
        memory.observe(try Self.way("/v2/mcp", from: "/mcp/"), 200)
        #expect(memory.target == "/v2/mcp")
        memory.observe(try Self.way(from: "/mcp/"), 404)
        #expect(memory.target == "/v2/mcp")
    }

    @Test("A message that went to the configured URL says nothing")
    func direct() throws {
        let memory = RedirectMemory()
        memory.observe(Redirection(), 200)
        #expect(memory.target == nil)
        memory.observe(Redirection(), 404)
        #expect(memory.target == nil)
    }
}
