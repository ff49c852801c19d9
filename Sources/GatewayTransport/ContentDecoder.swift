// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayZlib
import GatewayBytes
package import GatewayObservability
package import GatewayWire
package import NIOCore

/// Decodes the content of one answer that came as `gzip` or `deflate`, piece by piece.
///
/// Bytes that were added wait until they are asked for, so that a reader that is behind need not take more. Confined to an
/// event loop.
package final class ContentDecoder {
    package enum Step {
        /// A piece of the content.
        case content(ByteBuffer)
        /// Everything that was added is decoded.
        case needsMore
        /// It cannot be decoded, for this reason in words; nothing more comes.
        case failed(String)
    }

    /// What a decoder takes beside what waits in it: zlib's window and state.
    private static let stateBytes = 48 * 1024
    /// Pieces of content are no larger.
    private static let pieceBytes = 64 * 1024
    /// No more than this waits: a reader that stops is given a few reads of a socket more.
    private static let inputLimit = 1024 * 1024

    private enum Phase {
        /// A member of gzip, or the whole of deflate, is next.
        case start
        case inside
        /// What comes is nothing of it.
        case finished
        case failed
    }

    private let isGzip: Bool
    /// Allocated once, since zlib's state points back to it and it must not move.
    private let stream: UnsafeMutablePointer<z_stream>
    private var isSetUp = false
    private var phase = Phase.start
    private var input = UnconsumedBytes(limit: ContentDecoder.inputLimit)
    /// Whether zlib filled the last piece, and may have more without more input.
    private var mayHaveMore = false
    private var encodedCount = 0
    private var decodedCount = 0
    private var held: HeldBytes?

    /// nil if the content needs no decoding, or cannot be decoded.
    ///
    /// `ledger` counts what is held; `letGo` is called, on any thread, if there is no room for it.
    package init?(
        _ coding: ContentCoding,
        in ledger: BufferLedger?,
        letGo: @escaping @Sendable () -> Void
    ) {
        switch coding {
        case .gzip: self.isGzip = true
        case .deflate: self.isGzip = false
        case .identity, .unsupported: return nil
        }
        self.stream = .allocate(capacity: 1)
        self.stream.initialize(to: z_stream())
        self.held = ledger.map { HeldBytes(in: $0) }
        self.held?.set(Self.stateBytes) { letGo }
    }

    deinit {
        if self.isSetUp { inflateEnd(self.stream) }
        self.stream.deinitialize(count: 1)
        self.stream.deallocate()
    }

    /// Whether what was added so far is a whole content; nothing at all counts as one.
    package var isComplete: Bool {
        switch self.phase {
        case .start: self.input.isEmpty
        case .finished: true
        case .inside, .failed: false
        }
    }

    /// Adds a piece of the coding; false if too much waits already.
    package func append(_ bytes: ByteBuffer) -> Bool { self.input.append(bytes) }

    /// Decodes what there is, up to one piece of content.
    package func next() -> Step {
        while true {
            switch self.phase {
            case .failed: return .failed(self.text)
            case .finished:
                // Clients ignore what stands behind the content, and so do we.
                self.input.consume(self.input.count)
                return .needsMore
            case .start: guard self.begin() else { return .needsMore }
            case .inside: if let step = self.inflateMore() { return step }
            }
        }
    }

    private var text: String { "the answer says that it is \(self.isGzip ? "gzip" : "deflate"), and is not" }

    /// Makes ready for what is next; false if too little of it is there.
    private func begin() -> Bool {
        let bytes = self.input.bytes.readableBytesView
        guard let first = bytes.first else { return false }
        // 32 KiB of window; 16 more stands for gzip (RFC 1952), and a negative number for no head at all (RFC 1951).
        var windowBits: Int32 = 15
        if self.isGzip {
            // Another member, or something else that is appended (RFC 1952 §2.2).
            guard !self.isSetUp || first == 0x1f else {
                self.phase = .finished
                return true
            }
            windowBits += 16
        } else {
            guard let second = bytes.dropFirst().first else { return false }
            // RFC 1950 §2.2: method 8, and a check of both bytes.
            let isZlib = first & 0x0f == 8 && (Int(first) << 8 | Int(second)) % 31 == 0
            if !isZlib { windowBits = -windowBits }
        }
        let status =
            self.isSetUp
            ? inflateReset(self.stream)
            : inflateInit2_(self.stream, windowBits, zlibVersion(), Int32(MemoryLayout<z_stream>.size))
        self.isSetUp = self.isSetUp || status == Z_OK
        self.phase = status == Z_OK ? .inside : .failed
        return true
    }

    /// nil: no content came of it, and the caller goes on with what is next.
    private func inflateMore() -> Step? {
        guard !self.input.isEmpty || self.mayHaveMore else { return .needsMore }
        let waiting = self.input.count
        let size = self.mayHaveMore ? Self.pieceBytes : min(max(4 * waiting, 4096), Self.pieceBytes)
        var piece = ByteBufferAllocator().buffer(capacity: size)
        var status = Z_OK
        piece.writeWithUnsafeMutableBytes(minimumWritableBytes: 0) { output in
            self.input.bytes.withUnsafeReadableBytes { input in
                let capacity = min(output.count, Self.pieceBytes)
                self.stream.pointee.next_in = UnsafeMutablePointer(
                    mutating: input.bindMemory(to: UInt8.self).baseAddress
                )
                self.stream.pointee.avail_in = UInt32(clamping: input.count)
                self.stream.pointee.next_out = output.bindMemory(to: UInt8.self).baseAddress
                self.stream.pointee.avail_out = UInt32(clamping: capacity)
                status = inflate(self.stream, Z_NO_FLUSH)
                return capacity - Int(self.stream.pointee.avail_out)
            }
        }
        let consumed = waiting - Int(self.stream.pointee.avail_in)
        self.mayHaveMore = self.stream.pointee.avail_out == 0
        // They point into buffers of this call.
        self.stream.pointee.next_in = nil
        self.stream.pointee.next_out = nil
        self.input.consume(consumed)
        self.encodedCount += consumed
        self.decodedCount += piece.readableBytes
        switch status {
        case Z_OK, Z_BUF_ERROR: break
        case Z_STREAM_END:
            self.mayHaveMore = false
            self.phase = self.isGzip ? .start : .finished
        default: self.phase = .failed
        }
        guard DecodedSize.isAllowed(self.decodedCount, from: self.encodedCount) else {
            self.phase = .failed
            return .failed("the answer grows by more than \(DecodedSize.ratio) when it is decoded, beyond 16 MiB")
        }
        if piece.readableBytes > 0 { return .content(piece) }
        return status == Z_BUF_ERROR || self.input.isEmpty && status == Z_OK ? .needsMore : nil
    }
}
