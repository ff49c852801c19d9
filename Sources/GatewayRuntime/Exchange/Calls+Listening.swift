// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import NIOCore

extension Calls {
    /// What fills a stream from one that the upstream has for this caller alone; nil where what comes unasked comes another
    /// way.
    func makeListening(
        _ request: InboundRequest,
        _ station: CallerSession.Station,
        _ session: CallerSession,
        on loop: LoopResources
    ) -> ListenExchange? {
        guard let leg = station.leg, let own = leg.ownStream else { return nil }
        return ListenExchange(
            own,
            calls: self,
            upstream: station.upstream,
            request: request,
            session: session,
            leg: leg,
            loop: loop
        )
    }

    /// A caller of the old transport has one stream for everything: what its upstream sends unasked goes there too.
    func listen(for session: CallerSession, _ request: InboundRequest, on loop: LoopResources) {
        guard let listening = self.makeListening(request, session.station, session, on: loop) else { return }
        let bound = NIOLoopBound(listening, eventLoop: loop.eventLoop)
        session.onClose { bound.execute { $0.end() } }
        listening.start(for: nil)
    }
}
