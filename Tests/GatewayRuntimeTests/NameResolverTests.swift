// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTesting
import GatewayWire
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import GatewayTransport

@Suite("Look-ups of names", .timeLimit(.minutes(1))) struct NameResolverTests {
    /// The name servers of a test: `hang…` is answered when the test says so, `none` not at all, all else at once.
    final class Names: Sendable {
        struct State: Sendable {
            /// Look-ups that began, in order, and threads that are gone.
            var began: [String] = []
            var endedThreads = 0
            var startedThreads = 0
        }

        let seen = Inbox(State())
        private let answers = Monitor<Set<String>>([])

        static let address = (try? SocketAddress(ipAddress: "192.0.2.1", port: 0)).map { [$0] } ?? []

        /// Ends the look-ups of these names, now and from now on.
        func answer(_ names: String...) {
            self.answers.withLock { $0.formUnion(names) }
            self.answers.wakeAll()
        }

        /// Makes these names hang again.
        func hang(_ names: String...) { self.answers.withLock { $0.subtract(names) } }

        @Sendable func lookUp(_ name: String) -> Result<[SocketAddress], NameResolver.Failure> {
            self.seen.change { $0.began.append(name) }
            if name.hasPrefix("hang") {
                // Nobody waits longer for a test that failed.
                _ = self.answers.wait(milliseconds: 30_000) { $0.contains(name) || $0.contains("all") ? true : nil }
            }
            return name == "none" ? .failure(.noAddress) : .success(Self.address)
        }

        @Sendable func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
            self.seen.change { $0.startedThreads += 1 }
            return Platform.startThread {
                body()
                self.seen.change { $0.endedThreads += 1 }
            }
        }

        func resolver(
            _ bounds: NameResolver.Bounds = .init(),
            now: @escaping @Sendable () -> NIODeadline = { .now() }
        ) -> NameResolver {
            NameResolver(bounds: bounds, startThread: self.startThread, now: now, lookUp: self.lookUp)
        }

        /// Returns when a thread works at this name.
        func began(_ name: String, times: Int = 1) async throws {
            _ = try await self.seen.wait("\(name) to be looked up") { state in
                state.began.count { $0 == name } >= times ? true : nil
            }
        }
    }

    let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
    let names = Names()

    /// A clock that the test turns.
    final class Clock: Sendable {
        private let time = Mutex(NIODeadline.uptimeNanoseconds(0))
        @Sendable func now() -> NIODeadline { self.time.withLock { $0 } }
        func advance(_ amount: TimeAmount) { self.time.withLock { $0 = $0 + amount } }
    }

    @Test("A name that hangs delays nobody who asks for another")
    func bulkhead() async throws {
        let resolver = self.names.resolver()
        let hanging = resolver.resolve("hang", on: self.eventLoop)
        try await self.names.began("hang")
        for name in ["a", "b", "c"] {
            #expect(try await resolver.resolve(name, on: self.eventLoop).addresses.get() == Names.address)
        }
        self.names.answer("hang")
        #expect(try await hanging.addresses.get() == Names.address)
    }

    @Test("A hundred who ask for one name at once share one look-up")
    func singleFlight() async throws {
        let resolver = self.names.resolver()
        let queries = (0..<100).map { _ in resolver.resolve("hang", on: self.eventLoop) }
        try await self.names.began("hang")
        self.names.answer("hang")
        for query in queries { #expect(try await query.addresses.get() == Names.address) }
        #expect(self.names.seen.now.began == ["hang"])
        #expect(self.names.seen.now.startedThreads == 1)
    }

    @Test("A name without an address is an error, and asked for again the next time")
    func noAddress() async {
        let resolver = self.names.resolver()
        for _ in 0..<2 {
            await #expect(throws: NameResolver.Failure.noAddress) {
                try await resolver.resolve("none", on: self.eventLoop).addresses.get()
            }
        }
        #expect(self.names.seen.now.began == ["none", "none"])
    }

    @Test("An address is its own answer and needs no thread", arguments: ["127.0.0.1", "::1", "2001:db8::1"])
    func literal(host: String) async throws {
        let resolver = self.names.resolver()
        let addresses = try await resolver.resolve(host, on: self.eventLoop).addresses.get()
        #expect(addresses.map(\.ipAddress) == [host])
        #expect(self.names.seen.now.startedThreads == 0)
    }

    @Test("Names wait for a thread while the others are quick, and are refused at once when all hang")
    func bound() async throws {
        let clock = Clock()
        let resolver = self.names.resolver(.init(threads: 3, reserve: 1), now: clock.now)
        let hanging = (0..<3).map { resolver.resolve("hang\($0)", on: self.eventLoop) }
        for number in 0..<3 { try await self.names.began("hang\(number)") }
        let waiting = resolver.resolve("a", on: self.eventLoop)
        #expect(resolver.threadCount == 3)
        clock.advance(.seconds(3))
        await #expect(throws: NameResolver.Failure.busy) {
            try await resolver.resolve("b", on: self.eventLoop).addresses.get()
        }
        // Whoever asks for a name that is looked up already joins.
        let joined = resolver.resolve("hang1", on: self.eventLoop)
        self.names.answer("hang1")
        #expect(try await joined.addresses.get() == Names.address)
        #expect(try await waiting.addresses.get() == Names.address)
        #expect(try await resolver.resolve("b", on: self.eventLoop).addresses.get() == Names.address)
        #expect(resolver.threadCount == 3)
        self.names.answer("all")
        for query in hanging { #expect(try await query.addresses.get() == Names.address) }
    }

    @Test("Names that hung before leave threads for those that did not")
    func reserve() async throws {
        let clock = Clock()
        let resolver = self.names.resolver(.init(threads: 3, reserve: 1), now: clock.now)
        for number in 0..<3 {
            let query = resolver.resolve("hang\(number)", on: self.eventLoop)
            try await self.names.began("hang\(number)")
            clock.advance(.seconds(3))
            self.names.answer("hang\(number)")
            #expect(try await query.addresses.get() == Names.address)
        }
        self.names.hang("hang0", "hang1", "hang2")
        let again = (0..<2).map { resolver.resolve("hang\($0)", on: self.eventLoop) }
        await #expect(throws: NameResolver.Failure.busy) {
            try await resolver.resolve("hang2", on: self.eventLoop).addresses.get()
        }
        #expect(try await resolver.resolve("a", on: self.eventLoop).addresses.get() == Names.address)
        self.names.answer("all")
        for query in again { #expect(try await query.addresses.get() == Names.address) }
        // It was quick this time, and is trusted again.
        #expect(try await resolver.resolve("hang2", on: self.eventLoop).addresses.get() == Names.address)
    }

    @Test("No more names wait for a thread than are allowed to")
    func waitingBound() async throws {
        let clock = Clock()
        let resolver = self.names.resolver(.init(threads: 1, reserve: 0, waiting: 2), now: clock.now)
        let hanging = resolver.resolve("hang", on: self.eventLoop)
        try await self.names.began("hang")
        let waiting = ["a", "b"].map { resolver.resolve($0, on: self.eventLoop) }
        await #expect(throws: NameResolver.Failure.busy) {
            try await resolver.resolve("c", on: self.eventLoop).addresses.get()
        }
        self.names.answer("hang")
        for query in waiting + [hanging] { #expect(try await query.addresses.get() == Names.address) }
    }

    @Test("A thread is used again, and ends when it has had nothing to do for a while")
    func threadsEnd() async throws {
        let resolver = self.names.resolver(.init(idleMilliseconds: 300))
        for _ in 0..<20 { _ = try await resolver.resolve("a", on: self.eventLoop).addresses.get() }
        // An answer can be there a moment before its thread has nothing to do.
        #expect(self.names.seen.now.startedThreads < 10)
        _ = try await self.names.seen.wait("the threads to end") { $0.endedThreads == $0.startedThreads ? true : nil }
        while resolver.threadCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(try await resolver.resolve("a", on: self.eventLoop).addresses.get() == Names.address)
    }

    @Test("Without a thread those who would need it hear so at once")
    func noThread() async {
        let resolver = NameResolver(startThread: { _ in false }, lookUp: self.names.lookUp)
        for _ in 0..<2 {
            await #expect(throws: NameResolver.Failure.busy) {
                try await resolver.resolve("a", on: self.eventLoop).addresses.get()
            }
        }
    }

    @Test("Whoever gives up hears so at once, and the result is kept a while for the next who asks")
    func late() async throws {
        let clock = Clock()
        let resolver = self.names.resolver(.init(threads: 1, reserve: 0), now: clock.now)
        let query = resolver.resolve("hang", on: self.eventLoop)
        try await self.names.began("hang")
        query.cancel()
        query.cancel()
        await #expect(throws: NameResolver.Failure.cancelled) { try await query.addresses.get() }
        // It waits for the one thread, and nobody wants it any more.
        let other = resolver.resolve("a", on: self.eventLoop)
        other.cancel()
        await #expect(throws: NameResolver.Failure.cancelled) { try await other.addresses.get() }
        let last = resolver.resolve("b", on: self.eventLoop)
        self.names.answer("hang")
        _ = try await last.addresses.get()
        #expect(try await resolver.resolve("hang", on: self.eventLoop).addresses.get() == Names.address)
        #expect(self.names.seen.now.began == ["hang", "b"])
        clock.advance(.seconds(6))
        #expect(try await resolver.resolve("hang", on: self.eventLoop).addresses.get() == Names.address)
        #expect(self.names.seen.now.began == ["hang", "b", "hang"])
    }

    @Test("A result that somebody waited for is kept for nobody")
    func notKept() async throws {
        let resolver = self.names.resolver()
        for _ in 0..<2 { _ = try await resolver.resolve("a", on: self.eventLoop).addresses.get() }
        #expect(self.names.seen.now.began == ["a", "a"])
    }

    @Test("The system's own names are found, for both families of addresses in one look-up")
    func system() async throws {
        let addresses = try await NameResolver.system.resolve("localhost", on: self.eventLoop).addresses.get()
        #expect(addresses.contains { ["127.0.0.1", "::1"].contains($0.ipAddress) })
        #expect(Set(addresses).count == addresses.count)
    }

    // MARK: Connections

    /// What became of one attempt to connect.
    final class Attempt: UpstreamReceiver {
        private let done: (TransportError?) -> Void
        init(_ done: @escaping (TransportError?) -> Void) { self.done = done }
        func upstreamConnected(_ connection: UpstreamConnection) {
            connection.cancel()
            self.done(nil)
        }
        func upstreamAnswered(_ connection: UpstreamConnection) {}
        func upstreamSent(_ bytes: ByteBuffer) {}
        func upstreamPaused() {}
        func upstreamEnded() {}
        func upstreamFailed(_ error: TransportError) { self.done(error) }
    }

    private func connect(to host: String, port: Int = 9, via resolver: NameResolver) async throws -> TransportError? {
        let origin = WebOrigin(scheme: .http, host: host, isIPv6Literal: false, port: port)
        var dialer = try Dialer(origin: origin, tls: TLSClientConfiguration(), timeout: .milliseconds(300))
        dialer.names = resolver
        let eventLoop = self.eventLoop
        return await withCheckedContinuation { continuation in
            eventLoop.execute { [dialer] in
                let sweeper = LoopSweeper(eventLoop: eventLoop)
                let pool = UpstreamPool(eventLoop: eventLoop, dialer: dialer, sweeper: sweeper)
                pool.connect(
                    for: Attempt {
                        continuation.resume(returning: $0)
                        pool.close()
                    }
                )
            }
        }
    }

    @Test("A connection to a name that hangs delays none to another name of the same loop")
    func dialSocket() async throws {
        let listener = try await ServerBootstrap(group: self.eventLoop).bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(listener.localAddress?.port)
        let names = self.names
        let resolver = NameResolver(lookUp: { name in
            _ = names.lookUp(name)
            return .success([try? SocketAddress(ipAddress: "127.0.0.1", port: 0)].compactMap { $0 })
        })
        async let hanging = self.connect(to: "hang", via: resolver)
        try await names.began("hang")
        #expect(try await self.connect(to: "quick", port: port, via: resolver) == nil)
        #expect(try await hanging?.code == .connectTimeout)
        // It is looked up still, and found for the next who asks.
        async let next = self.connect(to: "hang", port: port, via: resolver)
        names.answer("hang")
        #expect(try await next == nil)
        // It asks for both families, and the second question may come behind the answer.
        #expect(names.seen.now.began.count { $0 == "hang" } <= 2)
        try await listener.close()
    }

    @Test(
        "A name without an answer is a failure of the look-up, in words",
        arguments: [
            ("none", NameResolver.Failure.noAddress, "the name x.test has no address"),
            ("busy", .busy, "the name x.test cannot be looked up now: too many others get no answer"),
        ]
    )
    func failure(_: String, failure: NameResolver.Failure, message: String) async throws {
        let error = try await self.connect(to: "x.test", via: NameResolver(lookUp: { _ in .failure(failure) }))
        #expect(error?.code == .resolve)
        #expect(error?.message == message)
    }
}
