// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Counts one connection to an upstream as wanted by the gateway itself, for as long as it is and this value lives.
struct OwnConnection: ~Copyable {
    private let upstream: Upstream

    var isWanted = false {
        didSet {
            guard self.isWanted != oldValue else { return }
            self.upstream.countOwnConnection(self.isWanted ? 1 : -1)
        }
    }

    init(of upstream: Upstream) {
        self.upstream = upstream
    }

    deinit { if self.isWanted { self.upstream.countOwnConnection(-1) } }
}
