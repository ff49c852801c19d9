// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// A caller that sends and gets bytes and knows no protocol.
final class RawClient: Sendable {
    let inbox: Inbox<RawBytes>
    private let channel: any Channel

    private init(_ channel: any Channel, _ inbox: Inbox<RawBytes>) {
        self.channel = channel
        self.inbox = inbox
    }

    /// Connects to a port of the wire that the test has.
    ///
    /// `isReading` false leaves what arrives on the wire until `startReading`; `receiveBuffer` keeps that small.
    static func connect(
        _ port: Int,
        from address: String? = nil,
        isReading: Bool = true,
        receiveBuffer: Int? = nil
    ) async throws -> RawClient {
        let inbox = Inbox(RawBytes())
        let channel = try await Wire.current.connect(to: port, from: address, receiveBuffer: receiveBuffer) { channel in
            try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
            try channel.syncOptions?.setOption(.autoRead, value: isReading)
            try channel.pipeline.syncOperations.addHandler(RawBytesHandler(inbox))
        }
        return RawClient(channel, inbox)
    }

    func send(_ text: String) { self.send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) { self.channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

    /// Sends each byte in a write of its own.
    func drip(_ bytes: [UInt8]) async throws {
        for byte in bytes { try await self.channel.writeAndFlush(ByteBuffer(bytes: [byte])).get() }
    }

    func startReading() { self.channel.setOption(.autoRead, value: true).whenComplete { _ in self.channel.read() } }

    /// Shuts down the sending side behind what was sent.
    func shutDown() { self.channel.close(mode: .output, promise: nil) }

    func close() { self.channel.close(promise: nil) }

    /// Breaks the connection.
    func reset() {
        let channel = self.channel
        guard let options = channel as? any SocketOptionProvider else { return self.close() }
        options.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in channel.close(promise: nil) }
    }

    /// Takes the next answer.
    func answer(isHead: Bool = false, seconds: Int64 = 10) async throws -> RawAnswer {
        let answer: RawAnswer? = try await self.inbox.wait("an answer", seconds: seconds) { state in
            guard let answer = RawAnswer(state.bytes, isHead: isHead, hasEnded: state.ending == .closed) else {
                return state.ending == nil ? nil : .some(nil)
            }
            state.bytes.removeFirst(answer.length)
            return answer
        }
        guard let answer else {
            throw TestTimeout(description: "no answer, but the end of the connection: \(self.inbox.now)")
        }
        return answer
    }

    /// Waits until `text` arrived, and takes everything up to its end.
    @discardableResult
    func read(until text: String, seconds: Int64 = 10) async throws -> String {
        try await self.inbox.wait("the text \(text.debugDescription)", seconds: seconds) { state in
            guard let range = state.bytes.firstRange(of: Array(text.utf8)) else { return nil }
            let taken = String(decoding: state.bytes[..<range.upperBound], as: UTF8.self)
            state.bytes.removeFirst(range.upperBound)
            return taken
        }
    }

    /// Waits for the end of the connection and gives everything that is left.
    func readToEnd(seconds: Int64 = 10) async throws -> RawBytes {
        try await self.inbox.wait("the end", seconds: seconds) { $0.ending == nil ? nil : $0 }
    }

    /// Sends a request and takes its answer.
    func exchange(_ request: String, isHead: Bool = false) async throws -> RawAnswer {
        self.send(request)
        return try await self.answer(isHead: isHead)
    }
}
