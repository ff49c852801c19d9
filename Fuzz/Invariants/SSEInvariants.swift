// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// What holds for any bytes that are taken for an event stream.
enum SSEInvariants {
    /// An event as its reader sees it.
    struct Message: Equatable {
        var data: [UInt8]?
        var id: [UInt8]?
        var type: [UInt8]?
        var retry: Int?
    }

    /// What came out of a stream.
    struct Outcome: Equatable {
        var messages: [Message] = []
        /// The bytes of the stream that are forwarded.
        var forwarded: [UInt8] = []
        var isTooLong = false
        var isCutOff = false
    }

    /// What is violated by `bytes`; nil if nothing is.
    static func violation(of bytes: [UInt8]) -> String? {
        for limit in [17, 1 << 20] {
            let whole = self.decode(bytes, pieces: [bytes.count], limit: limit)
            guard let whole else { return "a step without progress, or outside the bytes" }
            let seed = Int(bytes.first ?? 0)
            for pieces in [[1], [2, 1, 3], [seed % 7 + 1, 5]] {
                guard self.decode(bytes, pieces: pieces, limit: limit) == whole else {
                    return "pieces of \(pieces) give another result, limit \(limit)"
                }
            }
            if limit == 1 << 20, whole.messages != self.reference(bytes) { return "the reference gives other events" }
            if let violation = self.encoding(whole.messages) { return violation }
        }
        return nil
    }

    /// Feeds `bytes` in pieces of these lengths, over and over; nil if a step breaks the rules of steps.
    static func decode(_ bytes: [UInt8], pieces: [Int], limit: Int) -> Outcome? {
        var decoder = SSEDecoder(maximumEventBytes: limit)
        var outcome = Outcome()
        var pending: [UInt8] = []
        var fed = 0
        var turn = 0
        while fed < bytes.count {
            let end = min(bytes.count, fed + max(1, pieces[turn % pieces.count]))
            pending += bytes[fed..<end]
            fed = end
            turn += 1
            steps: while true {
                let length: Int
                switch decoder.next(in: pending.span) {
                case .event(let event):
                    length = event.length
                    guard length <= pending.count else { return nil }
                    outcome.forwarded += pending[..<length]
                    outcome.messages.append(self.message(event, in: pending))
                case .comment(let comment):
                    length = comment
                    guard length <= pending.count else { return nil }
                    outcome.forwarded += pending[..<length]
                case .ignored(let ignored):
                    length = ignored
                case .needsMore:
                    break steps
                case .tooLong:
                    outcome.isTooLong = true
                    return outcome
                }
                guard length > 0, length <= pending.count else { return nil }
                pending.removeFirst(length)
            }
        }
        outcome.isCutOff = decoder.finish()
        return outcome.isCutOff == !pending.isEmpty ? outcome : nil
    }

    private static func message(_ event: SSEEvent, in bytes: [UInt8]) -> Message {
        Message(
            data: event.data == .none ? nil : event.joinedData(in: bytes.span),
            id: event.id.map { Array(bytes[$0]) },
            type: event.type.map { Array(bytes[$0]) },
            retry: event.retry
        )
    }

    /// The blocks with a field, read as the standard says it: lines first, then fields.
    private static func reference(_ bytes: [UInt8]) -> [Message] {
        var text = bytes[...]
        if text.starts(with: [0xef, 0xbb, 0xbf]) { text = text.dropFirst(3) }
        var messages: [Message] = []
        var message: Message?
        while let end = text.firstIndex(where: { $0 == 0x0a || $0 == 0x0d }) {
            let line = Array(text[..<end])
            let isCRLF = text[end...].starts(with: [0x0d, 0x0a])
            text = text[(end + (isCRLF ? 2 : 1))...]
            if line.isEmpty {
                if let message { messages.append(message) }
                message = nil
                continue
            }
            if line[0] == UInt8(ascii: ":") { continue }
            let parts = line.split(separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
            var value = parts.count > 1 ? Array(parts[1]) : []
            if value.first == UInt8(ascii: " ") { value.removeFirst() }
            var next = message ?? Message()
            switch String(decoding: parts[0], as: UTF8.self) {
            case "data": next.data = next.data.map { $0 + [0x0a] + value } ?? value
            case "event": next.type = value
            case "id" where !value.contains(0): next.id = value
            case "retry" where !value.isEmpty && value.allSatisfy { (0x30...0x39).contains($0) }:
                next.retry = Int(String(decoding: value, as: UTF8.self)) ?? .max
            default: break
            }
            message = next
        }
        return messages
    }

    /// What is encoded is decoded again.
    private static func encoding(_ messages: [Message]) -> String? {
        for message in messages {
            var stream: [UInt8] = []
            let id = message.id.flatMap { String(validating: $0, as: UTF8.self) }
            let type = message.type.flatMap { String(validating: $0, as: UTF8.self) }
            SSEEncoder.append(comment: type ?? "", to: &stream)
            let data = message.data ?? []
            SSEEncoder.append(type: type, id: id, data: data.span, to: &stream)
            guard let again = self.decode(stream, pieces: [stream.count], limit: 1 << 20) else { return "no steps" }
            let writtenType = type.flatMap { $0.utf8.contains(0) ? nil : Array($0.utf8) }
            let expected = Message(data: data, id: id.map { Array($0.utf8) }, type: writtenType)
            guard again.messages == [expected], again.forwarded == stream else { return "an event is another again" }
        }
        return nil
    }
}
