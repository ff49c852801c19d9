// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayProcess
import GatewayObservability

/// The last line of a process that crashes: that it did, and by which signal.
///
/// It goes to standard error past the queue of the log, in which lines may wait that are lost; it has no `seq`, and nothing
/// of what the process knew. The runtime's own report of the crash follows as text.
enum CrashLog {
    /// Writes it in this form from now on.
    static func start(_ format: LogFormat) {
        // Where it cannot be set up a crash is as silent as it was.
        switch format {
        case .json:
            let middle = #"","level":"critical","message":"crashed","signal":"#
            _ = gateway_log_crashes(2, #"{"ts":""#, middle, "}\n")
        case .text:
            _ = gateway_log_crashes(2, "", " critical crashed signal=", "\n")
        }
    }
}
