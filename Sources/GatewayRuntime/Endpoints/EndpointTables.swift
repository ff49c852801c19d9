// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// The table of endpoints that the requests of each event loop go by.
///
/// Unchecked because nothing is locked: which places there are never changes, and each is touched on its own event loop only.
final class EndpointTables: @unchecked Sendable {
    private final class Place {
        // Unchecked: it is set between the events of the loop, when nobody reads it (decision 0014).
        @exclusivity(unchecked) var endpoints: Endpoints?
    }

    /// By the number of the event loop.
    private let places: [Place]

    init(_ loops: [LoopResources]) {
        self.places = loops.map { _ in Place() }
    }

    /// That of an event loop, asked for there; nil before it has one.
    subscript(loop: LoopResources) -> Endpoints? {
        self.places.indices.contains(loop.number) ? self.places[loop.number].endpoints : nil
    }

    /// An event loop goes by a table from now on, and by the limits of its listener; called there.
    func lead(_ loop: LoopResources, by endpoints: Endpoints) {
        self.places[loop.number].endpoints = endpoints
        loop.goBy(endpoints.listener.limits)
    }
}
