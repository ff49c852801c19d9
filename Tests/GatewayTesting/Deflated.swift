// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayZlib

/// Bytes in a content coding, as servers send them.
package enum Deflated {
    package enum Format: Int32, Sendable, CaseIterable {
        /// RFC 1952.
        case gzip = 31
        /// RFC 1950.
        case zlib = 15
        /// RFC 1951: deflate without the head that it should have.
        case raw = -15
    }

    /// One whole coding of `bytes`.
    package static func bytes(_ bytes: [UInt8], as format: Format = .gzip) -> [UInt8] {
        Self.pieces([bytes], as: format)[0]
    }

    /// One coding of all pieces together, of which each piece can be decoded when it has come.
    package static func pieces(_ pieces: [[UInt8]], as format: Format = .gzip) -> [[UInt8]] {
        let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
        stream.initialize(to: z_stream())
        defer {
            deflateEnd(stream)
            stream.deallocate()
        }
        let size = Int32(MemoryLayout<z_stream>.size)
        deflateInit2_(stream, 9, Z_DEFLATED, format.rawValue, 9, Z_DEFAULT_STRATEGY, zlibVersion(), size)
        return pieces.indices.map { index in
            var input = pieces[index]
            var output = [UInt8](repeating: 0, count: input.count + input.count / 10 + 1024)
            let count = input.withUnsafeMutableBufferPointer { input in
                output.withUnsafeMutableBufferPointer { output in
                    stream.pointee.next_in = input.baseAddress
                    stream.pointee.avail_in = UInt32(input.count)
                    stream.pointee.next_out = output.baseAddress
                    stream.pointee.avail_out = UInt32(output.count)
                    deflate(stream, index == pieces.count - 1 ? Z_FINISH : Z_SYNC_FLUSH)
                    return output.count - Int(stream.pointee.avail_out)
                }
            }
            return Array(output.prefix(count))
        }
    }
}
