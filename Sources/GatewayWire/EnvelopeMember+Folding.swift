// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// The gateway finds members by their exact keys; many servers do not. Go's encoding/json takes `Name` and `NAME` for
// `name`, and of two such keys the last one counts. A caller that writes `{"name":"allowed","Name":"blocked"}` would have
// the gateway judge one tool and the server run another. So a caller's key that some reader may take for a member that
// the gateway acts on, and that is not exactly that member, is refused with the message.
//
// Of an upstream only the keys of the message itself are held to that: there the id, the method and the result decide
// whose message it is, no honest server writes `Id` beside `id`, and a client that folds would read another message than
// the gateway did. Its params, `_meta` and errors are its own affair: servers name the members of their own notifications
// as they like, and nothing that a caller may not have depends on them.

extension EnvelopeMember {
    /// Whether a key of the message that is no member may be taken for one.
    @inline(never)
    static func isLikeOne(message key: JSONString, in bytes: Span<UInt8>) -> Bool {
        key.folds(to: "id", in: bytes) || key.folds(to: "method", in: bytes) || key.folds(to: "params", in: bytes)
            || key.folds(to: "result", in: bytes) || key.folds(to: "error", in: bytes)
            || key.folds(to: "jsonrpc", in: bytes)
    }

    /// Whether a key of `params` that is no member may be taken for one, or for one of those that the runtime reads
    /// there: `level`, `capabilities` and `cursor`.
    @inline(never)
    static func isLikeOne(params key: JSONString, in bytes: Span<UInt8>) -> Bool {
        key.folds(to: "name", in: bytes) || key.folds(to: "_meta", in: bytes) || key.folds(to: "uri", in: bytes)
            || key.folds(to: "taskId", in: bytes) || key.folds(to: "requestId", in: bytes)
            || key.folds(to: "requestState", in: bytes) || key.folds(to: "protocolVersion", in: bytes)
            || key.folds(to: "progressToken", in: bytes) || key.folds(to: "level", in: bytes)
            || key.folds(to: "capabilities", in: bytes) || key.folds(to: "cursor", in: bytes)
    }

    /// Whether a key of `params._meta` that is no member may be taken for one.
    @inline(never)
    static func isLikeOne(meta key: JSONString, in bytes: Span<UInt8>) -> Bool {
        key.folds(to: "progressToken", in: bytes)
            || key.folds(to: "io.modelcontextprotocol/protocolVersion", in: bytes)
            || key.folds(to: "io.modelcontextprotocol/clientCapabilities", in: bytes)
            || key.folds(to: "io.modelcontextprotocol/subscriptionId", in: bytes)
    }
}

extension JSONString {
    /// Whether the decoded string is not `plain`, which is ASCII, but the same to a reader that ignores case; allocates
    /// nothing.
    ///
    /// ASCII letters are compared without case. Beyond ASCII, Unicode's simple case folding leads U+017F (ſ) to s and
    /// U+212A (the Kelvin sign) to k, as Go's encoding/json does; Java and JavaScript also lead U+0131 (ı) and U+0130
    /// (İ) to i when they compare in upper or in lower case.
    @inline(__always)
    func folds(to plain: StaticString, in bytes: Span<UInt8>) -> Bool {
        self.mayFold(to: plain, in: bytes) && self.isFolded(plain, in: bytes)
    }

    /// A look at the length and the first letter, which tells nearly every key from `plain`.
    @inline(__always)
    private func mayFold(to plain: StaticString, in bytes: Span<UInt8>) -> Bool {
        guard !self.isEscaped else { return true }
        // A letter takes three bytes at most.
        let (length, count) = (self.content.count, plain.utf8CodeUnitCount)
        guard length >= count, length <= 3 * count else { return false }
        let first = bytes[self.content.lowerBound]
        return first >= 0x80 || Self.lowercased(first) == Self.lowercased(plain.utf8Start.pointee)
    }

    @inline(never)
    private func isFolded(_ plain: StaticString, in bytes: Span<UInt8>) -> Bool {
        let count = plain.utf8CodeUnitCount
        var reader = JSONStringReader(self)
        var index = 0
        var isExact = true
        while let byte = reader.next(in: bytes) {
            // The pointer of a static string is valid for the life of the process and `index` is below its count.
            guard index < count else { return false }
            let wanted = plain.utf8Start[index]
            if byte != wanted {
                isExact = false
                guard Self.folded(byte, &reader, in: bytes) == Self.lowercased(wanted) else { return false }
            }
            index += 1
        }
        return index == count && !isExact
    }

    /// The letter that the scalar which begins with `byte` folds to, in lower case; 0xff if it folds to no ASCII.
    @inline(__always)
    private static func folded(_ byte: UInt8, _ reader: inout JSONStringReader, in bytes: Span<UInt8>) -> UInt8 {
        switch byte {
        case ..<0x80:
            return self.lowercased(byte)
        case 0xc5:
            return reader.next(in: bytes) == 0xbf ? UInt8(ascii: "s") : 0xff
        case 0xc4:
            let second = reader.next(in: bytes)
            return second == 0xb0 || second == 0xb1 ? UInt8(ascii: "i") : 0xff
        case 0xe2:
            return reader.next(in: bytes) == 0x84 && reader.next(in: bytes) == 0xaa ? UInt8(ascii: "k") : 0xff
        default:
            return 0xff
        }
    }

    @inline(__always)
    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}
