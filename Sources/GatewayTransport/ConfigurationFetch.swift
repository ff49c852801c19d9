// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
package import GatewayModel
package import GatewayWire
import NIOCore
import NIOPosix

/// Fetches a configuration from a URL (contract §1).
///
/// Redirects are not followed: the headers, which may hold a password, are for the URL that the operator named.
package enum ConfigurationFetch {
    /// Why nothing was fetched, in words.
    package struct Failure: Error, Sendable {
        package let message: String
        /// The HTTP status with which the server refused; nil if there was none.
        package var status: Int?
    }

    /// What a server has.
    package enum Answer: Sendable {
        case version([UInt8], HTTPValidators)
        /// What it said these validators of.
        case notModified
    }

    /// `last` is what the server said of the version that is known; `proxy` is the outbound proxy to go through; nil: none.
    package static func get(
        _ url: HTTPURL,
        headers: [(String, Secret)],
        unlessStill last: HTTPValidators = HTTPValidators(),
        tls: TLSClientConfiguration,
        proxy: OutboundProxy?,
        timeout: Duration,
        sizeLimit: Int
    ) async throws(Failure) -> Answer {
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
        fields += last.conditions
        let direct = ByteBuffer(string: "GET \(url.target) HTTP/1.1\r\n\(fields)\r\n")
        if let login = proxy?.authorization { fields += "Proxy-Authorization: \(login.reveal())\r\n" }
        let forwarded = ByteBuffer(string: "GET \(url.origin)\(url.target) HTTP/1.1\r\n\(fields)\r\n")
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let result: Result<Answer, Failure> = await withCheckedContinuation { continuation in
            eventLoop.execute {
                let exchange = FetchExchange(
                    head: direct,
                    forwardedHead: forwarded,
                    sizeLimit: sizeLimit,
                    isConditional: last != HTTPValidators(),
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
    /// Whether the server may answer that it has nothing else.
    private let isConditional: Bool
    private let eventLoop: any EventLoop
    private var completion: ((Result<ConfigurationFetch.Answer, ConfigurationFetch.Failure>) -> Void)?
    private var pool: UpstreamPool?
    private var connection: UpstreamConnection?
    private var status = 0
    private var validators = HTTPValidators()
    private var body: UnconsumedBytes

    init(
        head: ByteBuffer,
        forwardedHead: ByteBuffer,
        sizeLimit: Int,
        isConditional: Bool,
        eventLoop: any EventLoop,
        _ completion: @escaping (Result<ConfigurationFetch.Answer, ConfigurationFetch.Failure>) -> Void
    ) {
        self.head = head
        self.forwardedHead = forwardedHead
        self.sizeLimit = sizeLimit
        self.isConditional = isConditional
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

    private func complete(_ result: Result<ConfigurationFetch.Answer, ConfigurationFetch.Failure>) {
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
        let head = connection.responseBytes
        for field in connection.response.fields where field.name == .other {
            let name = head.readableBytesUInt8Span.extracting(field.nameRange)
            if HTTP1Text.equalsIgnoringCase(name, "etag") {
                self.validators.entityTag = Self.text(field.valueRange, of: head)
            } else if HTTP1Text.equalsIgnoringCase(name, "last-modified") {
                self.validators.lastModified = Self.text(field.valueRange, of: head)
            }
        }
        guard self.status != 200 else { return }
        if self.status == 304, self.isConditional { return self.complete(.success(.notModified)) }
        self.complete(.failure(.init(message: "the server answered HTTP \(self.status)", status: self.status)))
    }

    private static func text(_ range: Range<Int>, of head: ByteBuffer) -> String? {
        head.getString(at: head.readerIndex + range.lowerBound, length: range.count)
    }

    func upstreamSent(_ bytes: ByteBuffer) {
        guard !self.body.append(bytes) else { return }
        self.complete(.failure(.init(message: "larger than \(self.sizeLimit) bytes")))
    }

    func upstreamPaused() {}

    func upstreamEnded() {
        self.connection = nil
        self.complete(.success(.version(Array(self.body.bytes.readableBytesView), self.validators)))
    }

    func upstreamFailed(_ error: TransportError) {
        self.connection = nil
        self.complete(.failure(.init(message: error.message)))
    }
}
