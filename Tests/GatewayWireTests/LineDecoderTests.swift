// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Line decoder")
struct LineDecoderTests {
    /// What comes out of a stream.
    private struct Outcome: Equatable {
        var lines: [[UInt8]] = []
        /// The last line, if it has no end.
        var rest: [UInt8]?
        var isTooLong = false
        /// The most bytes that were kept between two pieces.
        var kept = 0
    }

    /// Feeds a stream in pieces of the given sizes; the last size is that of all further ones.
    private func decode(_ stream: [UInt8], pieces: [Int], limit: Int) -> Outcome {
        var decoder = LineDecoder(maximumLineBytes: limit)
        var outcome = Outcome()
        var unconsumed: [UInt8] = []
        var offset = 0
        var sizes = pieces[...]
        while offset < stream.count {
            let size = sizes.count > 1 ? sizes.removeFirst() : sizes.first ?? 1
            let end = min(offset + size, stream.count)
            unconsumed += stream[offset..<end]
            offset = end
            feeding: while true {
                switch decoder.next(in: unconsumed.span) {
                case .line(let range, let length):
                    outcome.lines.append(Array(unconsumed[range]))
                    unconsumed.removeFirst(length)
                case .ignored(let length):
                    unconsumed.removeFirst(length)
                case .needsMore:
                    break feeding
                case .tooLong:
                    outcome.isTooLong = true
                    return outcome
                }
            }
            outcome.kept = max(outcome.kept, unconsumed.count)
        }
        outcome.rest = decoder.finish(in: unconsumed.span).map { Array(unconsumed[$0]) }
        return outcome
    }

    /// What every way to cut the stream in two, byte by byte, and in one piece gives; it has to be the same.
    private func decode(_ stream: [UInt8], limit: Int = 1 << 20) -> Outcome {
        var whole = self.decode(stream, pieces: [stream.count], limit: limit)
        whole.kept = 0
        for pieces in [[1]] + stream.indices.map({ [$0, stream.count] }) where pieces[0] > 0 {
            var cut = self.decode(stream, pieces: pieces, limit: limit)
            cut.kept = 0
            #expect(cut == whole, "pieces of \(pieces)")
        }
        return whole
    }

    @Test(
        "Lines end with LF only, whatever else might look like a line end, and however the stream is cut",
        arguments: [
            ("{}\n", ["{}"]), ("{}\n[]\n", ["{}", "[]"]), ("{}\r\n[]\r\n", ["{}", "[]"]), ("{}\r\r\n", ["{}\r"]),
            ("a\rb\n", ["a\rb"]), ("\n\n{}\n\n\r\n \t\r\n[]\n\n", ["{}", "[]"]), ("", []), ("\n", []), ("\r\n", []),
            (" {} \n", [" {} "]),
            ("\u{2028}\u{2029}\u{85}\u{b}\u{c}\n{}\n", ["\u{2028}\u{2029}\u{85}\u{b}\u{c}", "{}"]),
            ("\u{0}\n", ["\u{0}"]), ("größe 日本 😀\n", ["größe 日本 😀"]),
            ("0123456789\n01234567\n0123456\n", ["0123456789", "01234567", "0123456"]),
        ]
    )
    func splits(_ stream: String, _ lines: [String]) {
        let outcome = self.decode(Array(stream.utf8))
        #expect(outcome.lines == lines.map { Array($0.utf8) })
        #expect(outcome.rest == nil)
        #expect(!outcome.isTooLong)
    }

    @Test("A byte order mark is dropped at the start of the stream, and nowhere else")
    func dropsByteOrderMark() {
        let mark: [UInt8] = [0xef, 0xbb, 0xbf]
        let line = Array("{}\n".utf8)
        #expect(self.decode(mark + line + mark + line).lines == [Array("{}".utf8), mark + Array("{}".utf8)])
        #expect(self.decode([0xef, 0xbb] + line).lines == [[0xef, 0xbb] + Array("{}".utf8)])
        #expect(self.decode(mark).rest == nil)
        #expect(self.decode(mark + mark).rest == mark)
    }

    @Test(
        "A last line without an end is given out at the end of the stream",
        arguments: [
            ("{}\n[]", "[]"), ("{}", "{}"), ("{}\r", "{}"), ("{}\n", nil), ("{}\n \r", nil), ("", nil),
            ("\u{fe}", "\u{fe}"),
        ]
    )
    func finishes(_ stream: String, _ rest: String?) {
        #expect(self.decode(Array(stream.utf8)).rest == rest.map { Array($0.utf8) })
    }

    @Test("A line of the limit passes and one above it does not, whatever its end", arguments: ["\n", "\r\n"])
    func bounds(_ end: String) {
        for (length, isTooLong) in [(15, false), (16, false), (17, true)] {
            for before in ["", "\n", "{}\n"] {
                let text = before + String(repeating: "x", count: length)
                let lines = before == "{}\n" ? [Array("{}".utf8)] : []
                let outcome = self.decode(Array((text + end).utf8), limit: 16)
                #expect(outcome.isTooLong == isTooLong, "\(length) after \(before.debugDescription)")
                #expect(outcome.lines.count == lines.count + (isTooLong ? 0 : 1))
                // As soon as it cannot fit any more, and not only at its end.
                let open = self.decode(Array(text.utf8), limit: 16)
                #expect(open.isTooLong == isTooLong)
                #expect(open.lines == lines)
            }
        }
    }

    @Test("After a line that is too long nothing is given out any more")
    func staysTooLong() {
        var decoder = LineDecoder(maximumLineBytes: 4)
        let long = Array("12345".utf8)
        let short = Array("1\n".utf8)
        var step = decoder.next(in: long.span)
        #expect(step == .tooLong)
        step = decoder.next(in: short.span)
        #expect(step == .tooLong)
        let rest = decoder.finish(in: short.span)
        #expect(rest == nil)
    }

    @Test("A flood of blank lines is not kept")
    func dropsBlankLines() {
        let outcome = self.decode(Array(repeating: 0x0a, count: 100_000), pieces: [1000], limit: 16)
        #expect(outcome.kept == 0)
        #expect(!outcome.isTooLong)
    }

    @Test("A line of 1 MiB that comes byte by byte is looked at once")
    func looksOnce() {
        // With a second look at every byte this would be 5 * 10¹¹ of them.
        var decoder = LineDecoder(maximumLineBytes: 1 << 20)
        let line = Array(repeating: UInt8(ascii: "x"), count: 1 << 20) + [0x0a]
        for count in 1...(1 << 20) {
            let step = decoder.next(in: line.span.extracting(first: count))
            guard step == .needsMore else {
                Issue.record("\(step) after \(count) bytes")
                return
            }
        }
        let step = decoder.next(in: line.span)
        #expect(step == .line(0..<(1 << 20), length: (1 << 20) + 1))
    }
}
