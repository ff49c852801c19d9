// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The keys of one object so far, to notice one that comes twice (faults S6.3).
///
/// The first eight are kept in place and compared; more go into a table, so that a hostile object costs linear time.
/// Keys are compared decoded.
struct MemberNames {
    private var first = InlineArray<8, JSONString>(repeating: JSONString(content: 0..<0, isEscaped: false))
    private var count = 0
    /// By hash; a key whose hash is taken by another key goes to the next free one.
    private var others: [Int: JSONString] = [:]

    /// Adds a key; false if it was there.
    mutating func insert(_ name: JSONString, in bytes: Span<UInt8>) -> Bool {
        for index in 0..<self.count where self.first[index].equals(name, in: bytes, own: bytes) { return false }
        if self.count < self.first.count {
            self.first[self.count] = name
            self.count += 1
            return true
        }
        var slot = Self.hash(name, in: bytes)
        while let other = self.others[slot] {
            if other.equals(name, in: bytes, own: bytes) { return false }
            slot &+= 1
        }
        self.others[slot] = name
        return true
    }

    /// Seeded per process, so that a peer cannot choose keys that collide.
    private static func hash(_ name: JSONString, in bytes: Span<UInt8>) -> Int {
        var hasher = Hasher()
        if name.isEscaped {
            name.decodedBytes(in: bytes).withUnsafeBytes { hasher.combine(bytes: $0) }
        } else {
            bytes.extracting(name.content).withUnsafeBytes { hasher.combine(bytes: $0) }
        }
        return hasher.finalize()
    }
}
