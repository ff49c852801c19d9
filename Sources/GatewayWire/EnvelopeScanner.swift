// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Finds the envelope of a JSON-RPC message in its bytes (JSON-RPC 2.0; faults S6.3).
///
/// All of the text is checked: UTF-8, JSON grammar, nesting, and nothing after its end. Then the rules of a message:
/// `jsonrpc` is "2.0"; a request has a valid id; `params` is an object, or null, which counts as absent; a message is
/// either a call or a response, and a response has either `result` or `error`. In the message, in `params` and in
/// `params._meta` no key comes twice, and no key is written with escapes (a key such as `"\u006dethod"` is refused, not
/// decoded, so that no two readers can disagree about it) except `\/`, which is read as the slash that it is, since
/// PHP writes it in every key of `_meta`. Nor is a key there one that a reader which ignores case takes for a member
/// that decides, such as `Name` for `name` (EnvelopeMember+Folding.swift). Everything deeper is the business of whom the
/// message is for.
package struct EnvelopeScanner: Sendable {
    /// Who sent the message.
    package enum Source: Hashable, Sendable {
        /// A caller.
        case downstream
        /// An upstream: the same rules, except that a response may carry a null `error` beside its `result`, or a null
        /// `result` beside its `error`, as some servers do, and that keys of `params`, `_meta` and `error` may differ
        /// from ours by case.
        case upstream
    }

    /// What a text turned out to be.
    package enum Scan: Hashable, Sendable {
        case message(Envelope)
        /// An array, of which nothing is checked yet: for ``EnvelopeScanner/scanBatch(_:maximumCount:)``, or to be
        /// refused with -32600 outside 2025-03-26.
        case batch
    }

    /// One element of a batch.
    package struct BatchElement: Hashable, Sendable {
        /// The element in the bytes of the batch.
        package let range: Range<Int>
        /// The message, or why it is none (always `invalidRequest`); its ranges too are offsets into the batch.
        package let message: Result<Envelope, EnvelopeError>
    }

    package let source: Source
    /// How many objects and arrays may be open inside one another, those of the message included (`limits.jsonDepth`).
    package let maximumDepth: Int

    package init(source: Source = .downstream, maximumDepth: Int = 64) {
        self.source = source
        self.maximumDepth = maximumDepth
    }

    /// Scans a text that should be one message.
    ///
    /// - Throws: ``EnvelopeError`` for anything but a message or an array: `parse` if the text is not JSON, else
    ///   `invalidRequest` with the first rule that is broken.
    package func scan(_ bytes: Span<UInt8>) throws(EnvelopeError) -> Scan {
        var scanner = JSONScanner(depthLimit: self.maximumDepth)
        scanner.skipWhiteSpace(in: bytes)
        if scanner.peek(in: bytes) == UInt8(ascii: "[") { return .batch }
        var reader = EnvelopeReader(source: self.source)
        do {
            try reader.read(&scanner, in: bytes)
            try scanner.finish(in: bytes)
        } catch {
            throw EnvelopeError(code: .parse, offset: error.offset, reason: error.reason.rawValue, id: reader.id)
        }
        return .message(try reader.envelope(in: bytes))
    }

    /// Scans a text that is an array of messages (JSON-RPC 2.0 §6; MCP 2025-03-26).
    ///
    /// An element that is JSON but no message is an error of its own, and so is `initialize`, which must not be in a
    /// batch; the others stand.
    ///
    /// - Throws: ``EnvelopeError`` with `parse` if the text as a whole is not JSON, `invalidRequest` if it is no array,
    ///   if it is empty or if it has more than `maximumCount` elements.
    package func scanBatch(_ bytes: Span<UInt8>, maximumCount: Int) throws(EnvelopeError) -> [BatchElement] {
        var scanner = JSONScanner(depthLimit: self.maximumDepth)
        scanner.skipWhiteSpace(in: bytes)
        let start = scanner.index
        guard scanner.peek(in: bytes) == UInt8(ascii: "[") else {
            throw EnvelopeError(code: .invalidRequest, offset: start, reason: "not a batch")
        }
        var elements: [BatchElement] = []
        var hasElement: Bool
        do {
            hasElement = try scanner.beginArray(in: bytes)
            while hasElement, elements.count < maximumCount {
                elements.append(try self.element(&scanner, in: bytes))
                hasElement = try scanner.nextElement(in: bytes)
            }
            if !hasElement { try scanner.finish(in: bytes) }
        } catch {
            throw EnvelopeError(code: .parse, offset: error.offset, reason: error.reason.rawValue)
        }
        guard !hasElement else {
            throw EnvelopeError(code: .invalidRequest, offset: scanner.index, reason: "too many messages in a batch")
        }
        guard !elements.isEmpty else {
            throw EnvelopeError(code: .invalidRequest, offset: start, reason: "an empty batch")
        }
        return elements
    }

    private func element(_ scanner: inout JSONScanner, in bytes: Span<UInt8>) throws(JSONError) -> BatchElement {
        let start = scanner.index
        var reader = EnvelopeReader(source: self.source)
        try reader.read(&scanner, in: bytes)
        let range = start..<scanner.index
        do throws(EnvelopeError) {
            let envelope = try reader.envelope(in: bytes)
            guard envelope.method != .initialize else {
                let reason = "initialize in a batch"
                throw EnvelopeError(code: .invalidRequest, offset: start, reason: reason, id: envelope.id)
            }
            return BatchElement(range: range, message: .success(envelope))
        } catch {
            return BatchElement(range: range, message: .failure(error))
        }
    }
}
