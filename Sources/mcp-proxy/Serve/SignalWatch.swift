// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import UnixSignals

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// What signals do that end the process: the first in order, the second at once (contract §1).
struct SignalWatch: Sendable {
    private let signals: UnixSignalsSequence

    /// From here on signals wait to be looked at.
    init() async {
        self.signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
    }

    func run(stop: @Sendable () async -> Void) async {
        var isStopping = false
        for await _ in self.signals {
            // Nothing is waited for any more, not even the log.
            if isStopping { _exit(1) }
            isStopping = true
            await stop()
        }
    }
}
