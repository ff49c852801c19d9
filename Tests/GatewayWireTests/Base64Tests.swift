// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Base64")
struct Base64Tests {
    private func decode(_ text: String) -> [UInt8]? {
        let bytes = Array(text.utf8)
        return Base64.decode(bytes.span)
    }

    @Test(
        "The vectors of RFC 4648 §10 are decoded",
        arguments: [
            ("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ]
    )
    func decodes(_ text: String, _ expected: String) {
        #expect(self.decode(text) == Array(expected.utf8))
    }

    @Test("Every byte can be decoded")
    func decodesAllBytes() {
        #expect(self.decode("+/+/") == [0xfb, 0xff, 0xbf])
        #expect(self.decode("AAECAwQF") == [0, 1, 2, 3, 4, 5])
    }

    @Test(
        "Padding, alphabet and spare bits are strict",
        arguments: [
            "Z", "Zg", "Zg=", "Zg===", "Z===", "====", "=", "Zh==", "Zi==", "Zk==", "Zo==", "Zm9=", "Zm+=", "Zm8=Zm8=",
            "Zg==Zg==", "Zm-v", "Zm_v",
            "Zm9v\n",
            " Zm9v", "Zm9vY m=", "Zm9v====", "Zé==", "=m9v", "Zm=v",
        ]
    )
    func refuses(_ text: String) {
        #expect(self.decode(text) == nil)
    }

    @Test(
        "The vectors of RFC 4648 §10 are encoded",
        arguments: [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ]
    )
    func encodes(plain: String, encoded: String) { #expect(Base64.encode(Array(plain.utf8)) == encoded) }

    @Test("What is encoded decodes to itself, whatever the bytes and however many")
    func roundTrip() {
        for count in 0...257 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 151 &+ count) }
            #expect(Base64.decode(Array(Base64.encode(bytes).utf8).span) == bytes)
        }
    }
}
