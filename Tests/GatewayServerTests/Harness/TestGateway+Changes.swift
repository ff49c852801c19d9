// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayTesting
import GatewayWire

/// Other configurations while the gateway serves.
extension TestGateway {
    /// A server like `echo` under another name, at the scripted upstream or another one.
    func server(_ name: String, at port: Int? = nil) -> UpstreamConfiguration {
        var configuration = self.snapshot.upstreams[0]
        configuration.name = name
        configuration.route = name
        if let port, case .http(var http) = configuration.transport {
            http.url = HTTPURL("http://127.0.0.1:\(port)/mcp") ?? http.url
            configuration.transport = .http(http)
        }
        return configuration
    }

    /// Goes by these servers, and by these limits if there are any, from now on.
    @discardableResult
    func apply(
        _ servers: [UpstreamConfiguration],
        _ changes: [String: ServerComparison.Verdict] = [:],
        limits: Limits? = nil,
        drainTime: Duration = .seconds(20)
    ) async throws -> AppliedChanges {
        var next = self.snapshot
        next.upstreams = servers
        if let limits { next.listener.limits = limits }
        return try await self.gateway.registry.apply(next, changes: changes, drainTime: drainTime)
    }

    /// Waits until no unit is about to go.
    func hasDrained(seconds: Int = 10) async throws {
        for _ in 0..<(seconds * 100) {
            if self.gateway.registry.everyUpstream.count == self.gateway.endpoints.all.count { return }
            // Nobody says when a unit is gone.
            try await Task.sleep(for: .milliseconds(10))
        }
        throw TestTimeout(description: "a unit is still there")
    }

    /// Opens the stream of a GET in a session.
    func listen(in session: String, at path: String = "/echo/mcp", fields: [String] = []) async throws -> RawClient {
        let client = try await self.connect()
        let more = (fields + ["Mcp-Session-Id: \(session)"]).map { "\($0)\r\n" }.joined()
        client.send("GET \(path) HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\(more)\r\n")
        try await client.read(until: "\r\n\r\n")
        return client
    }
}
