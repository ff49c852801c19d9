// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayModel
import GatewayObservability
import GatewayPolicy
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
        let server = DemoServer()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let upstream: Listener
        do {
            upstream = try await Listener.bind(
                ListenAddress(host: "127.0.0.1", port: 0),
                group: group,
                loops: LoopResources.all(of: group),
                connections: Limits().connections,
                handler: server
            )
        } catch {
            throw CommandEnd.cannotRun("demo: its own MCP server has no port: \(error.reason)")
        }
        let process = GatewayProcess(
            try Self.snapshot(of: server, at: upstream.address?.port ?? 0, port: self.port),
            addressSetting: GatewayProcess.AddressSetting(place: "demo: ", key: "--port"),
            format: .automatic(for: 2),
            level: .warning,
            threads: 1
        )
        try await process.run { address in
            Output.print(Self.instructions(base: "http://\(GatewayProcess.text(address))"))
        }
        await upstream.drain(within: .seconds(1))
    }

    private static func snapshot(of server: DemoServer, at upstreamPort: Int, port: Int) throws -> GatewaySnapshot {
        guard let url = HTTPURL("http://127.0.0.1:\(upstreamPort)/mcp"),
            let base = WebOrigin("http://127.0.0.1:\(port == 0 ? 9090 : port)")
        else { throw CommandEnd.cannotRun("demo: no address") }
        func upstream(_ name: String, _ tokens: [String], _ mode: CredentialPool.Mode) -> UpstreamConfiguration {
            let pool = CredentialPoolConfiguration(
                tokens: tokens.map { Secret($0) },
                mode: mode,
                attemptLimit: mode == .roundRobin ? 1 : tokens.count,
                retryOn: [401, 403],
                affinity: .request
            )
            return UpstreamConfiguration(
                name: name,
                route: name,
                transport: .http(
                    HTTPUpstreamConfiguration(kind: .streamableHTTP, url: url, credentials: pool, proxy: .direct)
                ),
                isLogEnabled: true
            )
        }
        let tokens = server.tokens.map(\.value)
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
                upstream("demo", [server.revoked] + tokens, .onFirstFailed), upstream("turns", tokens, .roundRobin),
            ]
        )
    }

    private static func instructions(base: String) -> String {
        let url = "\(base)/demo/mcp"
        func call(_ tool: String, _ arguments: String = "{}") -> String {
            #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\#(tool)","arguments":\#(arguments)}}"#
        }
        let list = #"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#
        func post(_ url: String, _ body: String) -> String {
            "curl -s \(url) -H 'Content-Type: application/json' -d '\(body)'"
        }
        return """
            An MCP server and the proxy in front of it are running.

                \(url)

            Try, in another terminal:

            $ \(post(url, list))

            $ \(post(url, call("echo", #"{"text":"hello"}"#)))

            The proxy has four tokens for this server, and the first one is revoked: the first call that met it
            went on with the second, and so does every call since. Look at the pool:

            $ \(post(url, call("whoami")))

            $ curl -s \(base)/_status

            The same server once more, with three tokens that take turns:

            $ for i in 1 2 3; do \(post("\(base)/turns/mcp", call("whoami"))); echo; done

            The official Python SDK (pip install mcp):

            $ python3 -c "import asyncio, mcp; c = mcp.Client('\(url)')
            async def main():
                async with c: print(await c.call_tool('add', {'a': 2, 'b': 40}))
            asyncio.run(main())"

            Ctrl-C ends both.
            """
    }
}
