// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The fields of a block so far.
struct SSEFields: Sendable {
    private var data: Range<Int>?
    /// All lines of data once there are two.
    private var dataLines: [Range<Int>] = []
    private var id: Range<Int>?
    private var type: Range<Int>?
    private var retry: Int?

    /// Takes a line that is neither blank nor a comment: `name`, `name:value` or `name: value`.
    mutating func take(_ line: Range<Int>, in bytes: Span<UInt8>) {
        var nameEnd = line.lowerBound
        while nameEnd < line.upperBound, bytes[nameEnd] != UInt8(ascii: ":") { nameEnd += 1 }
        var valueStart = min(nameEnd + 1, line.upperBound)
        if valueStart < line.upperBound, bytes[valueStart] == UInt8(ascii: " ") { valueStart += 1 }
        let name = JSONString(content: line.lowerBound..<nameEnd, isEscaped: false)
        let value = valueStart..<line.upperBound
        if name.equals("data", in: bytes) {
            self.takeData(value)
        } else if name.equals("event", in: bytes) {
            self.type = value
        } else if name.equals("id", in: bytes) {
            if !value.contains(where: { bytes[$0] == 0 }) { self.id = value }
        } else if name.equals("retry", in: bytes) {
            if let retry = Self.milliseconds(value, in: bytes) { self.retry = retry }
        }
    }

    /// The event with these fields; `length` is that of its block.
    func event(length: Int) -> SSEEvent {
        let content: SSEEvent.Content =
            if let data = self.data { self.dataLines.isEmpty ? .single(data) : .lines(self.dataLines) } else { .none }
        return SSEEvent(length: length, data: content, id: self.id, type: self.type, retry: self.retry)
    }

    private mutating func takeData(_ value: Range<Int>) {
        guard let first = self.data else {
            self.data = value
            return
        }
        if self.dataLines.isEmpty { self.dataLines.append(first) }
        self.dataLines.append(value)
    }

    /// A number of digits only; nil for anything else.
    private static func milliseconds(_ value: Range<Int>, in bytes: Span<UInt8>) -> Int? {
        guard !value.isEmpty else { return nil }
        var number = 0
        for index in value {
            let digit = bytes[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            let (product, productOverflows) = number.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflows) = product.addingReportingOverflow(Int(digit))
            number = productOverflows || sumOverflows ? .max : sum
        }
        return number
    }
}

/// Where lines of an event stream end.
enum SSELine {
    /// The first CR or LF from `start` on; the end of `bytes` if there is none.
    static func end(from start: Int, in bytes: Span<UInt8>) -> Int {
        var position = start
        let raw = bytes.bytes
        let ones: UInt64 = 0x0101_0101_0101_0101
        while position + 8 <= raw.byteCount {
            let text = UInt64(littleEndian: raw.unsafeLoadUnaligned(fromByteOffset: position, as: UInt64.self))
            let lineFeed = text ^ (ones &* 0x0a)
            let carriageReturn = text ^ (ones &* 0x0d)
            // Marks above the first may be wrong, as a subtraction borrows, but never the first.
            let hits =
                (((lineFeed &- ones) & ~lineFeed) | ((carriageReturn &- ones) & ~carriageReturn)) & (ones &* 0x80)
            if hits != 0 { return position + hits.trailingZeroBitCount / 8 }
            position += 8
        }
        while position < bytes.count, bytes[position] != 0x0a, bytes[position] != 0x0d { position += 1 }
        return position
    }
}
