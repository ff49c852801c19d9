// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A point in time as a date and a time of day in UTC.
package struct CivilTime: Hashable, Sendable {
    package var year: Int
    package var month: Int
    package var day: Int
    package var hour: Int
    package var minute: Int
    package var second: Int
    package var millisecond: Int
    /// Counted from Sunday, which is 0.
    package private(set) var weekday: Int

    /// - Parameter nanoseconds: since 1970-01-01 UTC, without leap seconds; any value.
    package init(nanoseconds: Int64) {
        var rest = Self.divide(Int(nanoseconds), by: 1_000_000)
        self.millisecond = Self.take(1000, from: &rest.quotient)
        self.second = Self.take(60, from: &rest.quotient)
        self.minute = Self.take(60, from: &rest.quotient)
        self.hour = Self.take(24, from: &rest.quotient)
        self.weekday = Self.divide(rest.quotient + 4, by: 7).remainder
        // Years begin in March here, so that the leap day is the last of its year, and are counted from 2000-03-01, on
        // which a cycle of 400 years begins; 1970-01-01 is 11,017 days before it.
        var days = rest.quotient - 11_017
        let cycle = Self.divide(days, by: 146_097)
        days = cycle.remainder
        // The last century of a cycle and the last year of four are a day longer, hence the minimum.
        let century = min(3, days / 36_524)
        days -= century * 36_524
        let four = days / 1461
        days -= four * 1461
        let year = min(3, days / 365)
        days -= year * 365
        // Months from March are 31, 30, 31, 30, 31 days long and then again; 153 for each five.
        let month = (days * 5 + 2) / 153
        self.day = days - (month * 153 + 2) / 5 + 1
        self.month = month < 10 ? month + 3 : month - 9
        self.year = 2000 + cycle.quotient * 400 + century * 100 + four * 4 + year + (month < 10 ? 0 : 1)
    }

    /// Appends it in the form of RFC 3339 with milliseconds: `2026-03-01T09:05:07.040Z`.
    package func append(to output: inout [UInt8]) {
        Self.append(self.year, digits: 4, to: &output)
        output.append(UInt8(ascii: "-"))
        Self.append(self.month, digits: 2, to: &output)
        output.append(UInt8(ascii: "-"))
        Self.append(self.day, digits: 2, to: &output)
        output.append(UInt8(ascii: "T"))
        Self.append(self.hour, digits: 2, to: &output)
        output.append(UInt8(ascii: ":"))
        Self.append(self.minute, digits: 2, to: &output)
        output.append(UInt8(ascii: ":"))
        Self.append(self.second, digits: 2, to: &output)
        output.append(UInt8(ascii: "."))
        Self.append(self.millisecond, digits: 3, to: &output)
        output.append(UInt8(ascii: "Z"))
    }

    private static func append(_ value: Int, digits: Int, to output: inout [UInt8]) {
        var divisor = 1
        for _ in 1..<digits { divisor *= 10 }
        while divisor > 0 {
            output.append(UInt8(ascii: "0") + UInt8(value / divisor % 10))
            divisor /= 10
        }
    }

    /// Division that rounds down, so that the remainder is never negative.
    private static func divide(_ value: Int, by divisor: Int) -> (quotient: Int, remainder: Int) {
        let (quotient, remainder) = value.quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }

    private static func take(_ unit: Int, from value: inout Int) -> Int {
        let (quotient, remainder) = Self.divide(value, by: unit)
        value = quotient
        return remainder
    }
}
