// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the descriptors that the system allows are spent on, and how many connections of callers fit into the rest
/// (faults S10.9).
package struct DescriptorBudget: Sendable {
    /// Descriptors of the process itself: the log, the event loops, the listener, files that are read.
    private static let process = 128
    /// For each child: our ends of its three pipes, and the descriptor that tells of its end.
    private static let perChild = 4
    /// For each start of a child: the three other ends of its pipes, for a moment.
    private static let perStart = 3
    /// Children that callers may share of one program: one for each era.
    private static let sharedChildren = 2
    /// A connection of our own, to listen or to ask whether it is there, for each credential.
    private static let perCredential = 2
    /// For each caller: its own connection, and one to the server that works on its request.
    private static let perConnection = 2
    /// However little is left, so many callers are served.
    private static let leastConnections = 16

    /// What children and connections of our own may take at most.
    package let reserved: Int

    package init(_ snapshot: GatewaySnapshot) {
        var reserved = Self.process
        for upstream in snapshot.upstreams where !upstream.isDisabled {
            switch upstream.transport {
            case .http(let http):
                let credentials = max(http.credentials?.tokens.count ?? 1, 1)
                reserved = reserved.addingClamped(credentials, times: Self.perCredential)
            case .stdio:
                let own = upstream.isolation == .session ? snapshot.listener.limits.childrenPerServer : 0
                reserved = reserved.addingClamped(own, times: Self.perChild)
                reserved = reserved.addingClamped(Self.sharedChildren, times: Self.perChild)
                reserved = reserved.addingClamped(1, times: Self.perStart)
            }
        }
        self.reserved = reserved
    }

    /// How many connections of callers fit, of so many descriptors.
    ///
    /// Few children run at a time where many may: they leave half of the descriptors to the connections, whatever they
    /// may take.
    package func connections(of available: Int) -> Int {
        let rest = max(available - self.reserved, (available - Self.process) / 2)
        return max(rest / Self.perConnection, Self.leastConnections)
    }
}

extension Int {
    /// Adds a product; the configuration has numbers of any size.
    fileprivate func addingClamped(_ count: Int, times size: Int) -> Int {
        let (product, isOver) = count.multipliedReportingOverflow(by: size)
        let (sum, isSumOver) = self.addingReportingOverflow(product)
        return isOver || isSumOver ? .max : sum
    }
}
