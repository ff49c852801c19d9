// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization

/// What is said of a request that the gateway refused by itself.
///
/// Nothing in it was chosen by the caller but its address: neither path, nor query, nor a header, which may hold a token.
package struct RefusedRequest: Sendable {
    /// The HTTP status that the caller got.
    package var status: Int
    /// Why, from a closed list.
    package var reason: String
    /// The same for people: a constant text of ours.
    package var detail: String
    /// The key in `mcpServers`; nil for a request that was for none.
    package var server: String?
    /// The address of the other side of the connection, without its port: behind a reverse proxy that of the proxy.
    package var address: String
    /// The port; nil where there is none.
    package var port: Int?

    package init(status: Int, reason: String, detail: String, server: String?, address: String, port: Int?) {
        self.status = status
        self.reason = reason
        self.detail = detail
        self.server = server
        self.address = address
        self.port = port
    }

    /// Address and port as in a URL.
    var peer: String {
        let host = self.address.contains(":") ? "[\(self.address)]" : self.address
        return self.port.map { "\(host):\($0)" } ?? host
    }
}

/// Writes a line for refused requests, so that whoever sets up a client sees why it is not let in (contract U17).
///
/// Callers choose how often they are refused, so lines are held back: of one address, server and reason one comes in ten
/// seconds, with the number of those before it, and of all together ``capacity``.
package final class RefusalLog: Sendable {
    private struct Key: Hashable, Sendable {
        let address: String
        let server: String?
        let reason: String
        let status: Int
    }

    /// Lines in ten seconds, whoever asks.
    package static let capacity = 256

    private let output: LogOutput
    private let throttle = Mutex(LogThrottle<Key>(capacity: RefusalLog.capacity))

    package init(_ output: LogOutput) {
        self.output = output
    }

    /// Says that a request was refused: at `info` where calls are logged as well (`isProminent`), else at `debug`.
    ///
    /// `refusal` is asked for only if such lines are written. `now` is on one monotonic clock, from any origin.
    package func record(isProminent: Bool, now: Duration, _ refusal: @autoclosure () -> RefusedRequest) {
        let level = isProminent ? Logger.Level.info : .debug
        guard self.output.level <= level else { return }
        let refusal = refusal()
        let key = Key(
            address: refusal.address,
            server: refusal.server,
            reason: refusal.reason,
            status: refusal.status
        )
        guard case .log(let suppressed) = self.throttle.withLock({ $0.decide(key, now: now) }) else { return }
        self.output.write(level, "request refused") { line in
            line.field("status", refusal.status)
            line.field("reason", refusal.reason)
            line.field("detail", refusal.detail)
            if let server = refusal.server { line.field("server", server) }
            line.field("peer", refusal.peer)
            if suppressed > 0 { line.field("suppressed", suppressed) }
        }
    }
}
