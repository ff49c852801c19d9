// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
package import GatewayModel
package import GatewayWire
import NIOCore
import NIOPosix

/// Fetches a configuration from a URL, once (contract §1).
///
/// Redirects are not followed: the headers, which may hold a password, are for the URL that the operator named.
package enum ConfigurationFetch {
    /// Why nothing was fetched, in words.
    package struct Failure: Error, Sendable {
        package let message: String
    }

    /// `proxy` is the outbound proxy to go through; nil: none.
    package static func get(
        _ url: HTTPURL,
        headers: [(String, Secret)],
        tls: TLSClientConfiguration,
        proxy: OutboundProxy?,
        timeout: Duration,
        sizeLimit: Int
    ) async throws(Failure) -> [UInt8] {
        let dialer: Dialer
        do {
            let route = try proxy.map { proxy in
                let gate = OutboundProxyGate(needsLogin: proxy.username != nil)
                return try OutboundProxyRoute(proxy, to: url.origin, gate: gate, upstream: nil)
            }
            dialer = try Dialer(origin: url.origin, tls: tls, route: route, timeout: timeout)
        } catch {
            throw Failure(message: "TLS cannot be set up")
        }
        var fields = "Host: \(url.origin.authority)\r\nAccept: application/json\r\n"
        fields += "Accept-Encoding: identity\r\nUser-Agent: mcp-proxy\r\nConnection: close\r\n"
        for (name, value) in headers { fields += "\(name): \(value.reveal())\r\n" }
        let direct = ByteBuffer(string: "GET \(url.target) HTTP/1.1\r\n\(fields)\r\n")
        if let login = proxy?.authorization { fields += "Proxy-Authorization: \(login.reveal())\r\n" }
        let forwarded = ByteBuffer(string: "GET \(url.origin)\(url.target) HTTP/1.1\r\n\(fields)\r\n")
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let result: Result<[UInt8], Failure> = await withCheckedContinuation { continuation in
            eventLoop.execute {
                let exchange = FetchExchange(
                    head: direct,
                    forwardedHead: forwarded,
                    sizeLimit: sizeLimit,
                    eventLoop: eventLoop
                ) { continuation.resume(returning: $0) }
                exchange.start(dialer, timeout: TimeAmount(timeout))
            }
        }
        return try result.get()
    }
}

/// One GET whose whole answer is wanted.
private final class FetchExchange: UpstreamReceiver {
    private let head: ByteBuffer
    /// The same for a proxy that takes requests instead of giving tunnels.
    private let forwardedHead: ByteBuffer
    private let sizeLimit: Int
    private let eventLoop: any EventLoop
    private var completion: ((Result<[UInt8], ConfigurationFetch.Failure>) -> Void)?
    private var pool: UpstreamPool?
    private var connection: UpstreamConnection?
    private var status = 0
    private var body: UnconsumedBytes

    init(
        head: ByteBuffer,
        forwardedHead: ByteBuffer,
        sizeLimit: Int,
        eventLoop: any EventLoop,
        _ completion: @escaping (Result<[UInt8], ConfigurationFetch.Failure>) -> Void
    ) {
        self.head = head
        self.forwardedHead = forwardedHead
        self.sizeLimit = sizeLimit
        self.body = UnconsumedBytes(limit: sizeLimit)
        self.eventLoop = eventLoop
        self.completion = completion
    }

    func start(_ dialer: Dialer, timeout: TimeAmount) {
        let pool = UpstreamPool(
            eventLoop: self.eventLoop,
            dialer: dialer,
            sweeper: LoopSweeper(eventLoop: self.eventLoop)
        )
        self.pool = pool
        let exchange = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.scheduleTask(in: timeout) {
            exchange.value.complete(.failure(.init(message: "no answer in time")))
        }
        pool.connect(for: self)
    }

    private func complete(_ result: Result<[UInt8], ConfigurationFetch.Failure>) {
        guard let completion else { return }
        self.completion = nil
        self.connection?.cancel()
        self.connection = nil
        self.pool?.close()
        completion(result)
    }

    func upstreamConnected(_ connection: UpstreamConnection) {
        guard self.completion != nil else { return connection.release() }
        self.connection = connection
        connection.send(
            head: connection.isForwarding ? self.forwardedHead : self.head,
            body: nil,
            receiver: self
        )
    }

    func upstreamAnswered(_ connection: UpstreamConnection) {
        self.status = connection.response.status
        guard self.status != 200 else { return }
        self.complete(.failure(.init(message: "the server answered HTTP \(self.status)")))
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard !self.body.append(bytes) else { return }
        self.complete(.failure(.init(message: "larger than \(self.sizeLimit) bytes")))
    }

    func upstreamPaused() {}

    func upstreamEnded() {
        self.connection = nil
        self.complete(.success(Array(self.body.bytes.readableBytesView)))
    }

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        self.complete(.failure(.init(message: error.message)))
    }
}
