// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import Logging
import NIOCore
import NIOPosix
import Testing

/// How a test wants its gateway.
struct GatewaySetup {
    var listener = ListenerConfiguration(
        baseOrigin: WebOrigin(scheme: .http, host: "gateway.example", isIPv6Literal: false, port: 80),
        basePath: "",
        address: ListenAddress(host: "127.0.0.1", port: 0),
        name: "test",
        version: "1"
    )
    /// The upstream `echo`; pinned to the handshake so that no probe mixes with what is tested.
    var upstream = UpstreamConfiguration(
        name: "echo",
        route: "echo",
        transport: .http(HTTPUpstreamConfiguration(kind: .streamableHTTP, url: Self.nowhere)),
        protocolPin: .handshake,
        isLogEnabled: true
    )
    var headers: [HTTPUpstreamConfiguration.Header] = []
    var kind = HTTPUpstreamConfiguration.Kind.streamableHTTP
    var credentials: CredentialPoolConfiguration?
    /// Path and query of the upstream's URL.
    var target = "/mcp"
    var threads = 1
    /// Whether the supervisors run: probes, pings, expiry of sessions.
    var isRunning = false
    /// An upstream that listens nowhere, in place of the scripted one.
    var isUnreachable = false
    /// A program in place of the scripted upstream, which then gets nothing.
    var program: ScriptedProgram?
    /// Told of each head before its body arrives; true: the script is not asked.
    var headScript: (@Sendable (UpstreamTurn) -> Bool)?

    var limits: Limits {
        get { self.listener.limits }
        set { self.listener.limits = newValue }
    }

    // A constant that parses; a test that does not get this far fails loudly.
    // swift-format-ignore: NeverForceUnwrap
    static let nowhere = HTTPURL("http://127.0.0.1:1/mcp")!
}

/// A gateway on a port of its own with one scripted upstream.
struct TestGateway: Sendable {
    let gateway: Gateway
    let listener: Listener
    let upstream: ScriptedUpstream
    let log: InMemoryLogSink
    let redactor: CurrentRedactor
    let loops: [LoopResources]
    /// The configuration that it started with.
    let snapshot: GatewaySnapshot
    /// The servers whose first verdict the gateway told whoever runs it.
    let verdicts = Inbox<[String]>([])

    /// Where callers connect.
    let port: Int
    var echo: Upstream { self.gateway.upstreams[0] }

    func connect(isReading: Bool = true, receiveBuffer: Int? = nil) async throws -> RawClient {
        try await RawClient.connect(self.port, isReading: isReading, receiveBuffer: receiveBuffer)
    }

    /// One POST on a connection of its own.
    func post(_ body: String, to path: String = "/echo/mcp", fields: [String] = []) async throws -> RawAnswer {
        let client = try await self.connect()
        defer { client.close() }
        return try await client.exchange(Self.post(body, to: path, fields: fields))
    }

    /// One request without a body on a connection of its own.
    func request(_ line: String, fields: [String] = []) async throws -> RawAnswer {
        let client = try await self.connect()
        defer { client.close() }
        let more = fields.map { "\($0)\r\n" }.joined()
        return try await client.exchange(
            "\(line) HTTP/1.1\r\nHost: localhost\r\n\(more)\r\n",
            isHead: line.hasPrefix("HEAD")
        )
    }

    /// The bytes of a POST.
    static func post(
        _ body: String,
        to path: String = "/echo/mcp",
        fields: [String] = [],
        accept: String? = "application/json, text/event-stream",
        version: String = "1.1"
    ) -> String {
        let more = (fields + (accept.map { ["Accept: \($0)"] } ?? [])).map { "\($0)\r\n" }.joined()
        return
            "POST \(path) HTTP/\(version)\r\nHost: localhost\r\nContent-Type: application/json\r\n\(more)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// The text of `/metrics`.
    func metrics() async throws -> String { try await self.request("GET /metrics").text }

    /// Waits until a line of the metrics has this value.
    func metric(_ name: String, is value: String) async throws {
        var text = ""
        for _ in 0..<200 {
            text = try await self.metrics()
            if text.contains("\n\(name) \(value)\n") { return }
            // A counter moves a moment after the answer that it counts; there is no event to wait for.
            try await Task.sleep(for: .milliseconds(10))
        }
        throw TestTimeout(
            description:
                "\(name) is not \(value): \(text.split(separator: "\n").filter { $0.hasPrefix(name.prefix(20)) })"
        )
    }

    /// Waits until every caller's connection is closed.
    func hasNoCallers() async throws {
        for _ in 0..<200 where self.listener.connectionCount > 0 {
            // Nobody says when the listener has heard of an end.
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(self.listener.connectionCount == 0)
    }

    /// `initialize` as a caller; gives the session id.
    func initialize(fields: [String] = []) async throws -> String? {
        try await self.post(Message.initialize, fields: fields)["mcp-session-id"]
    }
}

/// Runs `body` with a gateway in front of an upstream that answers as `script` says; nil: as `body` says.
func withGateway(
    _ setUp: (inout GatewaySetup) -> Void = { _ in },
    script: ScriptedUpstream.Script? = { $0.behave() },
    _ body: (TestGateway) async throws -> Void
) async throws {
    await Places.shared.enter()
    let wire = Wire.current
    var setup = GatewaySetup()
    setUp(&setup)
    let upstream = try await ScriptedUpstream.start(head: setup.headScript, script)
    let url = "http://127.0.0.1:\(setup.isUnreachable ? 1 : upstream.port)\(setup.target)"
    var configuration = setup.upstream
    configuration.transport =
        setup.program != nil
        ? ScriptedProgram.transport
        : .http(
            HTTPUpstreamConfiguration(
                kind: setup.kind,
                url: HTTPURL(url) ?? GatewaySetup.nowhere,
                headers: setup.headers,
                credentials: setup.credentials,
                proxy: .direct
            )
        )
    let snapshot = GatewaySnapshot(listener: setup.listener, upstreams: [configuration])
    let group = MultiThreadedEventLoopGroup(numberOfThreads: setup.threads)
    let loops = LoopResources.all(of: group)
    let log = InMemoryLogSink()
    let redactor = CurrentRedactor(LoadedSecrets.values(of: snapshot))
    let output = LogOutput(
        format: .json,
        sink: log,
        redactor: redactor,
        level: .debug
    )
    let gateway = try Gateway(
        snapshot,
        loops: loops,
        stdio: setup.program?.access ?? StdioAccess(environment: [:], guardian: nil),
        connector: wire.connector,
        metrics: MetricsRegistry(),
        log: output
    )
    let (listener, listening) = try await wire.listen(
        setup,
        group: group,
        loops: loops,
        handler: GatewayHandler(gateway, configuration: ConfigurationState(source: "test"))
    )
    let fixture = TestGateway(
        gateway: gateway,
        listener: listener,
        upstream: upstream,
        log: log,
        redactor: redactor,
        loops: loops,
        snapshot: snapshot,
        port: listening.port
    )
    let verdicts = fixture.verdicts
    let running =
        setup.isRunning
        ? Task { await gateway.run { upstream, _ in verdicts.change { $0.append(upstream.name) } } } : nil
    let result: Result<Void, any Error>
    do {
        result = .success(try await body(fixture))
    } catch {
        result = .failure(error)
    }
    running?.cancel()
    await running?.value
    gateway.beginDraining()
    await listening.stop()
    await listener.drain(within: Duration.zero)
    await gateway.close(within: Duration.milliseconds(200))
    await upstream.stop()
    try await wire.close(on: loops)
    try await group.shutdownGracefully()
    #expect(gateway.buffers.bytes == 0, "what was held for peers is given back when everything is closed")
    await Places.shared.leave()
    try result.get()
}

/// Keeps the number of gateways that run at a time small, so that one test does not make another one late.
private actor Places {
    static let shared = Places()

    private var free = 6
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func enter() async {
        guard self.free == 0 else {
            self.free -= 1
            return
        }
        await withCheckedContinuation { self.waiting.append($0) }
    }

    func leave() {
        if self.waiting.isEmpty { self.free += 1 } else { self.waiting.removeFirst().resume() }
    }
}
