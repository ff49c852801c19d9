// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("A stream of messages that callers share", .timeLimit(.minutes(1))) struct SharedLinkTests {
    @Test(
        "What a server says of a task, or of a subscription, of one caller is not told to the others",
        arguments: ["notifications/tasks", "notifications/tasks/status", "notifications/subscriptions/acknowledged"]
    )
    func foreignTask(method: String) async throws {
        let streams = Inbox<[UpstreamTurn]>([])
        try await withGateway {
            $0.kind = .sse
            $0.upstream.isolation = .shared
        } script: {
            SkippedEventTests.script(streams, opening: [])($0)
        } _: { gateway in
            var clients: [RawClient] = []
            for _ in 0..<2 {
                let session = try #require(try await gateway.initialize())
                let client = try await gateway.connect()
                client.send(ListenTests.get(session))
                try await client.read(until: "\r\n\r\n")
                clients.append(client)
            }
            let stream = try #require(streams.now.first)
            stream.event(#"{"jsonrpc":"2.0","method":"\#(method)","params":{"taskId":"of-one"}}"#)
            stream.event(ListenTests.changed)
            for client in clients {
                let text = try await client.read(until: ListenTests.changed)
                #expect(!text.contains("of-one"), "\(text)")
                client.close()
            }
        }
    }
}
