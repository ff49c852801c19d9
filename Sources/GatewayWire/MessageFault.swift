// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Programs print where only messages may stand: a greeting, a log line, colours, JSON as people like to read it, text in
// the encoding of another time. The line is of no use to anybody, but whoever runs the program has to be told what is
// wrong with it, since an answer may be lost with it.

/// What is wrong with a line, or with the data of an event, that had to be a JSON-RPC message and is none.
///
/// The raw values are what the log says as `kind`.
package enum MessageFault: String, CaseIterable, Sendable {
    /// Bytes that are no UTF-8, or a NUL: another encoding.
    case notUTF8 = "not_utf8"
    /// Control sequences for a terminal, such as colours.
    case terminalCodes = "terminal_codes"
    /// A part of JSON that goes over several lines.
    case partOfJSON = "part_of_json"
    /// A whole JSON object or array that is no message.
    case otherJSON = "other_json"
    /// Anything else: a greeting, a log line.
    case text

    /// Says what is wrong with `bytes`, which are known not to be a message.
    package init(of bytes: Span<UInt8>) {
        let isText = bytes.withUnsafeBufferPointer { String(validating: $0, as: UTF8.self) != nil }
        if !isText || Self.contains(0x00, in: bytes) {
            self = .notUTF8
        } else if Self.contains(0x1b, in: bytes) {
            self = .terminalCodes
        } else if Self.isContainer(bytes) {
            self = .otherJSON
        } else {
            self = Self.isPart(bytes) ? .partOfJSON : .text
        }
    }

    /// What whoever runs the program has to know, as the end of a sentence that names the line.
    package var advice: String {
        switch self {
        case .notUTF8:
            "it is not UTF-8: give the program a UTF-8 locale in env (LANG=C.UTF-8; PYTHONUTF8=1 for Python)"
        case .terminalCodes:
            "it has codes for terminals: turn colours off (NO_COLOR=1 in env), and let it log to standard error"
        case .partOfJSON:
            "it is a part of JSON: each message must be one line, so the program must not format its JSON over several"
        case .otherJSON:
            "it is JSON, but no JSON-RPC 2.0 message: the program must log to standard error"
        case .text:
            "the program must log to standard error"
        }
    }

    /// Whether `bytes`, which are no message, have the member that every message has: then it was to be one.
    package static func wasMessage(_ bytes: Span<UInt8>) -> Bool {
        let member = Array(#""jsonrpc""#.utf8)
        guard bytes.count >= member.count else { return false }
        for start in 0...(bytes.count - member.count) where bytes[start] == UInt8(ascii: "\"") {
            if member.indices.allSatisfy({ bytes[start + $0] == member[$0] }) { return true }
        }
        return false
    }

    private static func contains(_ byte: UInt8, in bytes: Span<UInt8>) -> Bool {
        for index in bytes.indices where bytes[index] == byte { return true }
        return false
    }

    /// Whether it is one whole JSON object or array.
    private static func isContainer(_ bytes: Span<UInt8>) -> Bool {
        var scanner = JSONScanner(depthLimit: .max)
        scanner.skipWhiteSpace(in: bytes)
        guard let first = scanner.peek(in: bytes), first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else {
            return false
        }
        do throws(JSONError) {
            _ = try scanner.value(in: bytes)
            try scanner.finish(in: bytes)
        } catch {
            return false
        }
        return true
    }

    /// Whether it looks like a line of formatted JSON: an object that begins, a member, or only brackets and commas.
    ///
    /// Log lines often begin with a bracket, so that one tells nothing.
    private static func isPart(_ bytes: Span<UInt8>) -> Bool {
        let start = JSONGrammar.afterWhiteSpace(at: 0, in: bytes)
        guard start < bytes.count else { return false }
        switch bytes[start] {
        case UInt8(ascii: "{"):
            return true
        case UInt8(ascii: "\""):
            var scanner = JSONScanner(at: start)
            return (try? scanner.key(in: bytes)) != nil
        default:
            return bytes.extracting(start..<bytes.count).onlyPunctuation
        }
    }
}

extension Span<UInt8> {
    /// Whether there is nothing but brackets, commas and white space.
    fileprivate var onlyPunctuation: Bool {
        for index in self.indices {
            switch self[index] {
            case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ","), 0x20,
                0x09, 0x0d:
                continue
            default:
                return false
            }
        }
        return true
    }
}
