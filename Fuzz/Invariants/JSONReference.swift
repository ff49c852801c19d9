// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A second reader of JSON, as plain as can be, to compare the scanner with: it accepts or refuses a whole text.
struct JSONReference {
    private let bytes: [UInt8]
    private let depthLimit: Int
    private var index = 0

    /// Whether `bytes` are one JSON value, in UTF-8, with at most `depthLimit` containers inside one another.
    static func accepts(_ bytes: [UInt8], depthLimit: Int) -> Bool {
        guard String(validating: bytes, as: UTF8.self) != nil else { return false }
        var reference = JSONReference(bytes: bytes, depthLimit: depthLimit)
        reference.skipWhiteSpace()
        guard reference.value(depth: 0) else { return false }
        reference.skipWhiteSpace()
        return reference.index == bytes.count
    }

    private init(bytes: [UInt8], depthLimit: Int) {
        self.bytes = bytes
        self.depthLimit = depthLimit
    }

    private var current: UInt8? { self.index < self.bytes.count ? self.bytes[self.index] : nil }

    private mutating func take(_ text: String) -> Bool {
        guard self.bytes[self.index...].starts(with: text.utf8) else { return false }
        self.index += text.utf8.count
        return true
    }

    private mutating func skipWhiteSpace() {
        while let byte = self.current, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { self.index += 1 }
    }

    private mutating func value(depth: Int) -> Bool {
        guard let byte = self.current else { return false }
        switch Character(UnicodeScalar(byte)) {
        case "{": return self.container(depth: depth, close: "}", isObject: true)
        case "[": return self.container(depth: depth, close: "]", isObject: false)
        case "\"": return self.string()
        case "t": return self.take("true")
        case "f": return self.take("false")
        case "n": return self.take("null")
        default: return self.number()
        }
    }

    private mutating func container(depth: Int, close: String, isObject: Bool) -> Bool {
        guard depth < self.depthLimit else { return false }
        self.index += 1
        self.skipWhiteSpace()
        if self.take(close) { return true }
        while true {
            self.skipWhiteSpace()
            if isObject {
                guard self.string() else { return false }
                self.skipWhiteSpace()
                guard self.take(":") else { return false }
                self.skipWhiteSpace()
            }
            guard self.value(depth: depth + 1) else { return false }
            self.skipWhiteSpace()
            if self.take(close) { return true }
            guard self.take(",") else { return false }
        }
    }

    private mutating func string() -> Bool {
        guard self.take("\"") else { return false }
        while let byte = self.current {
            self.index += 1
            if byte == UInt8(ascii: "\"") { return true }
            if byte < 0x20 { return false }
            guard byte == UInt8(ascii: "\\") else { continue }
            guard let letter = self.current else { return false }
            self.index += 1
            if letter == UInt8(ascii: "u") {
                let digits = self.bytes[self.index...].prefix(4)
                guard digits.count == 4, digits.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit && $0 < 0x80 })
                else { return false }
                self.index += 4
            } else if !"\"\\/bfnrt".utf8.contains(letter) {
                return false
            }
        }
        return false
    }

    private mutating func number() -> Bool {
        _ = self.take("-")
        if !self.take("0"), !self.digits() { return false }
        if self.take("."), !self.digits() { return false }
        if self.take("e") || self.take("E") {
            if !self.take("+") { _ = self.take("-") }
            return self.digits()
        }
        return true
    }

    private mutating func digits() -> Bool {
        let start = self.index
        while let byte = self.current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { self.index += 1 }
        return self.index > start
    }
}
