// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

// Every text passes here before anybody reads it. Secrets are of a type that prints as a mask, so none should get this
// far; but a peer may send one back in an error, a child may print its environment, a library may quote a URL. A peer may
// have encoded what it sends back, so each secret is looked for as it is, in base64 wherever it begins in the encoded
// bytes, and in the text with its percent and JSON escapes undone.

/// Masks secrets in whatever is printed (contract §5, faults S1.4).
///
/// A value of fewer than eight bytes is not looked for: it would be found everywhere.
package final class Redactor: Sendable {
    /// The least length of a value that is looked for, in bytes.
    package static let leastLength = 8
    /// How often escapes within escapes are undone.
    private static let escapeDepth = 3

    private let automaton: PatternAutomaton

    package init(_ secrets: some Sequence<Secret>) {
        let values = Set(secrets.map { Array($0.reveal().utf8) }.filter { $0.count >= Self.leastLength })
        self.automaton = PatternAutomaton(values.flatMap(Self.patterns))
    }

    /// The text with every secret replaced by `•••`; nil: there is none.
    ///
    /// - Parameters:
    ///   - text: bytes of any kind.
    ///   - isCut: whether the text goes on behind its end, so that an end that begins a secret is masked as well.
    /// - Returns: the whole text as it may be printed, or nil if it may be printed as it is.
    package func masked(_ text: Span<UInt8>, isCut: Bool = false) -> [UInt8]? {
        var found = self.automaton.matches(in: text, isCut: isCut)
        if Self.hasEscapeOrURL(text) {
            self.appendEscaped(in: text, within: [], isCut: isCut, to: &found)
            found.append(contentsOf: URLSecrets.ranges(in: text))
        }
        guard !found.isEmpty else { return nil }
        var output: [UInt8] = []
        output.reserveCapacity(text.count)
        var index = 0
        for range in found.merged() {
            for kept in index..<range.lowerBound { output.append(text[kept]) }
            output.append(contentsOf: Secret.mask.utf8)
            index = range.upperBound
        }
        for kept in index..<text.count { output.append(text[kept]) }
        return output
    }

    /// The text as it may be printed.
    package func redacted(_ text: String) -> String {
        self.masked(text.utf8.span).map { String(decoding: $0, as: UTF8.self) } ?? text
    }

    /// Whether there is any of the bytes without which a text has neither escapes nor parts of a URL to be masked.
    private static func hasEscapeOrURL(_ text: Span<UInt8>) -> Bool {
        for index in text.indices {
            switch text[index] {
            case UInt8(ascii: "%"), UInt8(ascii: "\\"), UInt8(ascii: ":"), UInt8(ascii: "?"), UInt8(ascii: "&"):
                return true
            default: continue
            }
        }
        return false
    }

    /// Looks into the text with its escapes undone, and again while there are escapes in what comes out.
    private func appendEscaped(
        in text: Span<UInt8>,
        within layers: [EscapeDecoding],
        isCut: Bool,
        to found: inout [Range<Int>]
    ) {
        guard layers.count < Self.escapeDepth else { return }
        for kind in EscapeDecoding.Kind.allCases {
            guard let decoding = EscapeDecoding(text, undoing: kind) else { continue }
            let layers = layers + [decoding]
            for range in self.automaton.matches(in: decoding.bytes.span, isCut: isCut) {
                found.append(layers.reversed().reduce(range) { $1.source(of: $0) })
            }
            self.appendEscaped(in: decoding.bytes.span, within: layers, isCut: isCut, to: &found)
        }
    }

    /// The forms of one value.
    private static func patterns(of value: [UInt8]) -> [[UInt8]] {
        var patterns = [value]
        if value.contains(UInt8(ascii: " ")) {
            // A form (application/x-www-form-urlencoded) writes a space as a plus.
            patterns.append(value.map { $0 == UInt8(ascii: " ") ? UInt8(ascii: "+") : $0 })
        }
        for alignment in 0..<3 {
            let core = Base64Core.encode(value, alignment: alignment)
            patterns.append(core)
            let safe = Base64Core.urlSafe(core)
            if safe != core { patterns.append(safe) }
        }
        return patterns
    }
}
