// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import Logging
import NIOCore
import NIOPosix

/// `mcp-proxy demo`: a small MCP server and the proxy in front of it, in this process, on loopback only.
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Run a demo server with the proxy in front of it, and print what to try."
    )

    @Option(name: .long, help: "The port of the proxy; 0 picks one.")
    var port = 9090

    func validate() throws {
        if !(0...65535).contains(self.port) { throw ValidationError("--port takes 0 to 65535") }
    }

    func run() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let upstream: Listener
        do {
            upstream = try await Listener.bind(
                ListenAddress(host: "127.0.0.1", port: 0),
                group: group,
                loops: group.makeIterator().map { GatewayLoop(eventLoop: $0) },
                limits: Limits(),
                handler: DemoServer()
            )
        } catch {
            throw CommandEnd.cannotRun("demo: cannot listen on 127.0.0.1: \(error)")
        }
        let process = GatewayProcess(
            try Self.snapshot(upstreamPort: upstream.address?.port ?? 0, port: self.port),
            format: .automatic(for: 2),
            level: .warning,
            threads: 1
        )
        try await process.run { address in
            Output.print(Self.instructions(url: "http://\(GatewayProcess.text(address))/demo/mcp"))
        }
        await upstream.drain(within: .seconds(1))
    }

    private static func snapshot(upstreamPort: Int, port: Int) throws -> GatewaySnapshot {
        guard let url = HTTPURL("http://127.0.0.1:\(upstreamPort)/mcp"),
            let base = WebOrigin("http://127.0.0.1:\(port == 0 ? 9090 : port)")
        else { throw CommandEnd.cannotRun("demo: no address") }
        return GatewaySnapshot(
            listener: ListenerConfiguration(
                baseOrigin: base,
                basePath: "",
                address: ListenAddress(host: "127.0.0.1", port: port),
                name: "mcp-proxy demo",
                version: Version.current,
                advertisedTransport: .streamableHTTP
            ),
            upstreams: [
                UpstreamConfiguration(
                    name: "demo",
                    route: "demo",
                    transport: .http(HTTPUpstreamConfiguration(kind: .streamableHTTP, url: url, proxy: .direct)),
                    isLogEnabled: true
                )
            ]
        )
    }

    private static func instructions(url: String) -> String {
        let call =
            #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}"#
        let list = #"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#
        let post = "curl -s \(url) -H 'Content-Type: application/json' -d"
        return """
            An MCP server and the proxy in front of it are running.

                \(url)

            Try, in another terminal:

            $ \(post) '\(list)'

            $ \(post) '\(call)'

            The official Python SDK (pip install mcp):

            $ python3 -c "import asyncio, mcp; c = mcp.Client('\(url)')
            async def main():
                async with c: print(await c.call_tool('add', {'a': 2, 'b': 40}))
            asyncio.run(main())"

            Ctrl-C ends both.
            """
    }
}
