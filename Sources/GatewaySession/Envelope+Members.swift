// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

/// Members of messages that the envelope does not name, looked up in the bytes that it was read from.
extension Envelope {
    /// `params.level` of a log message or of `logging/setLevel`, with its place; nil if it is none.
    package func severity(in bytes: Span<UInt8>) -> (value: LogSeverity, range: Range<Int>)? {
        guard let params = self.params, let level = Self.member("level", at: params.lowerBound, in: bytes),
            let name = level.string?.decoded(in: bytes), let severity = LogSeverity(rawValue: name)
        else { return nil }
        return (severity, level.range)
    }

    /// Where `result._meta["io.modelcontextprotocol/subscriptionId"]` stands, at the end of `subscriptions/listen`.
    func resultSubscriptionID(in bytes: Span<UInt8>) -> Range<Int>? {
        guard let result = self.result, let meta = Self.member("_meta", at: result.lowerBound, in: bytes) else {
            return nil
        }
        return Self.member("io.modelcontextprotocol/subscriptionId", at: meta.range.lowerBound, in: bytes)?.range
    }

    /// The value of a member of the object at `start`; nil if there is no object or no such member.
    ///
    /// The envelope was scanned before, so that the text is known to be JSON, and no deeper than it may be.
    package static func member(_ name: StaticString, at start: Int, in bytes: Span<UInt8>) -> JSONValue? {
        var scanner = JSONScanner(at: start, depthLimit: .max)
        guard scanner.peek(in: bytes) == UInt8(ascii: "{") else { return nil }
        do {
            var hasNext = try scanner.beginObject(in: bytes)
            while hasNext {
                let isWanted = try scanner.key(in: bytes).equals(name, in: bytes)
                let value = try scanner.value(in: bytes)
                if isWanted { return value }
                hasNext = try scanner.nextMember(in: bytes)
            }
        } catch {
            return nil
        }
        return nil
    }
}
