// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// The form of a log line.
package enum LogFormat: String, CaseIterable, Sendable {
    /// For people: `TIME LEVEL MESSAGE key=value …`.
    case text
    /// For programs: one JSON object a line.
    case json

    /// `auto`: text on a terminal, else JSON (contract §5).
    package static func automatic(for descriptor: Int32) -> LogFormat {
        Platform.isTerminal(descriptor) ? .text : .json
    }
}

/// Builds one log line, at most 8 KiB long (faults S10.6) and harmless whatever is put into it.
///
/// Text gets in through `append(text:)` only, which masks secrets before it escapes: what is escaped first could hide a
/// secret. What does not fit is cut at a character, ends in `…`, and the line says `truncated`; it stays a whole JSON
/// object.
package struct LogLine {
    /// Bytes of a line with its line feed.
    package static let limit = 8 * 1024
    /// `,"truncated":true}` and a line feed; what ends a cut name, `…":`; and the longest value behind it, a number.
    private static let reserve = 19 + 5 + Self.numberLength
    /// The longest number: `-1.7976931348623157e+308`.
    private static let numberLength = 24
    /// Names that a line has by itself; a field of such a name gets an underscore.
    private static let ownNames: Set<String> = ["ts", "seq", "level", "message", "truncated"]

    private let format: LogFormat
    private let redactor: Redactor
    private var bytes: [UInt8] = []
    /// What the line must not grow beyond for now: lower by one for each open bracket.
    private var room = Self.limit - Self.reserve
    private var isTruncated = false

    init(format: LogFormat, redactor: Redactor) {
        self.format = format
        self.redactor = redactor
        self.bytes.reserveCapacity(512)
    }

    /// Writes what every line begins with.
    mutating func begin(time: Int64, sequence: Int, level: String, message: String) {
        switch self.format {
        case .json:
            self.append(literal: "{\"ts\":\"")
            CivilTime(nanoseconds: time).append(to: &self.bytes)
            self.append(literal: "\",\"seq\":")
            self.append(number: String(sequence))
            self.append(literal: ",\"level\":\"")
            self.bytes.append(contentsOf: level.utf8)
            self.append(literal: "\",\"message\":")
            self.append(text: message.utf8.span, style: .json)
        case .text:
            CivilTime(nanoseconds: time).append(to: &self.bytes)
            self.append(literal: " ")
            self.bytes.append(contentsOf: level.utf8)
            self.bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: max(1, 9 - level.utf8.count)))
            self.append(text: message.utf8.span, style: .bare)
        }
    }

    /// Adds a text.
    package mutating func field(_ name: String, _ value: String) {
        self.field(name) { $0.append(value: value.utf8.span) }
    }

    /// Adds a text of a peer, of any bytes.
    package mutating func field(_ name: String, _ value: PeerText) {
        self.field(name) { $0.append(value: value.bytes.span, isCut: value.isCut) }
    }

    /// Adds a whole number.
    package mutating func field(_ name: String, _ value: Int) {
        self.field(name) { $0.append(number: String(value)) }
    }

    /// Adds milliseconds with three decimals, rounded towards zero.
    package mutating func field(_ name: String, milliseconds value: Duration) {
        let microseconds = max(0, value.wholeNanoseconds) / 1000
        let fraction = String(microseconds % 1000)
        let zeros = String(repeating: "0", count: 3 - fraction.count)
        self.field(name) { $0.append(number: "\(microseconds / 1000).\(zeros)\(fraction)") }
    }

    /// Ends the line and gives its bytes with a line feed.
    mutating func finish() -> [UInt8] {
        if self.isTruncated { self.append(literal: self.format == .json ? ",\"truncated\":true" : " truncated=true") }
        self.append(literal: self.format == .json ? "}\n" : "\n")
        return self.bytes
    }

    // MARK: - Parts of a value

    /// Adds a field whose value `write` writes; nothing if there is no room for a name and the shortest value.
    mutating func field(_ name: String, _ write: (inout LogLine) -> Void) {
        let before = self.bytes.count
        let name = Self.ownNames.contains(name) ? name + "_" : name
        switch self.format {
        case .json:
            self.append(literal: ",")
            self.append(text: name.utf8.span, style: .json)
            self.append(literal: ":")
        case .text:
            self.append(literal: " ")
            self.append(text: name.utf8.span, style: .bare)
            self.append(literal: "=")
        }
        guard self.bytes.count + Self.numberLength <= self.room else {
            self.bytes.removeLast(self.bytes.count - before)
            self.isTruncated = true
            return
        }
        write(&self)
    }

    /// Writes a text as the value of a field.
    mutating func append(value: Span<UInt8>, isCut: Bool = false) {
        let style: LogEscaping.Style =
            switch self.format {
            case .json: .json
            case .text: LogEscaping.isBare(value) ? .bare : .quoted
            }
        self.append(text: value, style: style, isCut: isCut)
    }

    /// Writes a text: masked, escaped, and cut where the room ends; `isCut`: it was cut before.
    mutating func append(text: Span<UInt8>, style: LogEscaping.Style, isCut: Bool = false) {
        if style != .bare { self.append(literal: "\"") }
        // Only the first 8 KiB are looked at: what stands behind them does not fit into a line, even if much before it is masked.
        let isCut = isCut || text.count > Self.limit
        let window = text.extracting(first: Self.limit)
        let fits: Bool
        if let masked = self.redactor.masked(window, isCut: isCut) {
            fits = LogEscaping.append(masked.span, to: &self.bytes, limit: self.room, style: style)
        } else {
            fits = LogEscaping.append(window, to: &self.bytes, limit: self.room, style: style)
        }
        if isCut || !fits {
            self.append(literal: "…")
            self.isTruncated = true
        }
        if style != .bare { self.append(literal: "\"") }
    }

    /// Writes a number, or another word of digits and letters of our own.
    mutating func append(number: String) {
        self.bytes.append(contentsOf: number.utf8)
    }

    /// Writes elements in brackets, for as long as there is room.
    mutating func append<Element>(
        _ elements: some Sequence<Element>,
        in brackets: (open: StaticString, close: StaticString),
        _ write: (inout LogLine, Element) -> Void
    ) {
        self.append(literal: brackets.open)
        self.room -= 1
        var isFirst = true
        for element in elements {
            guard self.bytes.count + Self.numberLength <= self.room else {
                self.isTruncated = true
                break
            }
            if !isFirst { self.append(literal: ",") }
            isFirst = false
            write(&self, element)
        }
        self.room += 1
        self.append(literal: brackets.close)
    }

    private mutating func append(literal: StaticString) {
        literal.withUTF8Buffer { self.bytes.append(contentsOf: $0) }
    }
}
