// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

/// How callers come to an upstream over a stream of messages, which those of the handshake era share.
struct SharedLinkEntrance: Entrance {
    let upstream: Upstream
    let links: SharedLinks

    /// What opens the link asks.
    var asksBeforeStateless: Bool { false }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.startAlone(call, self.links.settings, responder)
    }

    func initialize(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.withLink(call, responder) { self.join($2, $0, calls, $1) }
    }

    /// The caller is one more in the link from now on.
    private func join(
        _ link: LinkHandle,
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        guard let exchange = calls.waiting(call, responder) else { return nil }
        let bound = exchange.bound
        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
        let session = call.session ?? calls.makeSession(for: call)
        let settings = self.links.settings
        link.execute { link in
            guard let initialized = link.initializeResult else {
                let gone = link.settings.gone
                return bound.execute { $0.fail(gone) }
            }
            let number = link.join(session, capabilities: capabilities)
            let handle = link.handle
            bound.execute { exchange in
                let isThere = exchange.become { call, responder in
                    calls.establish(call, initialized, responder, session) { _ in
                        LinkLeg(handle, settings, caller: number, isShared: true)
                    }
                    return nil
                }
                if !isThere { handle.execute { $0.leave(number) } }
            }
        }
        return exchange
    }

    func sharedPlace() async -> (any SharedPlace)? {
        let link: LinkHandle? = await withCheckedContinuation { continuation in
            self.upstream.home.eventLoop.execute {
                self.links.links.link(of: .handshake) { continuation.resume(returning: (try? $0.get())?.handle) }
            }
        }
        return link.map { SharedLinkPlace(upstream: self.upstream, settings: self.links.settings, link: $0) }
    }
}

private struct SharedLinkPlace: SharedPlace {
    let upstream: Upstream
    let settings: LinkSettings
    let link: LinkHandle

    func take(_ session: CallerSession, from former: Upstream, _ leg: any Leg) async -> Bool {
        let standing = await leg.standing
        let number = await self.link.asked { link in
            link.bridge.follows(standing.lastNumber)
            return link.join(session, capabilities: standing.capabilities)
        }
        let own = LinkLeg(self.link, self.settings, caller: number, isShared: true)
        guard session.move(from: former, to: CallerSession.Station(upstream: self.upstream, leg: own)) else {
            self.link.execute { $0.leave(number) }
            return false
        }
        let wishes = await leg.moved()
        self.link.execute { $0.came(number, with: wishes) }
        return true
    }

    func ask(for list: ServerList) async -> ByteBuffer? {
        await withCheckedContinuation { continuation in
            self.link.execute { link in
                // swift-format-ignore: OnlyOneTrailingClosureArgument
                link.send(own: { ClientMessage.list(list, id: $0) }, timeout: Self.listTime) {
                    continuation.resume(returning: $0)
                }
            }
        }
    }
}

/// How callers come to an upstream of which each caller of the handshake era has a child or a stream of its own.
struct OwnLinkEntrance: Entrance {
    let upstream: Upstream
    let links: SharedLinks

    /// What opens the link asks.
    var asksBeforeStateless: Bool { false }

    func start(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        calls.startAlone(call, self.links.settings, responder)
    }

    /// The link is opened with the caller's own `initialize`.
    func initialize(
        _ call: Call,
        _ calls: Calls,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        let upstream = self.upstream
        let settings = self.links.settings
        let isChild = settings.kind.countsAsChild
        if isChild, !calls.takeChild(of: upstream, for: call.principal, on: responder.loop) {
            defer { if let session = call.session { calls.sessions.end(session) } }
            calls.refuse(.tooManyChildren, call.message, upstream, responder)
            return nil
        }
        let owner = LinkOwner(fields: String(decoding: call.principal.forwarded, as: UTF8.self))
        let link = UpstreamLink(
            upstream,
            settings: settings,
            scope: .handshake,
            owner: owner,
            on: responder.loop
        )
        if isChild { link.onClosed = { upstream.releaseChild() } }
        let session = call.session ?? calls.makeSession(for: call)
        let capabilities = AnswerReader.capabilities(of: call.message.envelope, in: call.message.body)
        let number = link.join(session, capabilities: capabilities)
        let handle = link.handle
        let loop = responder.loop
        let exchange = calls.start(call, handle, settings, caller: number, isShared: false, responder) {
            [weak link] message, envelope in
            guard let link else { return .refused(message) }
            guard envelope.kind == .result else {
                // It may be asked again in another way, by a new `initialize`.
                return .refused(message)
            }
            let version = AnswerReader.protocolVersion(of: envelope, in: message)
            let isBound = session.bind(
                LinkLeg(handle, settings, caller: number, isShared: false),
                revision: version.flatMap(ProtocolRevision.init(rawValue:))
            )
            guard isBound, session.isLegacy || calls.sessions.open(session, on: loop) else {
                // It holds the link, which holds it.
                if !session.isLegacy { _ = session.close() }
                return .refused(ByteBuffer(bytes: ErrorAnswer.tooManySessions(id: call.message.idBytes)))
            }
            link.established(with: call.message.body)
            return .established(message, session)
        }
        // Refused before anything was sent: nobody else would give the child's place back.
        if exchange == nil { link.close() }
        return exchange
    }

    func sharedPlace() async -> (any SharedPlace)? { nil }
}

extension GatewayError {
    fileprivate static let tooManyChildren = GatewayError(
        .overloaded,
        executed: .no,
        "this server runs as many children as limits.childrenPerServer allows; try again later",
        cause: "children"
    )
}

extension Calls {
    /// Begins a request of the stateless era, which stands alone, over the link of that era.
    fileprivate func startAlone(
        _ call: Call,
        _ settings: LinkSettings,
        _ responder: any DownstreamResponder
    ) -> (any DownstreamExchange)? {
        self.withLink(call, responder) { call, responder, handle in
            if let rejection = call.upstream.parameters.rejection(of: call.message, call.request) {
                let message = call.message
                return self.refuse(
                    rejection,
                    message.envelope,
                    call.request,
                    message.body,
                    call.upstream,
                    responder
                )
            }
            return self.start(call, handle, settings, caller: nil, isShared: true, responder)
        }
    }

    /// Takes one of the children that an upstream may have; at the limit the longest idle session of who has more than its
    /// share of them makes room, else of the same owner (contract §6).
    fileprivate func takeChild(of upstream: Upstream, for principal: Principal, on loop: LoopResources) -> Bool {
        if upstream.takeChild(limit: loop.limits.childrenPerServer) { return true }
        guard let idle = self.sessions.makeRoom(for: principal, at: upstream) else { return false }
        self.sessions.close(idle, on: loop)
        return upstream.takeChild(limit: .max)
    }
}
