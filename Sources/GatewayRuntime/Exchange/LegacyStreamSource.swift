// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Hears of the stream of a caller of the 2024-11-05 transport: with it the session ends.
final class LegacyStreamSource: StreamSource {
    private let session: CallerSession
    private let onEnd: () -> Void

    init(_ session: CallerSession, onEnd: @escaping () -> Void) {
        self.session = session
        self.onEnd = onEnd
    }

    func streamBecameWritable() { self.session.messages?.taken() }

    func streamExpired() {
        self.session.messages?.taken()
        self.onEnd()
    }
}
