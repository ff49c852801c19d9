// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing

@testable import GatewayObservability

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

@Suite("Log sink of a descriptor", .timeLimit(.minutes(1))) struct DescriptorLogSinkTests {
    /// A pipe whose ends are closed with it.
    final class Pipe: Sendable {
        let reader: Int32
        let writer: Int32

        init() throws {
            var ends: [Int32] = [0, 0]
            try #require(pipe(&ends) == 0)
            self.reader = ends[0]
            self.writer = ends[1]
        }

        deinit {
            close(self.reader)
            close(self.writer)
        }

        /// Reads until `count` bytes came, or none came for ten seconds.
        func text(_ count: Int) -> String {
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65_536)
            while bytes.count < count {
                var entry = pollfd(fd: self.reader, events: Int16(POLLIN), revents: 0)
                guard poll(&entry, 1, 10_000) == 1 else { break }
                let got = read(self.reader, &chunk, min(chunk.count, count - bytes.count))
                guard got > 0 else { break }
                bytes += chunk[..<got]
            }
            return String(decoding: bytes, as: UTF8.self)
        }
    }

    static func line(_ number: Int, length: Int = 8) -> [UInt8] {
        let text = String(number)
        return Array((String(repeating: "0", count: length - 1 - text.count) + text + "\n").utf8)
    }

    @Test("Lines arrive whole and in order")
    func order() throws {
        let pipe = try Pipe()
        let sink = DescriptorLogSink(descriptor: pipe.writer)
        for number in 0..<1000 { sink.append(Self.line(number)) }
        #expect(sink.flush(timeout: .seconds(20)))
        let expected = (0..<1000).map { String(decoding: Self.line($0), as: UTF8.self) }.joined()
        #expect(pipe.text(8000) == expected)
        #expect(sink.droppedLines == 0)
    }

    @Test("A reader that does not read costs the oldest lines and nothing else, and all goes on when it reads")
    func slowReader() throws {
        let pipe = try Pipe()
        let sink = DescriptorLogSink(descriptor: pipe.writer, lineLimit: 100)
        // More than a pipe and a batch can hold.
        for number in 0..<1000 { sink.append(Self.line(number, length: 1024)) }
        #expect(!sink.flush(timeout: .milliseconds(10)))
        let dropped = sink.droppedLines
        #expect(dropped > 500)
        let text = pipe.text((1000 - dropped) * 1024)
        #expect(sink.flush(timeout: .seconds(20)))
        let numbers = text.split(separator: "\n").compactMap { Int($0) }
        #expect(numbers.count == 1000 - dropped)
        #expect(numbers == numbers.sorted())
        #expect(numbers.suffix(100) == Array(900..<1000)[...])
    }

    @Test("A descriptor that does not block is waited for")
    func nonBlocking() throws {
        let pipe = try Pipe()
        #expect(fcntl(pipe.writer, F_SETFL, O_NONBLOCK) == 0)
        let sink = DescriptorLogSink(descriptor: pipe.writer)
        for number in 0..<300 { sink.append(Self.line(number, length: 1024)) }
        let numbers = pipe.text(300 * 1024).split(separator: "\n").compactMap { Int($0) }
        #expect(numbers == Array(0..<300))
        #expect(sink.flush(timeout: .seconds(20)))
    }

    @Test("A vanished reader, a full disk or a read-only descriptor neither ends the process nor blocks it")
    func failing() throws {
        let null = open("/dev/null", O_RDONLY)
        defer { close(null) }
        let full = open("/dev/full", O_WRONLY)
        defer { close(full) }
        var gone: [Int32] = [0, 0]
        try #require(pipe(&gone) == 0)
        close(gone[0])
        defer { close(gone[1]) }
        for descriptor in [gone[1], null, full] {
            let sink = DescriptorLogSink(descriptor: descriptor, lineLimit: 10)
            for number in 0..<1000 { sink.append(Self.line(number)) }
            #expect(!sink.flush(timeout: .milliseconds(5)))
            #expect(sink.droppedLines >= 1000 - 10 - 1000 / 2)
        }
    }

    @Test("With a closed descriptor every line is dropped and counted")
    func closedDescriptor() {
        let sink = DescriptorLogSink(descriptor: 1_000_000)
        for number in 0..<5 { sink.append(Self.line(number)) }
        #expect(sink.droppedLines == 5)
        #expect(sink.flush(timeout: .seconds(20)))
    }

    @Test("Whoever takes the number of the descriptor later gets no log lines")
    func ownDescriptor() throws {
        let pipe = try Pipe()
        let number = dup(pipe.writer)
        let sink = DescriptorLogSink(descriptor: number)
        let other = try Pipe()
        #expect(dup2(other.writer, number) == number)
        sink.append(Self.line(1))
        #expect(sink.flush(timeout: .seconds(20)))
        close(number)
        #expect(pipe.text(8) == String(decoding: Self.line(1), as: UTF8.self))
    }

    @Test("A closed sink writes what it has, takes no more, and lets go of the descriptor")
    func closing() throws {
        let pipe = try Pipe()
        let number = dup(pipe.writer)
        let sink = DescriptorLogSink(descriptor: number)
        close(number)
        sink.append(Self.line(1))
        sink.close()
        sink.append(Self.line(2))
        #expect(pipe.text(8) == String(decoding: Self.line(1), as: UTF8.self))
        #expect(sink.droppedLines == 1)
    }

    /// A writer that gives the results of a script, then takes everything.
    final class Script: Sendable {
        private let state: Mutex<(results: [Platform.WriteResult], written: [UInt8], calls: Int)>
        private let isEndless: Bool

        init(_ results: [Platform.WriteResult], isEndless: Bool = false) {
            self.state = Mutex((results, [], 0))
            self.isEndless = isEndless
        }

        var written: String { self.state.withLock { String(decoding: $0.written, as: UTF8.self) } }
        var calls: Int { self.state.withLock { $0.calls } }

        var writer: DescriptorLogSink.Writer {
            .init(
                write: { bytes in
                    self.state.withLock { state in
                        state.calls += 1
                        let next = state.results.first
                        if !self.isEndless && next != nil { state.results.removeFirst() }
                        guard let next else {
                            state.written += bytes
                            return .written(bytes.count)
                        }
                        if case .written(let count) = next { state.written += bytes.prefix(count) }
                        return next
                    }
                },
                waitUntilWritable: {},
                close: {}
            )
        }
    }

    static let scripts: [[Platform.WriteResult]] = [
        [.written(1), .written(2), .written(3)],
        [.interrupted, .interrupted, .written(1), .interrupted],
        [.wouldBlock, .written(5), .wouldBlock],
        [.failed, .failed, .written(3), .failed],
        [.written(0), .written(4)],
        [.wouldBlock, .wouldBlock, .failed, .interrupted, .written(7)],
    ]

    @Test("Short writes, signals and failures lose and repeat no byte", arguments: scripts)
    func script(_ results: [Platform.WriteResult]) {
        let script = Script(results)
        let sink = DescriptorLogSink(writer: script.writer, lineLimit: 10, byteLimit: 1000)
        sink.append(Self.line(1))
        sink.append(Self.line(2))
        #expect(sink.flush(timeout: .seconds(20)))
        #expect(script.written == "0000001\n0000002\n")
        #expect(sink.droppedLines == 0)
    }

    @Test("A descriptor that fails, or says ready and takes nothing, is not tried in a loop", arguments: scripts[2...3])
    func noSpinning(_ results: [Platform.WriteResult]) {
        let script = Script([results[0]], isEndless: true)
        let sink = DescriptorLogSink(writer: script.writer, lineLimit: 10, byteLimit: 1000)
        sink.append(Self.line(1))
        #expect(!sink.flush(timeout: .milliseconds(400)))
        #expect((1...8).contains(script.calls))
    }

    @Test("A closed sink gives up what cannot be written")
    func givesUp() {
        let script = Script([.failed], isEndless: true)
        let sink = DescriptorLogSink(writer: script.writer, lineLimit: 10, byteLimit: 1000)
        sink.append(Self.line(1))
        sink.append(Self.line(2))
        sink.close()
        #expect(sink.flush(timeout: .seconds(20)))
        #expect(sink.droppedLines == 2)
    }

    @Test("Lines from many threads are all written")
    func concurrent() async {
        let script = Script([])
        let sink = DescriptorLogSink(writer: script.writer, lineLimit: 10_000, byteLimit: 10_000_000)
        await withTaskGroup { group in
            for task in 0..<8 {
                group.addTask { for number in 0..<200 { sink.append(Self.line(task * 1000 + number)) } }
            }
        }
        #expect(sink.flush(timeout: .seconds(20)))
        let numbers = script.written.split(separator: "\n").compactMap { Int($0) }
        #expect(numbers.count == 1600)
        #expect(Set(numbers).count == 1600)
    }
}
