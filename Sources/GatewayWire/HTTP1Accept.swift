// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Which of the two media types of the transports an `Accept` field admits (RFC 9110 §12.5.1).
///
/// The most specific range that matches decides; `q=0` excludes; other parameters are ignored, and so is a range that is
/// malformed. A field without any range admits both, as an absent field would: absence itself is the caller's affair.
package struct HTTP1Accept: Sendable {
    /// 3 for the type itself, 2 for `type/*`, 1 for `*/*`, 0 for no match; and whether a range of it had a weight.
    private struct Match: Sendable {
        var specificity = 0
        var isAdmitted = false

        mutating func take(_ specificity: Int, isAdmitted: Bool) {
            guard specificity >= self.specificity else { return }
            self.isAdmitted = isAdmitted || (specificity == self.specificity && self.isAdmitted)
            self.specificity = specificity
        }
    }

    private var json = Match()
    private var eventStream = Match()
    private var isEmpty = true

    package init() {}

    /// Reads one value.
    package init(_ value: Span<UInt8>) {
        self.read(value)
    }

    /// Whether `application/json` is admitted.
    package var admitsJSON: Bool { self.isEmpty || self.json.isAdmitted }

    /// Whether `text/event-stream` is admitted.
    package var admitsEventStream: Bool { self.isEmpty || self.eventStream.isAdmitted }

    /// Adds the ranges of one more `Accept` line: several are one list (RFC 9110 §5.3).
    package mutating func read(_ value: Span<UInt8>) {
        var start = 0
        var index = 0
        var isQuoted = false
        while index < value.count {
            switch value[index] {
            case UInt8(ascii: "\""): isQuoted.toggle()
            case UInt8(ascii: "\\") where isQuoted: index &+= 1
            case UInt8(ascii: ",") where !isQuoted:
                self.readRange(value.extracting(HTTP1Bytes.trimmed(start..<index, value)))
                start = index &+ 1
            default: break
            }
            index &+= 1
        }
        self.readRange(value.extracting(HTTP1Bytes.trimmed(min(start, value.count)..<value.count, value)))
    }

    private mutating func readRange(_ range: Span<UInt8>) {
        guard !range.isEmpty else { return }
        self.isEmpty = false
        var end = 0
        while end < range.count, range[end] != UInt8(ascii: ";") { end &+= 1 }
        let type = range.extracting(HTTP1Bytes.trimmed(0..<end, range))
        let isAdmitted = !Self.hasZeroWeight(range.extracting(end..<range.count))
        if HTTP1Bytes.equalsIgnoringCase(type, "*/*") {
            self.json.take(1, isAdmitted: isAdmitted)
            self.eventStream.take(1, isAdmitted: isAdmitted)
        } else if HTTP1Bytes.equalsIgnoringCase(type, "application/*") {
            self.json.take(2, isAdmitted: isAdmitted)
        } else if HTTP1Bytes.equalsIgnoringCase(type, "text/*") {
            self.eventStream.take(2, isAdmitted: isAdmitted)
        } else if HTTP1Bytes.equalsIgnoringCase(type, "application/json") {
            self.json.take(3, isAdmitted: isAdmitted)
        } else if HTTP1Bytes.equalsIgnoringCase(type, "text/event-stream") {
            self.eventStream.take(3, isAdmitted: isAdmitted)
        }
    }

    /// Whether parameters that begin with `;` have a `q` of zero.
    private static func hasZeroWeight(_ parameters: Span<UInt8>) -> Bool {
        var index = 0
        var isQuoted = false
        var start: Int?
        while index <= parameters.count {
            let isEnd = index == parameters.count || (!isQuoted && parameters[index] == UInt8(ascii: ";"))
            if isEnd, let from = start, Self.isZeroWeight(parameters.extracting(from..<index)) { return true }
            if isEnd { start = index &+ 1 }
            guard index < parameters.count else { break }
            if parameters[index] == UInt8(ascii: "\"") { isQuoted.toggle() }
            index &+= isQuoted && parameters[index] == UInt8(ascii: "\\") ? 2 : 1
        }
        return false
    }

    /// Whether one parameter is `q=0` with any number of zeros behind a point.
    private static func isZeroWeight(_ parameter: Span<UInt8>) -> Bool {
        let text = parameter.extracting(HTTP1Bytes.trimmed(0..<parameter.count, parameter))
        guard text.count >= 3, HTTP1Bytes.lowercased(text[0]) == UInt8(ascii: "q"), text[1] == UInt8(ascii: "="),
            text[2] == UInt8(ascii: "0")
        else { return false }
        if text.count > 3, text[3] != UInt8(ascii: ".") { return false }
        for index in 3..<max(3, text.count) where index > 3 && text[index] != UInt8(ascii: "0") { return false }
        return true
    }
}
