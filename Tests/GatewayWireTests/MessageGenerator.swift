// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import GatewayWire
import Testing

/// Makes valid JSON-RPC messages, and breaks them, the same for the same seed.
struct MessageGenerator {
    /// A message and the pieces that it was made of.
    struct Message {
        var text: String
        var id: String?
        var method: String?
        var params: String?
        /// The result or error.
        var payload: String?
    }

    private var random: SplitMix

    init(seed: UInt64) {
        // Another factor than that of the steps: else one seed would give what the one before gives, moved by one.
        self.random = SplitMix(seed: seed &* 0xd134_2543_de82_ef95 &+ 1)
    }

    /// A valid message of any kind.
    mutating func message() -> Message {
        var message = Message(text: "")
        var members = ["\"jsonrpc\":\"2.0\""]
        let isResponse = self.below(3) == 0
        if isResponse || self.below(3) > 0 {
            let id = self.pick(["0", "-1", "9007199254740993", "\"a\"", "\"\"", #""\u00e9\"\/""#, "\"日本\""])
            message.id = id
            members.append("\"id\"\(self.space()):\(self.space())\(id)")
        }
        if isResponse {
            let payload = self.below(2) == 0 ? self.object(depth: 3) : self.value(depth: 3)
            message.payload = payload
            members.append("\"\(self.pick(["result", "error"]))\":\(payload)")
        } else {
            let method = self.pick(MCPMethod.allCases.map(\.rawValue) + ["vendor/thing", "größe"])
            message.method = method
            members.append("\"method\":\"\(self.below(2) == 0 ? method : method.replacing("/", with: "\\/"))\"")
            if self.below(4) > 0 {
                let params = self.object(depth: 4, keys: ["name", "uri", "taskId", "arguments", "x", "cursor"])
                message.params = params
                members.append("\"params\":\(self.space())\(params)")
            }
        }
        for extra in 0..<self.below(3) { members.append("\"extra\(extra)\":\(self.value(depth: 2))") }
        for index in members.indices { members.swapAt(index, self.below(members.count)) }
        message.text = "{" + members.joined(separator: ",\(self.space())") + self.space() + "}"
        return message
    }

    /// Changes, removes, doubles or inserts some bytes.
    mutating func mutate(_ bytes: inout [UInt8]) {
        let place = self.below(bytes.count + 1)
        let length = min(self.below(8), bytes.count - place)
        switch self.below(5) {
        case 0:
            if place < bytes.count { bytes[place] ^= 1 << UInt8(self.below(8)) }
        case 1:
            bytes.removeSubrange(place..<place + length)
        case 2:
            bytes.insert(contentsOf: bytes[place..<place + length], at: self.below(bytes.count + 1))
        case 3:
            if place < bytes.count { bytes[place] = UInt8(self.below(256)) }
        default:
            let pieces = [
                "\"", "\\", "{", "}", "[", "]", ",", ":", "\r", "\n", "\\u0061", "\"id\":1,", "é", "\u{0}", "null",
                "\"Name\":1,",
                "\"paramſ\":1,", "ſ", "\u{212a}",
            ]
            bytes.insert(contentsOf: self.pick(pieces).utf8, at: place)
        }
    }

    private mutating func value(depth: Int) -> String {
        switch self.below(depth > 0 ? 8 : 6) {
        case 0: self.pick(["0", "-0", "12", "9007199254740993", "0.1", "1.0", "1e999999", "-2.5E-3"])
        case 1: "true"
        case 2: "null"
        case 3: "false"
        case 4:
            self.pick([#""""#, "\"text\"", #""\ud800""#, "\"\u{2028}\"", #""\"\\\n""#, "\"日本 😀\"", "\"0123456789\""])
        case 5: self.below(2) == 0 ? "{}" : "[ ]"
        case 6: self.object(depth: depth)
        default: "[" + (0..<self.below(4)).map { _ in self.value(depth: depth - 1) }.joined(separator: " , ") + "]"
        }
    }

    private mutating func object(depth: Int, keys: [String] = ["a", "b", "größe", "x y", ""]) -> String {
        let members = keys.shuffled(using: &self).prefix(self.below(keys.count + 1))
            .map { key in
                "\(self.space())\"\(key)\"\(self.space()):\(self.space())\(self.value(depth: depth - 1))"
            }
        return "{" + members.joined(separator: ",") + self.space() + "}"
    }

    private mutating func space() -> String { self.pick(["", "", "", " ", "\n", "\t \r\n"]) }

    private mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

    private mutating func pick<Element>(_ choices: [Element]) -> Element { choices[self.below(choices.count)] }
}

extension MessageGenerator: RandomNumberGenerator {
    mutating func next() -> UInt64 { self.random.next() }
}
