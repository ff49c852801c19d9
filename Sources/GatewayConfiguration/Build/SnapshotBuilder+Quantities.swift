// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// What a duration of 0 means (contract §2).
enum ZeroRule {
    /// The default of the key.
    case fallback
    /// The thing is switched off; read as `.zero`.
    case off
    case refused
}

extension SnapshotBuilder {
    /// Reads a duration; nil if there is none, it is no duration, or it stands for the default.
    mutating func duration(_ node: Node?, zero: ZeroRule) -> Duration? {
        guard let node, let nanoseconds = self.nanoseconds(node) else { return nil }
        guard nanoseconds >= 0 else {
            self.findings.add(.invalidDuration, at: node, "found a negative duration")
            return nil
        }
        if nanoseconds == 0 {
            switch zero {
            case .fallback: return nil
            case .off: return .zero
            case .refused:
                self.findings.add(.invalidDuration, at: node, "found 0; accepted is a duration of 1ms or more")
                return nil
            }
        }
        guard nanoseconds >= 1_000_000 else {
            self.findings.add(.invalidDuration, at: node, "found less than a millisecond; accepted is 1ms or more")
            return nil
        }
        guard nanoseconds <= DurationText.longest, let exact = Int64(exactly: nanoseconds) else {
            self.findings.add(.outOfRange, at: node, "found more than a year (8760h)")
            return nil
        }
        return .nanoseconds(exact)
    }

    /// The time for one upstream request.
    ///
    /// Clients write whole seconds (Cline), or whole milliseconds (Gemini CLI): what would be more than an hour is not seconds, and
    /// nobody means less than 4 seconds.
    mutating func timeout(_ node: Node?) -> Duration? {
        guard self.isClientFile, let node, let text = node.number, let number = Int64(text), number > 0 else {
            return self.duration(node, zero: .fallback)
        }
        var plain = node
        plain.value = .string(number <= 3_600 ? "\(number)s" : "\(number)ms")
        return self.duration(plain, zero: .fallback)
    }

    private mutating func nanoseconds(_ node: Node) -> Int128? {
        if let text = node.string {
            if let nanoseconds = DurationText.nanoseconds(text) { return nanoseconds }
            let isNumber = !text.isEmpty && text.utf8.count < 10 && text.utf8.allSatisfy(JSONCReader.isDigit)
            self.findings.add(
                .invalidDuration,
                at: node,
                "accepted is a duration such as \"30s\", \"250ms\" or \"1h30m\" (units ns, us, ms, s, m, h), or whole milliseconds",
                suggestion: isNumber ? "\"\(text)s\"" : nil
            )
            return nil
        }
        guard let text = node.number else { return nil }
        guard let number = Int64(text) else {
            self.findings.add(
                .invalidDuration,
                at: node,
                "accepted are whole milliseconds, or a duration such as \"30s\""
            )
            return nil
        }
        if number >= DurationText.firstNanoseconds {
            let duration = DurationText.describe(.nanoseconds(number))
            self.findings.add(
                .durationUnit,
                at: node,
                "a number this large is read as nanoseconds, as the Go program did",
                suggestion: "\"\(duration)\""
            )
            return Int128(number)
        }
        if number > 0, number < 1_000 {
            self.findings.add(
                .durationUnit,
                at: node,
                "this is read as \(number) milliseconds",
                suggestion: "\"\(number)s\""
            )
        }
        return Int128(number) * 1_000_000
    }

    /// `mcpProxy.limits`.
    mutating func limits(_ node: Node?) -> Limits {
        var limits = Limits()
        guard let node else { return limits }
        for (key, field) in Limits.sizeFields {
            if let value = self.size(node[key], table: KeyTable.limits[key]) { limits[keyPath: field] = value }
        }
        for (key, field) in Limits.countFields {
            if let value = node[key]?.number.flatMap({ Int($0) }) { limits[keyPath: field] = value }
        }
        for (key, field) in Limits.durationFields {
            if let value = self.duration(node[key], zero: .refused) { limits[keyPath: field] = value }
        }
        if let value = node["connectionsPerAddress"]?.number.flatMap({ Int($0) }), value > 0 {
            limits.connectionsPerAddress = value
        }
        return limits
    }

    private mutating func size(_ node: Node?, table key: KeyTable.Key?) -> Int? {
        guard let node, let key, case .size(let range) = key.shape else { return nil }
        guard let bytes = node.string.map(SizeText.bytes) ?? node.number.map({ Int($0) }) ?? nil else {
            self.findings.add(
                .invalidSize,
                at: node,
                "accepted are whole bytes, or a whole number of B, KiB, MiB or GiB such as \"4MiB\"",
                suggestion: node.string.flatMap(SizeText.suggestion)
            )
            return nil
        }
        guard range.contains(bytes) else {
            self.findings.add(
                .outOfRange,
                at: node,
                "found \(bytes) bytes, accepted are \(SizeText.describe(range.lowerBound)) to"
                    + " \(SizeText.describe(range.upperBound))"
            )
            return nil
        }
        return bytes
    }
}
