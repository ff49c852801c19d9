// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// A caller's `initialize` that is kept, to open its session again or with another credential.
enum KeptInitialize {
    /// One above this is not kept.
    private static let limit = 64 * 1024

    /// A copy, so that it does not keep what was read with it; nil if it is too long.
    static func copy(of message: ByteBuffer) -> ByteBuffer? {
        message.readableBytes <= Self.limit ? ByteBuffer(bytes: message.readableBytesView) : nil
    }
}
