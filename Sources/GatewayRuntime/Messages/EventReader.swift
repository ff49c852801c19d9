// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayBytes
import GatewayObservability
import GatewayWire
import NIOCore

/// Reads the events of an upstream's stream as its bytes come, and holds no more than one event that is not complete.
struct EventReader: ~Copyable {
    /// What is next in the stream.
    enum Next {
        /// An event, in the bytes that it refers to.
        case event(SSEEvent, in: ByteBuffer)
        /// More bytes have to come first.
        case needsMore
        /// An event is larger than the bound: the stream is given up.
        case tooLarge
    }

    /// What a socket gives at once, beside an event that is as large as it may be.
    private static let readBurst = 1024 * 1024

    private var decoder: SSEDecoder
    private var bytes: UnconsumedBytes
    private var held: HeldBytes
    /// Told, on any thread, that there is no room for what is held; nil: it cannot let go.
    private let letGo: (@Sendable () -> Void)?
    private var isOverflowing = false

    init(eventBytes: Int, in ledger: BufferLedger, letGo: (@Sendable () -> Void)? = nil) {
        self.decoder = SSEDecoder(maximumEventBytes: eventBytes)
        self.bytes = UnconsumedBytes(limit: eventBytes + Self.readBurst)
        self.held = HeldBytes(in: ledger)
        self.letGo = letGo
    }

    /// Adds what arrived; after it `next` is called until there is nothing complete.
    mutating func append(_ arrived: ByteBuffer) {
        if !self.bytes.append(arrived) { self.isOverflowing = true }
    }

    mutating func next() -> Next {
        while !self.isOverflowing {
            let bytes = self.bytes.bytes
            switch self.decoder.next(in: bytes.readableBytesUInt8Span) {
            case .comment(let length), .ignored(let length):
                self.bytes.consume(length)
            case .event(let event):
                self.bytes.consume(event.length)
                return .event(event, in: bytes)
            case .needsMore:
                self.bytes.settle()
                self.held.set(self.bytes.count) { self.letGo }
                return .needsMore
            case .tooLong:
                return .tooLarge
            }
        }
        return .tooLarge
    }

    /// Makes it ready for another stream, whose events may be so large; nil: as large as before.
    mutating func reset(eventBytes: Int? = nil) {
        let eventBytes = eventBytes ?? self.decoder.maximumEventBytes
        self.decoder = SSEDecoder(maximumEventBytes: eventBytes)
        self.bytes = UnconsumedBytes(limit: eventBytes + Self.readBurst)
        self.held.clear()
        self.isOverflowing = false
    }
}
