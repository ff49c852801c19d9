// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Logging
import UnixSignals

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// What signals do: the first stops in order, the second at once, SIGHUP reloads once that is built (contract §1).
struct SignalWatch: Sendable {
    private let signals: UnixSignalsSequence
    private let logger: Logger

    /// From here on signals wait to be looked at.
    init(_ logger: Logger) async {
        self.signals = await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup)
        self.logger = logger
    }

    func run(stop: @Sendable () async -> Void) async {
        var isStopping = false
        for await signal in self.signals {
            if signal == .sighup {
                self.logger.notice("SIGHUP: reload is not built yet; restart to read the configuration again")
                continue
            }
            // Nothing is waited for any more, not even the log.
            if isStopping { _exit(1) }
            isStopping = true
            await stop()
        }
    }
}
