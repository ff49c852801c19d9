// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayTestRandom
import Testing

@testable import GatewayObservability

@Suite("Redactor") struct RedactorTests {
    static let canary = "CANARY-token-0a1b2c3d4e5f60718293a4b5c6d7e8f9"

    static func redact(_ text: String, _ secrets: String...) -> String {
        Redactor(secrets.map { Secret($0) }).redacted(text)
    }

    @Test(
        "A secret is masked wherever it is",
        arguments: [
            ("password1", "password1", "•••"), ("xpassword1y", "password1", "x•••y"),
            ("password1password1", "password1", "•••"), ("a password1, a password1.", "password1", "a •••, a •••."),
            ("nothing here", "password1", "nothing here"), ("", "password1", ""), ("passwor", "password1", "passwor"),
            ("Bearer p\u{e4}ssw\u{f6}rt!", "p\u{e4}ssw\u{f6}rt!", "Bearer •••"),
        ]
    )
    func plain(text: String, secret: String, expected: String) {
        #expect(Self.redact(text, secret) == expected)
    }

    @Test(
        "Only values of eight bytes and more are looked for",
        arguments: [("1234567", false), ("12345678", true), ("123456789", true), ("", false)]
    )
    func leastLength(secret: String, isMasked: Bool) {
        #expect(Self.redact("<\(secret)>", secret) == (isMasked ? "<•••>" : "<\(secret)>"))
    }

    @Test("Secrets that overlap, touch or contain each other leave nothing of any of them")
    func overlapping() {
        #expect(Self.redact("<abcdefghij>", "abcdefgh", "cdefghij") == "<•••>")
        #expect(Self.redact("<abcdefghij>", "abcdefghij", "cdefghij") == "<•••>")
        #expect(Self.redact("<abcdefghijk>", "bcdefghi", "abcdefghijkl") == "<a•••jk>")
        #expect(Self.redact("<abcdefgh12345678>", "abcdefgh", "12345678") == "<•••>")
    }

    @Test("A secret in base64 leaves no run of it, wherever it begins and in either alphabet", arguments: 0..<7, 0..<4)
    func base64Alignments(before: Int, after: Int) {
        // Bytes whose base64 has the characters in which the alphabets differ.
        let secret = "\u{7f}~?>~~?\u{7f}?>~>secret??"
        let redactor = Redactor([Secret(secret)])
        let whole =
            Array(String(repeating: "u", count: before).utf8) + Array(secret.utf8)
            + Array(String(repeating: "p", count: after).utf8)
        for isURLSafe in [false, true] {
            for isPadded in [false, true] {
                let encoded = base64(whole, isURLSafe: isURLSafe, isPadded: isPadded)
                let redacted = redactor.redacted("Basic \(encoded) end")
                #expect(redacted.contains("•••") && redacted.hasPrefix("Basic ") && redacted.hasSuffix(" end"))
                // What remains of the encoded text is from outside the secret, but for a character at either end.
                let rest = redacted.dropFirst(6).dropLast(4).split(separator: "•••", omittingEmptySubsequences: false)
                #expect(rest.count == 2)
                #expect(rest[0].count <= before * 8 / 6 + 1)
                #expect(rest[1].filter { $0 != "=" }.count <= after * 8 / 6 + 2)
            }
        }
    }

    @Test("The password of a Basic header is masked, the short user name is not")
    func basic() {
        let header = "Proxy-Authorization: Basic " + base64(Array("me:\(Self.canary)".utf8))
        let redacted = Self.redact(header, Self.canary)
        #expect(redacted.hasPrefix("Proxy-Authorization: Basic bWU6"))
        #expect(redacted.hasSuffix("•••") || redacted.hasSuffix("•••=") || redacted.hasSuffix("•••=="))
    }

    static func percent(_ text: String, upper: Bool, where isEncoded: (UInt8) -> Bool) -> String {
        text.utf8.reduce(into: "") { result, byte in
            guard isEncoded(byte) else {
                result.unicodeScalars.append(Unicode.Scalar(byte))
                return
            }
            let digits = String(byte, radix: 16, uppercase: upper)
            result += "%" + (digits.count == 1 ? "0" : "") + digits
        }
    }

    static let escapedSecret = "p@ss/w\u{f6}rd+\"\\ 1%2F"

    static let escapings: [String] = {
        let text = Self.escapedSecret
        var forms: [String] = []
        for upper in [true, false] {
            // Everything; all but unreserved; what a lenient encoder leaves; every second byte.
            forms.append(Self.percent(text, upper: upper) { _ in true })
            forms.append(
                Self.percent(text, upper: upper) { !(0x30...0x39).contains($0) && !(0x61...0x7a).contains($0) }
            )
            forms.append(Self.percent(text, upper: upper) { $0 >= 0x80 || " \"%\\".utf8.contains($0) })
            forms.append(Self.percent(text, upper: upper) { $0 % 2 == 0 || $0 >= 0x80 })
        }
        forms.append("p@ss/w\u{f6}rd+\\\"\\\\ 1%2F")
        forms.append("p@ss\\/w\\u00f6rd+\\u0022\\u005c 1%2F")
        forms.append("p@ss\\/w\\u00F6rd+\\x22\\x5C\\u00201%2F")
        // Escaped twice: JSON in JSON, percent in percent.
        forms.append("p@ss\\\\/w\\\\u00f6rd+\\\\\\\"\\\\\\\\ 1%2F")
        forms.append(forms[0].replacing("%", with: "%25"))
        return forms
    }()

    @Test("A secret is found however much of it is escaped", arguments: escapings)
    func escaped(form: String) {
        #expect(Self.redact("<\(form)>", Self.escapedSecret) == "<•••>")
    }

    @Test("A form's plus for a space is a space")
    func formEncoding() {
        #expect(Self.redact("p=my+pass+phrase&", "my pass phrase") == "p=•••&")
        #expect(Self.redact("p=my+pass+%70hrase&", "my pass phrase") == "p=•••&")
    }

    @Test("Base64 that was percent-encoded or written into JSON is found")
    func nested() {
        let secret = "~~~???>>>secret"
        let encoded = base64(Array(secret.utf8))
        #expect(encoded.contains("/") || encoded.contains("+"))
        let percent = encoded.replacing("/", with: "%2F").replacing("+", with: "%2B").replacing("=", with: "%3D")
        #expect(Self.redact(percent, secret) == "•••")
        #expect(Self.redact(encoded.replacing("/", with: "\\/"), secret) == "•••")
    }

    @Test("At a cut, what begins a secret is masked, plain and escaped", arguments: 1..<45)
    func cut(kept: Int) {
        let redactor = Redactor([Secret(Self.canary)])
        let text = "echo: " + Self.canary.prefix(kept)
        let masked = redactor.masked(text.utf8.span, isCut: true)
        #expect(masked.map { String(decoding: $0, as: UTF8.self) } == "echo: •••")
        #expect(redactor.masked(text.utf8.span, isCut: false) == nil || kept == Self.canary.utf8.count)
        let escaped = "echo: \\u0043" + Self.canary.prefix(kept).dropFirst()
        let maskedEscaped = redactor.masked(escaped.utf8.span, isCut: true)
        #expect(maskedEscaped.map { String(decoding: $0, as: UTF8.self) } == "echo: •••")
    }

    @Test("A text of any bytes is masked without harm to the rest", arguments: 0..<50)
    func anyBytes(seed: Int) {
        var generator = SplitMix(seed: UInt64(seed))
        let noise = (0..<200).map { _ in UInt8.random(in: 0...255, using: &generator) }
        let redactor = Redactor([Secret(Self.canary)])
        let cut = Int.random(in: 0...noise.count, using: &generator)
        let text = Array(noise[..<cut]) + Array(Self.canary.utf8) + Array(noise[cut...])
        let masked = redactor.masked(text.span) ?? []
        #expect(!masked.indices.contains { masked[$0...].starts(with: "CANARY".utf8) })
        #expect(redactor.masked(text.span, isCut: true) != nil)
    }

    @Test("A peer cannot make redaction dear: hostile texts take time linear in their length")
    func linear() {
        let redactor = Redactor([Secret(String(repeating: "a", count: 500) + "b"), Secret(Self.canary)])
        let clock = ContinuousClock()
        for unit in ["a", "%61", "\\u0061", "%2525", "?a=", "://a@", "\\\\"] {
            let text = Array(String(repeating: unit, count: 64 * 1024 / unit.utf8.count).utf8)
            let time = clock.measure { _ = redactor.masked(text.span) }
            #expect(time < .seconds(2), "\(unit)")
        }
    }
}
