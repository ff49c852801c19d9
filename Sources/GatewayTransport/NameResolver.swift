// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import NIOCore
import NIOPosix

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

// The system looks names up in a call that blocks, for as long as the name servers are silent: 5 s and more, several
// times over. NIO makes those calls one after the other on each event loop, so that one name that hangs holds up every
// other. Here each name has its own: at most one look-up at a time, on a thread that it shares with nobody while it
// lasts, and whoever asks for the name meanwhile gets its result. A name that hangs thus delays those who ask for it,
// and nobody else.
//
// Threads are bounded, so that names that hang cannot grow without end, and then their number must not take all threads
// either. Names that hung the last time get no more than a part of them; and when every thread is held by a look-up
// that hangs, others fail at once instead of waiting behind them. Only as long as some are quick do others wait.

/// Looks the addresses of names up, for all upstreams and outbound proxies of this process.
package final class NameResolver: Sendable {
    /// Why there is no address.
    package enum Failure: Error {
        /// The system knows none, or could not find out.
        case noAddress
        /// Too many other look-ups hang.
        case busy
        /// This process can open no more files and sockets, and without them nothing can be looked up.
        case noDescriptors
        /// The asker gave up.
        case cancelled
    }

    /// What the threads call: blocks until the addresses are known, in the order of preference and without a port.
    typealias LookUp = @Sendable (_ name: String) -> Result<[SocketAddress], Failure>

    /// How much is looked up at a time, and what hangs.
    struct Bounds: Sendable {
        /// Look-ups at a time.
        var threads = 32
        /// Threads of those that names which hung the last time do not get.
        var reserve = 8
        /// Names that may wait for a thread.
        var waiting = 256
        /// A look-up that takes longer hangs.
        var hangTime = TimeAmount.seconds(2)
        /// A thread without work ends after this time, in milliseconds.
        var idleMilliseconds: Int64 = 5_000
        /// How long a result is kept whose askers had all given up.
        var lateTime = TimeAmount.seconds(5)
    }

    /// The one of this process: it asks the system, by `getaddrinfo`.
    package static let system = NameResolver()

    private let state: Monitor<State>
    private let idleMilliseconds: Int64
    private let lookUp: LookUp
    private let startThread: @Sendable (@escaping @Sendable () -> Void) -> Bool
    private let now: @Sendable () -> NIODeadline

    init(
        bounds: Bounds = Bounds(),
        startThread: @escaping @Sendable (@escaping @Sendable () -> Void) -> Bool = { Platform.startThread($0) },
        now: @escaping @Sendable () -> NIODeadline = { .now() },
        lookUp: @escaping LookUp = SystemNames.lookUp
    ) {
        self.state = Monitor(State(bounds: bounds))
        self.idleMilliseconds = bounds.idleMilliseconds
        self.startThread = startThread
        self.now = now
        self.lookUp = lookUp
    }

    /// One asker of a name.
    struct Query: Sendable {
        /// Never empty; without a port.
        let addresses: EventLoopFuture<[SocketAddress]>
        fileprivate let promise: EventLoopPromise<[SocketAddress]>
        fileprivate let resolver: NameResolver
        fileprivate let name: String
        /// nil: it was answered at once.
        fileprivate let number: Int?

        /// The asker gives up: the future fails, the look-up goes on if it has begun.
        func cancel() {
            guard let number else { return }
            let isWaiting = self.resolver.state.withLock { $0.cancel(number, of: self.name) }
            if isWaiting { self.promise.fail(Failure.cancelled) }
        }
    }

    /// Asks for the addresses of a name; an address in place of a name is its own answer, and at once.
    func resolve(_ name: String, on eventLoop: any EventLoop) -> Query {
        let promise = eventLoop.makePromise(of: [SocketAddress].self)
        func query(_ number: Int?) -> Query {
            Query(addresses: promise.futureResult, promise: promise, resolver: self, name: name, number: number)
        }
        if let address = try? SocketAddress(ipAddress: name, port: 0) {
            promise.succeed([address])
            return query(nil)
        }
        let now = self.now()
        switch self.state.withLock({ $0.ask(for: name, promise, now: now) }) {
        case .known(let addresses):
            promise.succeed(addresses)
            return query(nil)
        case .refused:
            promise.fail(Failure.busy)
            return query(nil)
        case .waits(let number):
            self.state.wakeAll()
            return query(number)
        case .needsThread(let number):
            if !self.startThread({ self.work() }) {
                let failed = self.state.withLock { $0.threadFailed() }
                for promise in failed { promise.fail(Failure.busy) }
            }
            return query(number)
        }
    }

    // MARK: Threads

    private func work() {
        self.state.withLock { $0.threadBegan() }
        while let name = self.nextName() {
            let result = self.lookUp(name)
            let now = self.now()
            for promise in self.state.withLock({ $0.finish(name, result, now: now) }) {
                switch result {
                case .success(let addresses) where !addresses.isEmpty: promise.succeed(addresses)
                case .success: promise.fail(Failure.noAddress)
                case .failure(let failure): promise.fail(failure)
                }
            }
        }
    }

    /// Waits for a name to look up; nil: there was none for so long that the thread ends.
    private func nextName() -> String? {
        let name = self.state.wait(milliseconds: self.idleMilliseconds) { $0.take(now: self.now()) }
        return name ?? self.state.withLock { $0.takeOrEnd(now: self.now()) }
    }

    /// Threads that there are, for tests.
    var threadCount: Int { self.state.withLock { $0.threads } }
}

// MARK: - What is asked for

extension NameResolver {
    /// Who asks for what, and what each thread does.
    private struct State: Sendable {
        enum Asking {
            /// An earlier look-up came to its end a moment ago.
            case known([SocketAddress])
            case refused
            /// For a look-up that runs, or for a thread.
            case waits(Int)
            /// The same, and a thread is to be started.
            case needsThread(Int)
        }

        private struct LookUp {
            var askers: [Int: EventLoopPromise<[SocketAddress]>]
            /// When a thread took it; nil: none has.
            var began: NIODeadline?
        }

        /// A result that nobody waited for any more.
        private struct Late {
            let addresses: [SocketAddress]
            let end: NIODeadline
        }

        /// Names to remember; more than any configuration has.
        private static let memory = 4096

        private let bounds: Bounds
        private var lookUps: [String: LookUp] = [:]
        /// Names for which there is no thread yet, in order.
        private var waiting: [String] = []
        private(set) var threads = 0
        private var idleThreads = 0
        private var late: [String: Late] = [:]
        /// Those whose last look-up hung.
        private var slow: Set<String> = []
        private var lastNumber = 0

        init(bounds: Bounds) {
            self.bounds = bounds
        }

        mutating func ask(for name: String, _ promise: EventLoopPromise<[SocketAddress]>, now: NIODeadline) -> Asking {
            self.lastNumber += 1
            let number = self.lastNumber
            if self.lookUps[name] != nil {
                self.lookUps[name]?.askers[number] = promise
                return .waits(number)
            }
            if let late = self.late[name], late.end > now { return .known(late.addresses) }
            let places = self.bounds.threads - (self.slow.contains(name) ? self.bounds.reserve : 0)
            guard self.hanging(now: now) < places, self.waiting.count < self.bounds.waiting else { return .refused }
            self.lookUps[name] = LookUp(askers: [number: promise])
            self.waiting.append(name)
            if self.idleThreads >= self.waiting.count || self.threads >= self.bounds.threads { return .waits(number) }
            self.threads += 1
            return .needsThread(number)
        }

        /// Look-ups of which nobody knows when they end.
        private func hanging(now: NIODeadline) -> Int {
            self.lookUps.count { name, lookUp in
                self.slow.contains(name) || lookUp.began.map { now - $0 > self.bounds.hangTime } ?? false
            }
        }

        /// Whether the asker was still waiting.
        mutating func cancel(_ number: Int, of name: String) -> Bool {
            guard self.lookUps[name]?.askers.removeValue(forKey: number) != nil else { return false }
            if let lookUp = self.lookUps[name], lookUp.askers.isEmpty, lookUp.began == nil {
                self.lookUps[name] = nil
                self.waiting.removeAll { $0 == name }
            }
            return true
        }

        /// The system gave no thread; returns who has nothing to wait for.
        mutating func threadFailed() -> [EventLoopPromise<[SocketAddress]>] {
            self.threads -= 1
            guard self.threads == 0 else { return [] }
            let names = self.waiting
            self.waiting.removeAll()
            return names.flatMap { name in
                self.lookUps.removeValue(forKey: name).map { Array($0.askers.values) } ?? []
            }
        }

        mutating func threadBegan() { self.idleThreads += 1 }

        /// Gives a thread the next name.
        mutating func take(now: NIODeadline) -> String? {
            guard !self.waiting.isEmpty else { return nil }
            let name = self.waiting.removeFirst()
            self.lookUps[name]?.began = now
            self.idleThreads -= 1
            return name
        }

        /// The same for a thread that ends if there is none.
        mutating func takeOrEnd(now: NIODeadline) -> String? {
            if let name = self.take(now: now) { return name }
            self.idleThreads -= 1
            self.threads -= 1
            return nil
        }

        /// Returns who is told by the thread, which is free then.
        mutating func finish(
            _ name: String,
            _ result: Result<[SocketAddress], Failure>,
            now: NIODeadline
        ) -> [EventLoopPromise<[SocketAddress]>] {
            self.idleThreads += 1
            guard let lookUp = self.lookUps.removeValue(forKey: name) else { return [] }
            if let began = lookUp.began, now - began > self.bounds.hangTime {
                if self.slow.count < Self.memory { self.slow.insert(name) }
            } else {
                self.slow.remove(name)
            }
            self.late = self.late.filter { $0.value.end > now }
            if lookUp.askers.isEmpty, case .success(let addresses) = result, !addresses.isEmpty {
                self.late[name] = Late(addresses: addresses, end: now + self.bounds.lateTime)
            }
            return Array(lookUp.askers.values)
        }
    }
}

// MARK: - NIO and the system

/// The addresses of one name for one connection of NIO, which asks for the two families by themselves.
final class NameQueries: Resolver, Sendable {
    private let query: NameResolver.Query

    /// Asks at once.
    init(_ name: String, from resolver: NameResolver, on eventLoop: any EventLoop) {
        self.query = resolver.resolve(name, on: eventLoop)
    }

    func initiateAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        self.addresses(.inet, port)
    }

    func initiateAAAAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        self.addresses(.inet6, port)
    }

    func cancelQueries() { self.query.cancel() }

    private func addresses(_ family: NIOBSDSocket.ProtocolFamily, _ port: Int) -> EventLoopFuture<[SocketAddress]> {
        self.query.addresses.map { addresses in
            addresses.filter { $0.protocol == family }
                .map { address in
                    var address = address
                    address.port = port
                    return address
                }
        }
    }
}

/// What the system says about names.
enum SystemNames {
    /// Looks a name up as this machine is set up to do; blocks.
    @Sendable static func lookUp(_ name: String) -> Result<[SocketAddress], NameResolver.Failure> {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_protocol = Int32(IPPROTO_TCP)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &list) == 0 else {
            return .failure(Self.hasDescriptors ? .noAddress : .noDescriptors)
        }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = list
        while let entry = next {
            if let address = Self.address(entry.pointee), !addresses.contains(address) { addresses.append(address) }
            next = entry.pointee.ai_next
        }
        return .success(addresses)
    }

    private static func address(_ entry: addrinfo) -> SocketAddress? {
        guard let raw = UnsafeRawPointer(entry.ai_addr) else { return nil }
        return switch entry.ai_family {
        case AF_INET: SocketAddress(raw.loadUnaligned(as: sockaddr_in.self))
        case AF_INET6: SocketAddress(raw.loadUnaligned(as: sockaddr_in6.self))
        default: nil
        }
    }

    /// Whether a file can be opened: without, the system does not find a name and says nothing of why.
    private static var hasDescriptors: Bool {
        let descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard descriptor < 0 else {
            close(descriptor)
            return true
        }
        return errno != EMFILE && errno != ENFILE
    }
}
