// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Logging

/// What is said of one message of a caller when it is done.
///
/// Nothing in it was chosen by the caller but whether it is there: the method is from the closed list, names of tools,
/// resources and callers are left out, and the session is a digest.
package struct AccessEntry: Sendable {
    /// The key in `mcpServers`.
    package var server: String
    /// The JSON-RPC method from the closed list of the metrics.
    package var method: String
    /// What became of it, from the closed list of the metrics.
    package var outcome: String
    /// The HTTP status that the caller got.
    package var status: Int
    /// From the head of the request to the end of the answer.
    package var duration: Duration
    /// Bytes of the body that the caller sent and of the one that it got.
    package var bytesIn: Int
    package var bytesOut: Int
    /// The caller's session, if it has one.
    package var session: SessionDigest?
    /// Our number of the request, also in every other line about it.
    package var request: UInt64
    /// How often it was sent to the upstream.
    package var attempts: Int
    /// The slot of the credential that served it; nil at an upstream without a pool.
    package var slot: Int?

    package init(
        server: String,
        method: String,
        outcome: String,
        status: Int,
        duration: Duration,
        bytesIn: Int,
        bytesOut: Int,
        session: SessionDigest?,
        request: UInt64,
        attempts: Int,
        slot: Int? = nil
    ) {
        self.server = server
        self.method = method
        self.outcome = outcome
        self.status = status
        self.duration = duration
        self.bytesIn = bytesIn
        self.bytesOut = bytesOut
        self.session = session
        self.request = request
        self.attempts = attempts
        self.slot = slot
    }
}

/// Writes one line for each message of a caller, at level `info`, for the servers with `logEnabled`.
package struct AccessLog: Sendable {
    private let output: LogOutput

    package init(_ output: LogOutput) {
        self.output = output
    }

    /// Whether access lines are written at all: not if only graver lines are.
    package var isEnabled: Bool { self.output.level <= .info }

    package func record(_ entry: AccessEntry) {
        guard self.isEnabled else { return }
        self.output.write(.info, "access") { line in
            line.field("server", entry.server)
            line.field("method", entry.method)
            line.field("outcome", entry.outcome)
            line.field("status", entry.status)
            line.field("ms", milliseconds: entry.duration)
            line.field("bytes_in", entry.bytesIn)
            line.field("bytes_out", entry.bytesOut)
            if let session = entry.session { line.field("session", session.description) }
            line.field("request", Int(clamping: entry.request))
            line.field("attempts", entry.attempts)
            if let slot = entry.slot { line.field("slot", slot) }
        }
    }
}

/// A name for a session in the log: eight hexadecimal digits that tell nothing of its id.
///
/// The digest is keyed by a random key of this process: the same session has the same name in all lines of one run.
package struct SessionDigest: Hashable, Sendable, CustomStringConvertible {
    private let value: UInt32

    package init(_ sessionID: String) {
        var hasher = Hasher()
        hasher.combine(sessionID)
        self.value = UInt32(truncatingIfNeeded: hasher.finalize())
    }

    package var description: String {
        let digits = String(self.value, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}
