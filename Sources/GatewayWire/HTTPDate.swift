// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Dates as HTTP writes them: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
package enum HTTPDate {
    private static let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    /// The date of a time in nanoseconds since 1970-01-01 UTC.
    package static func text(nanoseconds: Int64) -> String {
        let time = CivilTime(nanoseconds: nanoseconds)
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(Self.days[time.weekday]), \(two(time.day)) \(Self.months[time.month - 1]) \(time.year) "
            + "\(two(time.hour)):\(two(time.minute)):\(two(time.second)) GMT"
    }

    /// Seconds since 1970 of an IMF-fixdate, the only form that is sent nowadays; nil for anything else.
    package static func seconds(_ text: some StringProtocol) -> Int? {
        let parts = text.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0].hasSuffix(","), parts[5] == "GMT",
            let day = Self.number(parts[1], in: 1...31),
            let month = Self.months.firstIndex(of: String(parts[2])),
            let year = Self.number(parts[3], in: 1970...9999)
        else { return nil }
        let clock = parts[4].split(separator: ":", omittingEmptySubsequences: false)
        guard clock.count == 3, let hour = Self.number(clock[0], in: 0...23),
            let minute = Self.number(clock[1], in: 0...59), let second = Self.number(clock[2], in: 0...60)
        else { return nil }
        // Days of the civil calendar, counted from 1 March so that leap days come last.
        let shiftedYear = month < 2 ? year - 1 : year
        let yearOfEra = shiftedYear % 400
        let dayOfYear = (153 * ((month + 10) % 12) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        let daysSince1970 = shiftedYear / 400 * 146_097 + dayOfEra - 719_468
        return daysSince1970 * 86_400 + hour * 3_600 + minute * 60 + second
    }

    /// Digits alone: `Int` would take a sign as well.
    private static func number(_ text: some StringProtocol, in range: ClosedRange<Int>) -> Int? {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let value = Int(text),
            range.contains(value)
        else { return nil }
        return value
    }
}
