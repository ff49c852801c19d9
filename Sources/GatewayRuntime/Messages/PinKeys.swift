// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayWire
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

extension CallerMessage {
    /// What must go to the credential that made it: a `requestState`, or else a task; nil if the message names neither.
    var pinKey: Int? {
        let body = self.body
        let bytes = body.readableBytesUInt8Span
        if let state = self.envelope.requestState {
            return CredentialPins.key(.requestState, state.decodedBytes(in: bytes))
        }
        guard self.method.nameParameter == .taskID, let task = self.envelope.name else { return nil }
        return CredentialPins.key(.task, task.decodedBytes(in: bytes))
    }

    /// Whether the answer can hold something that only the credential that made it can be asked for (protocol §1.2:
    /// input_required, tasks).
    var canBePinned: Bool {
        switch self.method {
        case .toolsCall, .promptsGet, .resourcesRead, .samplingCreateMessage, .elicitationCreate: self.isRequest
        default: false
        }
    }
}

extension AnswerReader {
    /// The keys of what an answer holds that only the credential that made it can be asked for:
    /// `result.requestState`, `result.taskId`, `result.task.taskId`.
    static func pinKeys(of envelope: Envelope, in message: ByteBuffer) -> [Int] {
        guard let result = envelope.result else { return [] }
        let bytes = message.readableBytesUInt8Span
        func text(_ name: StaticString, at start: Int) -> [UInt8]? {
            Envelope.member(name, at: start, in: bytes)?.string?.decodedBytes(in: bytes)
        }
        var keys: [Int] = []
        if let state = text("requestState", at: result.lowerBound) {
            keys.append(CredentialPins.key(.requestState, state))
        }
        if let task = text("taskId", at: result.lowerBound) { keys.append(CredentialPins.key(.task, task)) }
        if let task = Envelope.member("task", at: result.lowerBound, in: bytes),
            let id = text("taskId", at: task.range.lowerBound)
        {
            keys.append(CredentialPins.key(.task, id))
        }
        return keys
    }

    /// Whether the text `requestState` or `taskId` stands anywhere in an answer: if not, there is nothing to look for.
    static func mayHavePins(_ message: ByteBuffer) -> Bool {
        message.withUnsafeReadableBytes { bytes in
            // Capitals are rare, and `memchr` is fast where a loop of ours is not.
            bytes.has(#""requestState""#, byItsCapital: 8) || bytes.has(#""taskId""#, byItsCapital: 5)
        }
    }
}

extension UnsafeRawBufferPointer {
    /// Whether a text stands anywhere, looked for by the one byte of it at this place.
    fileprivate func has(_ text: StaticString, byItsCapital place: Int) -> Bool {
        guard let base = self.baseAddress else { return false }
        let (pattern, length) = (text.utf8Start, text.utf8CodeUnitCount)
        var index = place
        while index < self.count, let found = memchr(base + index, Int32(pattern[place]), self.count - index) {
            let hit = UnsafeRawPointer(found) - base
            let start = hit - place
            if start + length <= self.count, memcmp(base + start, pattern, length) == 0 { return true }
            index = hit + 1
        }
        return false
    }
}
