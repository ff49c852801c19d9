// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Session id") struct SessionIDTests {
    private static func parse(_ text: String) -> SessionID? {
        let bytes = Array(text.utf8)
        return SessionID(bytes.span)
    }

    @Test("An id is 32 hexadecimal digits that read back as the same id")
    func roundTrip() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<100 {
            let id = SessionID(using: &generator)
            #expect(id.text.utf8.count == 32)
            #expect(Self.parse(id.text) == id)
        }
    }

    @Test("A thousand ids are a thousand different ones")
    func unique() {
        var generator = SystemRandomNumberGenerator()
        #expect(Set((0..<1_000).map { _ in SessionID(using: &generator) }).count == 1_000)
    }

    @Test(
        "Anything but 32 lower-case hexadecimal digits is no id",
        arguments: [
            "", "0", String(repeating: "0", count: 31), String(repeating: "0", count: 33),
            String(repeating: "A", count: 32), String(repeating: "g", count: 32),
            " " + String(repeating: "0", count: 31),
        ]
    )
    func refused(text: String) {
        #expect(Self.parse(text) == nil)
    }

    @Test("An id turned into text gives nothing of itself away")
    func description() {
        var generator = SystemRandomNumberGenerator()
        let id = SessionID(using: &generator)
        #expect(!"\(id)".contains(id.text.prefix(8)))
    }
}
