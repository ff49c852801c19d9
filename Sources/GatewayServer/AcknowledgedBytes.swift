// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

extension Channel {
    /// How many bytes the system of the other side has acknowledged since the connection began; nil where our own system
    /// does not say (tcp(7), TCP_INFO).
    ///
    /// Asked on the channel's event loop.
    var acknowledgedBytes: UInt64? {
        #if os(Linux)
        guard let provider = self as? any SocketOptionProvider else { return nil }
        // `struct tcp_info` of linux/tcp.h as far as `tcpi_bytes_acked`, its sixteenth word; that of the C library is shorter.
        typealias Words = InlineArray<16, UInt64>
        let info: EventLoopFuture<Words> = provider.unsafeGetSocketOption(level: .tcp, name: .tcp_info)
        var acknowledged: UInt64?
        // On the event loop the answer is there already.
        info.assumeIsolated().whenSuccess { acknowledged = $0[15] }
        return acknowledged
        #else
        return nil
        #endif
    }
}
