// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayStdio

@Suite("Standard error in parts")
struct ErrorLinesTests {
    @Test("Lines are cut at line feeds in any pieces, bounded with one byte to spare, and blank ones left out")
    func cuts() {
        let stream = Array("a\n\r\nbc\r\n12345678\n123456789\n1234567890123\r\n\n\nlast\r".utf8)
        let expected = ["a", "bc", "12345678", "123456789", "123456789", "last"]
        for size in 1...stream.count {
            var lines = ErrorLines(limit: 8)
            var found: [String] = []
            for start in stride(from: 0, to: stream.count, by: size) {
                lines.take(stream[start..<min(start + size, stream.count)]) {
                    found.append(String(decoding: $0, as: UTF8.self))
                }
            }
            lines.finish { found.append(String(decoding: $0, as: UTF8.self)) }
            #expect(found == expected, "pieces of \(size)")
        }
    }

    @Test("The tail has whole lines only, as many as fit, and the beginning of one that is too long")
    func keepsTail() {
        var tail = ErrorTail(limit: 10, lines: 3)
        #expect(tail.text == nil)
        for (line, text) in [
            ("1234", "1234"), ("56789", "1234\n56789"), ("x", "56789\nx"), ("1234567890", "1234567890"),
            ("123456789012", "12345678901"), ("y", "y"), ("", "y\n"), ("z", "y\n\nz"), ("0", "\nz\n0"),
        ] {
            tail.add(Array(line.utf8))
            #expect(tail.text.map { String(decoding: $0, as: UTF8.self) } == text)
        }
    }

    @Test(
        "A second admits so many bytes, with some for each line, one more is counted, and the next second begins anew"
    )
    func bounds() {
        var rate = ErrorRate(bytesPerSecond: 16, bytesPerLine: 3)
        #expect(rate.end == nil)
        expect(rate.admits(9, now: .seconds(5)), is: true)
        expect(rate.admits(1, now: .seconds(5)), is: true)
        expect(rate.admits(1, now: .seconds(5)), is: false)
        expect(rate.admits(30, now: .seconds(5)), is: false)
        #expect(rate.end == .seconds(6))
        expect(rate.takeSuppressed(), is: 31)
        expect(rate.admits(10, now: .seconds(6)), is: true)
        expect(rate.takeSuppressed(), is: 0)
        expect(rate.admits(14, now: .seconds(9)), is: false)
        expect(rate.admits(13, now: .seconds(9)), is: true)
        expect(rate.takeSuppressed(), is: 14)
    }
}
