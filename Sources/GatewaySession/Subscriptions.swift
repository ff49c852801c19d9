// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What callers subscribe to at one upstream session: who to what, and both ways round, so that nothing is searched.
///
/// Bounded for each caller and in all, since a URI costs a caller nothing and us its bytes for as long as the session
/// lives. A URI is kept once, however many callers subscribe to it.
struct Subscriptions {
    /// How much is kept.
    struct Limits {
        /// URIs of one caller, and their bytes.
        var urisOfCaller = 1_000
        var bytesOfCaller = 1 << 20
        /// URIs of all callers together, and their bytes; one that several subscribe to counts once.
        var uris = 10_000
        var bytes = 16 << 20
        /// Pairs of a caller and a URI.
        var pairs = 100_000
    }

    private struct Caller {
        var uris: Set<[UInt8]> = []
        var bytes = 0
    }

    private let limits: Limits
    private var callers: [Int: Caller] = [:]
    private var subscribers: [[UInt8]: Set<Int>] = [:]
    private var bytes = 0
    private var pairs = 0

    init(limits: Limits = Limits()) {
        self.limits = limits
    }

    /// Everything that somebody subscribes to.
    var uris: Set<[UInt8]> { Set(self.subscribers.keys) }

    /// Whether somebody subscribes to a URI.
    func contains(_ uri: [UInt8]) -> Bool { self.subscribers[uri] != nil }

    /// What a caller subscribes to, in order.
    func uris(of caller: Int) -> [[UInt8]] {
        self.callers[caller].map { $0.uris.sorted { $0.lexicographicallyPrecedes($1) } } ?? []
    }

    /// Who subscribes to a URI.
    func callers(of uri: [UInt8]) -> [Int] { self.subscribers[uri].map { $0.sorted() } ?? [] }

    /// A caller subscribes; false if a bound is reached, and nothing is kept.
    ///
    /// One that does already may do so again.
    mutating func insert(_ uri: [UInt8], of caller: Int) -> Bool {
        var own = self.callers[caller] ?? Caller()
        guard !own.uris.contains(uri) else { return true }
        let known = self.subscribers.index(forKey: uri)
        guard own.uris.count < self.limits.urisOfCaller, uri.count <= self.limits.bytesOfCaller - own.bytes,
            self.pairs < self.limits.pairs,
            known != nil || self.subscribers.count < self.limits.uris && uri.count <= self.limits.bytes - self.bytes
        else { return false }
        // The bytes that are there already serve this caller too.
        let shared = known.map { self.subscribers.keys[$0] } ?? uri
        if known == nil { self.bytes += uri.count }
        self.callers[caller] = nil
        own.uris.insert(shared)
        own.bytes += uri.count
        self.callers[caller] = own
        self.subscribers[shared, default: []].insert(caller)
        self.pairs += 1
        return true
    }

    /// A caller subscribes no more; returns whether nobody does now.
    mutating func remove(_ uri: [UInt8], of caller: Int) -> Bool {
        if self.callers[caller]?.uris.remove(uri) != nil {
            self.callers[caller]?.bytes -= uri.count
            if self.callers[caller]?.uris.isEmpty == true { self.callers[caller] = nil }
            self.forget(caller, at: uri)
        }
        return self.subscribers[uri] == nil
    }

    /// A caller is gone; returns what nobody subscribes to any more.
    mutating func removeAll(of caller: Int) -> [[UInt8]] {
        guard let gone = self.callers.removeValue(forKey: caller) else { return [] }
        for uri in gone.uris { self.forget(caller, at: uri) }
        return gone.uris.filter { self.subscribers[$0] == nil }
    }

    private mutating func forget(_ caller: Int, at uri: [UInt8]) {
        guard self.subscribers[uri]?.remove(caller) != nil else { return }
        self.pairs -= 1
        guard self.subscribers[uri]?.isEmpty == true else { return }
        self.subscribers[uri] = nil
        self.bytes -= uri.count
    }
}
