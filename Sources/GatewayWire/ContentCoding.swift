// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// In which coding the content of a message comes: what its `Content-Encoding` says (RFC 9110 §8.4.1).
package enum ContentCoding: Hashable, Sendable {
    /// As it is.
    case identity
    /// RFC 1952; also written `x-gzip`.
    case gzip
    /// RFC 1950, a zlib stream; many senders leave its head out and send what RFC 1951 calls deflate.
    case deflate
    /// One that cannot be decoded here, or more than one on top of each other; in words for people.
    case unsupported(String)

    /// Codings that are named to people; others could be anything.
    private static let known: Set<String> = [
        "aes128gcm", "br", "bzip2", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "lz4", "lzma", "pack200-gzip",
        "sdch",
        "snappy", "x-bzip2", "x-compress", "x-gzip", "xz", "zstd",
    ]

    /// Reads the values of all `Content-Encoding` fields, each a list, in any letter case; empty elements and `identity`
    /// say nothing.
    package init(_ values: [String]) {
        let codings = values.flatMap { $0.split(separator: ",") }
            .map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
            .filter { !$0.isEmpty && $0 != "identity" }
        switch codings.first {
        case nil: self = .identity
        case _ where codings.count > 1:
            let names = codings.prefix(4).map { Self.known.contains($0) ? $0 : "an unknown one" }
            self = .unsupported("several content codings (\(names.joined(separator: ", ")))")
        case "gzip", "x-gzip": self = .gzip
        case "deflate": self = .deflate
        case let name?:
            self = .unsupported(Self.known.contains(name) ? "the content coding \(name)" : "an unknown content coding")
        }
    }
}

/// How much larger than its coding decoded content may be: what is almost nothing on the wire must not cost much here.
package enum DecodedSize {
    /// Content up to this size may have any ratio.
    package static let free = 16 * 1024 * 1024
    /// Larger content may have so many bytes for each byte of its coding.
    package static let ratio = 1_000

    /// Whether so many bytes may come of so many.
    package static func isAllowed(_ decoded: Int, from encoded: Int) -> Bool {
        decoded <= Self.free || decoded / Self.ratio <= encoded
    }
}
