// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewayObservability
import GatewaySession
import GatewayTransport
import GatewayWire
import Logging
import NIOCore
import Synchronization

/// The endpoints and the upstream units behind them: which there are, which come, and which go.
///
/// Every change makes a new table of endpoints; what is under way goes on with what it began with.
package final class EndpointRegistry: Sendable {
    /// What is to be done behind a change, by whoever runs the registry.
    private enum Duty: Sendable {
        /// `isFirst`: the process began with it.
        case begin(Upstream, isFirst: Bool)
        case succeed(Succession, within: Duration)
        case drain(Upstream, within: Duration)
        case revoke(EndpointID, within: Duration)
    }

    /// A unit that takes the place of another one as soon as it is up, which serves until then.
    private struct Succession: Sendable {
        let endpoint: EndpointID
        let former: Upstream
        let successor: Upstream
    }

    private struct State {
        var table: Endpoints
        /// Those that have not happened yet.
        var successions: [Succession] = []
        /// Units that go and are not gone yet.
        var leaving: [Upstream] = []
        /// Whether every unit was told to end, so that none may come.
        var isStopped = false

        var everyUpstream: [Upstream] {
            self.table.all.map(\.upstream) + self.successions.map(\.successor) + self.leaving
        }
        /// Whether no unit is about to go.
        var isSettled: Bool { self.successions.isEmpty && self.leaving.isEmpty }
    }

    /// What only a change needs; changes come one after the other.
    private struct Workshop {
        var gates = OutboundProxyGates()
    }

    /// What a change is, before anything is changed.
    private struct Plan {
        var applied = AppliedChanges()
        var endpoints: [Endpoint] = []
        var came: [Upstream] = []
        /// Those that another unit takes the place of.
        var replaced: [Upstream] = []
        /// What happens when a unit is up, those that were waited for before included.
        var successions: [Succession] = []
        var tuned: [(Upstream, UpstreamConfiguration)] = []
        /// Endpoints that let not everybody in any more whom they let in before.
        var stricter: [EndpointID] = []
    }

    private let surroundings: UpstreamSurroundings
    private let calls: Calls
    /// The table that each event loop goes by.
    let tables: EndpointTables
    private let workshop: Mutex<Workshop>
    private let state: Mutex<State>
    private let duties: AsyncStream<Duty>
    private let dutiesToDo: AsyncStream<Duty>.Continuation
    /// Whenever the last unit that was about to go is gone; for one to wait.
    package let settlements: AsyncStream<Void>
    private let settled: AsyncStream<Void>.Continuation

    init(
        _ snapshot: GatewaySnapshot,
        in surroundings: UpstreamSurroundings,
        _ calls: Calls
    ) throws {
        var workshop = Workshop()
        let endpoints = try snapshot.upstreams.filter { !$0.isDisabled }
            .map { configuration in
                let upstream = try UpstreamKinds.makeUpstream(configuration, in: surroundings, gates: &workshop.gates)
                return Endpoint(id: EndpointID(), configuration, upstream: upstream)
            }
        let table = try Endpoints(snapshot.listener, endpoints)
        self.surroundings = surroundings
        self.calls = calls
        let tables = EndpointTables(surroundings.loops)
        self.tables = tables
        self.workshop = Mutex(workshop)
        self.state = Mutex(State(table: table))
        (self.duties, self.dutiesToDo) = AsyncStream.makeStream()
        calls.isAnyLogEnabled.store(table.isAnyLogEnabled, ordering: .relaxed)
        (self.settlements, self.settled) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        for endpoint in endpoints {
            self.show(endpoint.upstream)
            self.dutiesToDo.yield(.begin(endpoint.upstream, isFirst: true))
        }
        for loop in surroundings.loops { loop.eventLoop.execute { tables.lead(loop, by: table) } }
    }

    /// What callers can address now; on an event loop ``EndpointTables`` costs no lock.
    package var endpoints: Endpoints { self.state.withLock { $0.table } }

    /// Every unit that is not gone, those that are about to go included.
    package var everyUpstream: [Upstream] {
        self.state.withLock { $0.everyUpstream }
    }

    /// Whether no unit is about to go.
    package var isSettled: Bool { self.state.withLock { $0.isSettled } }

    /// The units of a name that another one took the place of, and that are not gone yet.
    func leaving(_ name: String) -> [Upstream] {
        self.state.withLock { state in state.leaving.filter { $0.name == name } }
    }

    // MARK: Life

    /// Reaches every upstream, and goes on looking after them, and after what changes, until the task is cancelled.
    ///
    /// `concluded` hears the first verdict on each unit that the process began with.
    func run(concluded: @escaping @Sendable (Upstream, EraProbe.Verdict) -> Void) async {
        await withDiscardingTaskGroup { group in
            for await duty in self.duties {
                group.addTask {
                    switch duty {
                    case .begin(let upstream, let isFirst):
                        await upstream.run { verdict in if isFirst { concluded(upstream, verdict) } }
                    case .succeed(let succession, let limit):
                        await self.succeed(succession, within: limit)
                    case .drain(let upstream, let limit):
                        await self.drain(upstream, within: limit)
                    case .revoke(let endpoint, let limit):
                        await self.revoke(endpoint, within: limit)
                    }
                }
            }
        }
    }

    /// Ends every unit, within `limit`; from now on none comes.
    func stop(within limit: Duration) async {
        let upstreams = self.state.withLock { state in
            state.isStopped = true
            return state.everyUpstream
        }
        await withDiscardingTaskGroup { group in
            for upstream in upstreams {
                group.addTask { await upstream.stop(within: limit, .last, self.calls.sessions) }
            }
        }
    }

    /// `endpoint`: whose upstream takes over the sessions of the unit, if it can.
    private func drain(_ upstream: Upstream, within limit: Duration, endpoint: EndpointID? = nil) async {
        await upstream.drain(within: limit, self.calls.sessions) {
            let heir = self.endpoints.all.first { $0.id == endpoint }?.upstream
            return heir.flatMap { $0.canSucceed(upstream) ? $0 : nil }
        }
        if upstream.isOver { self.forget(upstream) }
    }

    // MARK: Successions

    /// Waits for a unit to be up, at most for `limit`, leads callers to it, and drains the one before.
    ///
    /// One that never came up takes the place all the same when the time is over, and the one before ends. Nobody waits where
    /// the one before is of no use itself: callers hear from the new one at once what is wrong, and sessions follow when it
    /// is up.
    private func succeed(_ succession: Succession, within limit: Duration) async {
        let (former, successor) = (succession.former, succession.successor)
        let end = ContinuousClock.now + limit
        var isTold = false
        // A program that ends meanwhile is started again, and serves on.
        let isOfUse = former.currentVerdict == .usable
        while isOfUse, successor.currentVerdict != .usable, ContinuousClock.now < end {
            // Cancelled means that the process ends. Another change may have taken the unit out.
            guard (try? await Task.sleep(for: .milliseconds(20))) != nil, self.isPending(succession) else { return }
            guard successor.currentVerdict.isFailure, !isTold else { continue }
            isTold = true
            self.surroundings.logger.warning(
                "what replaces the server does not come up; the one before serves on",
                metadata: [
                    "upstream": "\(successor.name)", "cause": "\(successor.cause?.code.rawValue ?? "")",
                    "detail": "\(successor.cause?.detail ?? "")", "until": "\(limit)",
                ]
            )
        }
        let isUp = successor.currentVerdict == .usable
        let changed = isUp ? await successor.lists(unlike: former) : ServerList.allCases
        guard self.carryOut(succession) else { return }
        for loop in self.surroundings.loops { await loop.asked { self.tables.lead($0, by: self.endpoints) } }
        guard isUp || !isOfUse else { return await self.drain(former, within: .zero) }
        let moving = self.calls.sessions.sessions(at: former)
        if isUp {
            await successor.takeSessions(of: former, self.calls.sessions)
            await former.endStreams()
            self.tell(moving, thatChanged: changed, since: former)
        }
        await self.drain(former, within: limit, endpoint: succession.endpoint)
        if !isUp { self.tell(moving, thatChanged: changed, since: former) }
    }

    /// Tells those sessions that another unit works for now which of its lists are others than those that they may know.
    private func tell(_ sessions: [CallerSession], thatChanged lists: [ServerList], since former: Upstream) {
        for session in sessions where session.upstream !== former {
            for list in lists { session.deliver(ClientMessage.listChanged(list)) }
        }
    }

    private func isPending(_ succession: Succession) -> Bool {
        self.state.withLock { $0.successions.contains { $0.successor === succession.successor } }
    }

    /// Leads callers from one unit to the other from now on; false if another change came before.
    private func carryOut(_ succession: Succession) -> Bool {
        // No change is half done meanwhile, which goes by who serves the endpoint.
        self.workshop.withLock { _ in
            self.state.withLock { state in
                guard let index = state.successions.firstIndex(where: { $0.successor === succession.successor }),
                    !state.isStopped
                else { return false }
                state.successions.remove(at: index)
                state.table = state.table.leading(succession.endpoint, to: succession.successor)
                state.leaving.append(succession.former)
                succession.former.departure.replace()
                return true
            }
        }
    }

    // MARK: Changes

    /// Goes by another configuration from now on: builds what is new, leads requests that begin from now on to it, and lets
    /// what went finish what it has, for `drainTime` at most.
    ///
    /// `changes` says of each server that both configurations have what became of it; one that is not named is replaced. When
    /// this returns no request begins by the old table any more. What needs another listener is left as it is: address and
    /// base URL.
    ///
    /// - Throws: what building an upstream throws, `RouteTable.Collision`, or `CancellationError` if the process ends; then
    ///   nothing has changed.
    package func apply(
        _ next: GatewaySnapshot,
        changes: [String: ServerComparison.Verdict],
        drainTime: Duration
    ) async throws -> AppliedChanges {
        let (applied, duties) = try self.workshop.withLock { workshop in
            var plan = Plan()
            do {
                let table = try self.build(next, changes, &plan, &workshop)
                return try self.carryOut(plan, table, drainTime)
            } catch {
                for upstream in plan.came { self.forgetFigures(of: upstream.name) }
                throw error
            }
        }
        // Each takes the table that is there by then: this one, or that of a change which came after it.
        for loop in self.surroundings.loops { await loop.asked { self.tables.lead($0, by: self.endpoints) } }
        for duty in duties { self.dutiesToDo.yield(duty) }
        return applied
    }

    /// Makes what another configuration needs, and changes nothing.
    private func build(
        _ next: GatewaySnapshot,
        _ changes: [String: ServerComparison.Verdict],
        _ plan: inout Plan,
        _ workshop: inout Workshop
    ) throws -> Endpoints {
        let (before, waiting) = self.state.withLock { ($0.table, $0.successions) }
        let known = Dictionary(before.all.map { ($0.name, $0) }) { first, _ in first }
        var surroundings = self.surroundings
        surroundings.listener = before.listener.tuned(by: next.listener)
        func makeUpstream(_ configuration: UpstreamConfiguration) throws -> Upstream {
            let upstream = try UpstreamKinds.makeUpstream(configuration, in: surroundings, gates: &workshop.gates)
            plan.came.append(upstream)
            return upstream
        }
        for configuration in next.upstreams where !configuration.isDisabled {
            let name = configuration.name
            guard let endpoint = known[name] else {
                let upstream = try makeUpstream(configuration)
                plan.endpoints.append(Endpoint(id: EndpointID(), configuration, upstream: upstream))
                plan.applied.added.append(name)
                continue
            }
            var upstream = endpoint.upstream
            // The one that the configuration means that is compared with, whether or not it is up yet.
            let succession = waiting.first { $0.endpoint == endpoint.id }
            switch changes[name] ?? .replaced {
            case .same:
                plan.successions += [succession].compactMap(\.self)
                plan.applied.same.append(name)
            case .tuned:
                plan.successions += [succession].compactMap(\.self)
                plan.tuned.append((succession?.successor ?? upstream, configuration))
                plan.applied.tuned.append(name)
            case .replaced, .added, .removed:
                plan.replaced += [succession?.successor].compactMap(\.self)
                let successor = try makeUpstream(configuration)
                if successor.canSucceed(upstream) {
                    plan.successions.append(.init(endpoint: endpoint.id, former: upstream, successor: successor))
                } else {
                    plan.replaced.append(upstream)
                    upstream = successor
                }
                plan.applied.replaced.append(name)
            }
            let successor = Endpoint(id: endpoint.id, configuration, upstream: upstream)
            plan.endpoints.append(successor)
            if !endpoint.tokens.isWithin(successor.tokens) { plan.stricter.append(endpoint.id) }
        }
        return try Endpoints(surroundings.listener, plan.endpoints)
    }

    /// Puts a table in the place of the one before, and says what is to be done when every event loop has it.
    private func carryOut(_ plan: Plan, _ table: Endpoints, _ drainTime: Duration) throws -> (AppliedChanges, [Duty]) {
        let names = Set(table.all.map(\.name))
        var applied = plan.applied
        let came = Set(plan.came.map(\.id))
        let went = try self.state.withLock { state in
            guard !state.isStopped else { throw CancellationError() }
            let removed = state.table.all.filter { !names.contains($0.name) }
            applied.removed = removed.map(\.name)
            let unneeded = state.successions.map(\.successor).filter { !names.contains($0.name) }
            let went = plan.replaced + removed.map(\.upstream) + unneeded
            state.table = table
            state.successions = plan.successions
            state.leaving += went
            for upstream in plan.replaced { upstream.departure.replace() }
            // Of a name that is gone the units that were replaced before are of no more use either.
            for upstream in state.leaving where !names.contains(upstream.name) { upstream.departure.remove() }
            return went
        }
        for (upstream, configuration) in plan.tuned { upstream.tune(configuration) }
        self.tune(table.listener.limits)
        self.calls.isAnyLogEnabled.store(table.isAnyLogEnabled, ordering: .relaxed)
        for upstream in plan.came { self.show(upstream) }
        let duties =
            plan.came.map { Duty.begin($0, isFirst: false) } + went.map { .drain($0, within: drainTime) }
            + plan.successions.filter { came.contains($0.successor.id) }.map { .succeed($0, within: drainTime) }
            + plan.stricter.map { .revoke($0, within: drainTime) }
        return (applied, duties)
    }

    /// Has everybody who keeps limits of their own go by these: those that are about to go as well, which have callers still.
    private func tune(_ limits: Limits) {
        self.calls.tune(limits)
        for upstream in self.everyUpstream { upstream.tune(limits) }
    }

    /// Ends what callers have whom an endpoint does not let in any more: streams at once, sessions when their calls are over.
    private func revoke(_ id: EndpointID, within limit: Duration) async {
        // As it is now: a later change may have let them in again, or have taken the endpoint away.
        guard let endpoint = self.endpoints.all.first(where: { $0.id == id }) else { return }
        for loop in self.surroundings.loops {
            await loop.asked { loop in
                loop.sweeper.each { entry in
                    guard let use = entry as? any UpstreamUse, use.isStream, endpoint.revokes(use.principal) else {
                        return
                    }
                    use.drain()
                }
            }
        }
        await withDiscardingTaskGroup { group in
            for session in self.calls.sessions.sessions(revokedBy: endpoint) {
                group.addTask { await self.calls.sessions.revoke(session, within: limit) }
            }
        }
    }

    /// A unit is gone, and so are the figures of its server if that is not served any more.
    private func forget(_ upstream: Upstream) {
        // No change is half done meanwhile, which may be about to serve the name again.
        self.workshop.withLock { _ in
            let isSettled = self.state.withLock { state in
                state.leaving.removeAll { $0 === upstream }
                return state.isSettled
            }
            self.calls.sessions.forgetFormer()
            self.forgetFigures(of: upstream.name)
            if isSettled { self.settled.yield() }
        }
    }

    // MARK: Figures

    /// Takes out the figures of a name that no unit has.
    private func forgetFigures(of name: String) {
        guard !self.everyUpstream.contains(where: { $0.name == name }) else { return }
        self.surroundings.metrics.removeSeries(where: "server", is: name)
    }

    /// Has the figures that are read at each scrape read from a unit from now on, and its connections counted together with
    /// those of all units of its name.
    private func show(_ upstream: Upstream) {
        upstream.showFigures()
        let name = upstream.name
        @Sendable func sum(_ registry: EndpointRegistry?, _ count: (Upstream) -> Int) -> Double? {
            registry.map { Double($0.everyUpstream.filter { $0.name == name }.reduce(0) { $0 + count($1) }) }
        }
        let metrics = self.surroundings.metrics
        metrics.callback(.upstreamConnections, [name, "idle"]) { [weak self] in
            sum(self) { $0.metrics.idleConnections.value }
        }
        metrics.callback(.upstreamConnections, [name, "active"]) { [weak self] in
            sum(self) { max($0.metrics.openConnections.value - $0.metrics.idleConnections.value, 0) }
        }
    }
}
