// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension ListenerConfiguration {
    /// What of another configuration can be had without another listener: all but ``SnapshotComparison/restartKeys``.
    package func tuned(by next: ListenerConfiguration) -> ListenerConfiguration {
        var tuned = next
        (tuned.address, tuned.baseOrigin, tuned.basePath) = (self.address, self.baseOrigin, self.basePath)
        tuned.limits.connections = self.limits.connections
        return tuned
    }
}
