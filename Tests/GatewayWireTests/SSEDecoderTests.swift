// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Event stream decoder")
struct SSEDecoderTests {
    private typealias Message = SSEInvariants.Message

    private func message(
        _ data: String?,
        id: String? = nil,
        type: String? = nil,
        retry: Int? = nil
    ) -> SSEInvariants.Message {
        Message(
            data: data.map { Array($0.utf8) },
            id: id.map { Array($0.utf8) },
            type: type.map { Array($0.utf8) },
            retry: retry
        )
    }

    /// What every way to cut the stream in two, byte by byte, and in one piece gives; it has to be the same.
    private func decode(_ stream: [UInt8], limit: Int = 1 << 20) throws -> SSEInvariants.Outcome {
        let whole = try #require(SSEInvariants.decode(stream, pieces: [stream.count], limit: limit))
        #expect(SSEInvariants.decode(stream, pieces: [1], limit: limit) == whole)
        for split in stream.indices {
            let pieces = [split, stream.count]
            #expect(SSEInvariants.decode(stream, pieces: pieces, limit: limit) == whole, "cut at \(split)")
        }
        return whole
    }

    @Test(
        "Fields are read as the standard says, however the lines end and the stream is cut",
        arguments: ["\n", "\r\n", "\r"]
    )
    func readsFields(_ end: String) throws {
        let cases: [(String, SSEInvariants.Message)] = [
            ("data: a|", self.message("a")), ("data:a|", self.message("a")), ("data:  a|", self.message(" a")),
            ("data|", self.message("")), ("data:|", self.message("")),
            ("data: a|data|data: b|", self.message("a\n\nb")),
            ("data: a: b:|", self.message("a: b:")), ("event: x|data: y|", self.message("y", type: "x")),
            ("event: x|event: y|data: z|", self.message("z", type: "y")),
            ("event|data: z|", self.message("z", type: "")),
            ("id: 1|data|", self.message("", id: "1")), ("id|", self.message(nil, id: "")),
            ("id: 1|id: a\u{0}b|", self.message(nil, id: "1")), ("retry: 1500|", self.message(nil, retry: 1500)),
            ("retry: 007|", self.message(nil, retry: 7)), ("retry: 1 |", self.message(nil)),
            ("retry:|", self.message(nil)), ("retry: -1|", self.message(nil)), ("retry: 1.5|", self.message(nil)),
            ("retry: 9223372036854775807|", self.message(nil, retry: .max)),
            ("retry: 9223372036854775808|", self.message(nil, retry: .max)),
            ("retry: 99999999999999999999999999|", self.message(nil, retry: .max)),
            ("Data: a|", self.message(nil)), (" data: a|", self.message(nil)), ("x|", self.message(nil)),
            ("data: a|: comment|data: b|", self.message("a\nb")), ("data: größe 日本 😀|", self.message("größe 日本 😀")),
        ]
        for (lines, expected) in cases {
            let stream = Array((lines + "|").replacing("|", with: end).utf8)
            let outcome = try self.decode(stream)
            #expect(outcome.messages == [expected], "\(lines)")
            #expect(outcome.forwarded == stream)
            #expect(!outcome.isCutOff)
        }
    }

    @Test(
        "An event carries a message if its type is none, empty or `message` and it has data that is no white space",
        arguments: [
            ("data: {}", true), ("event: message|data: {}", true), ("event:|data: {}", true), ("data|data: {}", true),
            ("event: ping|data: ping", false), ("event: ping|data: {}", false), ("event: keepalive|data", false),
            ("event: Message|data: {}", false), ("event:  message|data: {}", false),
            ("event: endpoint|data: /x", false),
            ("event: message", false), ("id: 7", false), ("id: 7|data:", false), ("retry: 10", false),
            ("data: \t ", false), ("data|data:  |data", false), ("data: ping", true),
        ]
    )
    func carriesMessages(lines: String, isMessage: Bool) throws {
        let stream = Array((lines + "||").replacing("|", with: "\n").utf8)
        var decoder = SSEDecoder(maximumEventBytes: 1 << 20)
        guard case .event(let event) = decoder.next(in: stream.span) else {
            Issue.record("no event")
            return
        }
        #expect(event.carriesMessage(in: stream.span) == isMessage)
    }

    @Test("Events follow one another, and every byte of them is forwarded")
    func readsManyEvents() throws {
        let stream = Array(": hi\n\nid: 1\ndata: a\n\n\n\r\ndata: b\r\r\n: x\rdata: c\r\n\r\n".utf8)
        let outcome = try self.decode(stream)
        #expect(outcome.messages == [self.message("a", id: "1"), self.message("b"), self.message("c")])
        #expect(outcome.forwarded == stream)
        #expect(!outcome.isCutOff)
    }

    @Test("Comments and blank lines outside an event are given out at once")
    func givesOutComments() {
        var decoder = SSEDecoder(maximumEventBytes: 1 << 20)
        let stream = Array(":\n: keep-alive\n\ndata: a".utf8)
        var step = decoder.next(in: stream.span)
        #expect(step == .comment(length: 16))
        let rest = Array(stream.dropFirst(16))
        step = decoder.next(in: rest.span)
        #expect(step == .needsMore)
        #expect(decoder.finish())
    }

    @Test("A CR ends an event at once; the LF that comes later is a blank line")
    func endsEventAtCR() {
        var decoder = SSEDecoder(maximumEventBytes: 1 << 20)
        let first = Array("data: a\r\n\r".utf8)
        var step = decoder.next(in: first.span)
        guard case .event(let event) = step else {
            Issue.record("no event")
            return
        }
        #expect(event.length == first.count)
        #expect(event.data == .single(6..<7))
        #expect(!decoder.finish())
        let second = Array("\ndata: b\n\n".utf8)
        step = decoder.next(in: second.span)
        #expect(step == .comment(length: 1))
        let third = Array(second.dropFirst())
        step = decoder.next(in: third.span)
        #expect(step == .event(SSEEvent(length: 9, data: .single(6..<7), id: nil, type: nil, retry: nil)))
    }

    @Test("A CRLF that is there as a whole belongs to the event")
    func takesCRLFWhole() {
        var decoder = SSEDecoder(maximumEventBytes: 1 << 20)
        let stream = Array("data: a\r\n\r\n".utf8)
        let step = decoder.next(in: stream.span)
        #expect(step == .event(SSEEvent(length: 11, data: .single(6..<7), id: nil, type: nil, retry: nil)))
    }

    @Test("A byte order mark at the start is dropped, and nowhere else")
    func dropsByteOrderMark() throws {
        let mark: [UInt8] = [0xef, 0xbb, 0xbf]
        let event = Array("data: a\n\n".utf8)
        var outcome = try self.decode(mark + event)
        #expect(outcome.messages == [self.message("a")])
        #expect(outcome.forwarded == event)
        outcome = try self.decode(mark + mark + event)
        #expect(outcome.messages == [self.message(nil)])
        outcome = try self.decode(event + mark + event)
        #expect(outcome.messages == [self.message("a"), self.message(nil)])
        outcome = try self.decode([0xef, 0xbb] + event)
        #expect(outcome.messages == [self.message(nil)])
    }

    @Test(
        "What is cut off is told and not given out",
        arguments: [
            ("", 0, false), ("data: a\n\n", 1, false), ("data: a\n\ndata: b\n", 1, true),
            ("data: a\n\ndata: b", 1, true),
            ("data: a\n", 0, true), ("data: a\r", 0, true), ("d", 0, true), (": comment", 0, true),
            (": comment\n", 0, false),
            ("data: a\n\n\r\n", 1, false), ("\u{feff}", 0, false), ("id: 3\ndata: b\n\r", 1, false),
        ]
    )
    func tellsCutOff(_ stream: String, _ count: Int, _ isCutOff: Bool) throws {
        let outcome = try self.decode(Array(stream.utf8))
        #expect(outcome.messages.count == count)
        #expect(outcome.isCutOff == isCutOff)
    }

    @Test(
        "An event may be as long as the limit and not one byte longer",
        arguments: [99, 100, 101],
        ["\n", "\r", "\r\n"]
    )
    func limitsEvents(_ length: Int, _ end: String) throws {
        // The LF of a CRLF that ends the block is not counted: it may not be there yet.
        let counted = end == "\r\n" ? 3 : 2
        let data = String(repeating: "x", count: length - 6 - counted)
        let block = Array(("data: " + data + end + end).utf8)
        let outcome = try self.decode(Array(": c\n".utf8) + block + block, limit: 100)
        #expect(outcome.isTooLong == (length > 100))
        #expect(outcome.messages.count == (length > 100 ? 0 : 2))
    }

    @Test("Many short lines are limited together", arguments: [9, 10, 11])
    func limitsLinesTogether(_ count: Int) throws {
        let stream = Array((String(repeating: "data: abc\n", count: count) + "\n").utf8)
        let outcome = try self.decode(stream, limit: 101)
        #expect(outcome.isTooLong == (count > 10))
    }

    @Test("A comment line outside an event is limited like one, a flood of them is not", arguments: [99, 100, 101])
    func limitsComments(_ length: Int) throws {
        let comment = Array((":" + String(repeating: "c", count: length - 2) + "\n").utf8)
        let flood = [[UInt8]](repeating: comment, count: 20).flatMap { $0 }
        let outcome = try self.decode(flood, limit: 100)
        #expect(outcome.isTooLong == (length > 100))
        #expect(outcome.forwarded == (length > 100 ? [] : flood))
        let short = Array(":\n\n".utf8)
        let mixed = try self.decode(short + comment, limit: 100)
        #expect(mixed.isTooLong == (length > 100))
        #expect(mixed.forwarded == (length > 100 ? short : short + comment))
    }

    @Test("An endless line is given up, once and for all", arguments: ["data: ", ": ", "", "x"])
    func givesUpEndlessLine(_ start: String) {
        var decoder = SSEDecoder(maximumEventBytes: 1000)
        var bytes = Array(start.utf8)
        while bytes.count <= 1000 {
            let step = decoder.next(in: bytes.span)
            #expect(step == .needsMore)
            bytes.append(0x61)
        }
        var step = decoder.next(in: bytes.span)
        #expect(step == .tooLong)
        let event = Array("data: a\n\n".utf8)
        step = decoder.next(in: event.span)
        #expect(step == .tooLong)
    }

    @Test("A megabyte that comes byte by byte is looked at once")
    func looksOnce() {
        var decoder = SSEDecoder(maximumEventBytes: 1 << 20)
        var bytes = Array("data: ".utf8)
        bytes.reserveCapacity(1 << 20)
        // Looking again at every byte would take 10¹¹ steps.
        while bytes.count < 500_000 {
            bytes.append(0x61)
            let step = decoder.next(in: bytes.span)
            if step != .needsMore { Issue.record("an event that is not there") }
        }
        bytes += [0x0a, 0x0a]
        let step = decoder.next(in: bytes.span)
        #expect(step == .event(SSEEvent(length: 500_002, data: .single(6..<500_000), id: nil, type: nil, retry: nil)))
    }

    @Test("What carries JSON-RPC is an event of the type message, which is the default")
    func knowsMessages() {
        for (text, expected) in [
            ("data: a\n\n", true), ("event: message\ndata: a\n\n", true), ("event:\ndata: a\n\n", true),
            ("event: endpoint\ndata: a\n\n", false), ("event: messages\ndata: a\n\n", false),
        ] {
            var decoder = SSEDecoder(maximumEventBytes: 1 << 20)
            let bytes = Array(text.utf8)
            guard case .event(let event) = decoder.next(in: bytes.span) else {
                Issue.record("no event")
                continue
            }
            let isMessage = event.isMessage(in: bytes.span)
            #expect(isMessage == expected, "\(text)")
        }
    }
}
