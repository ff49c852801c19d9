// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewayTestRandom
import Testing

@Suite("Credential pins") struct CredentialPinsTests {
    static func key(_ number: Int, _ kind: CredentialPins.Kind = .requestState) -> Int {
        CredentialPins.key(kind, Array("state \(number)".utf8))
    }

    @Test("What a credential made is found at its slot, and nothing else is found")
    func found() {
        var pins = CredentialPins()
        pins.pin(Self.key(1), to: 1, at: .zero)
        pins.pin(Self.key(2), to: 2, at: .zero)
        #expect(pins.credential(of: Self.key(1), at: .zero) == 1)
        #expect(pins.credential(of: Self.key(2), at: .zero) == 2)
        #expect(pins.credential(of: Self.key(3), at: .zero) == nil)
        #expect(pins.count == 2)
    }

    @Test("The same text as a state and as a task id are two keys")
    func kinds() {
        var pins = CredentialPins()
        pins.pin(Self.key(1, .requestState), to: 1, at: .zero)
        #expect(pins.credential(of: Self.key(1, .task), at: .zero) == nil)
        pins.pin(Self.key(1, .task), to: 2, at: .zero)
        #expect(pins.credential(of: Self.key(1, .requestState), at: .zero) == 1)
        #expect(pins.credential(of: Self.key(1, .task), at: .zero) == 2)
    }

    @Test("Keys follow from all of a text, byte for byte", arguments: ["", "a", "a\0", "\0", "á", "a\u{301}"])
    func keys(text: String) {
        let others = ["", "a", "a\0", "\0", "á", "a\u{301}"].filter { !$0.utf8.elementsEqual(text.utf8) }
        let key = CredentialPins.key(.task, Array(text.utf8))
        #expect(CredentialPins.key(.task, Array(text.utf8)) == key)
        #expect(others.count == 5)
        #expect(others.allSatisfy { CredentialPins.key(.task, Array($0.utf8)) != key })
    }

    @Test("What is made again by another credential is at that one's slot")
    func madeAgain() {
        var pins = CredentialPins()
        pins.pin(Self.key(1), to: 1, at: .zero)
        pins.pin(Self.key(1), to: 2, at: .zero)
        #expect(pins.credential(of: Self.key(1), at: .zero) == 2)
        #expect(pins.count == 1)
    }

    @Test(
        "A pin is forgotten ten minutes after it was made, however often it was asked for",
        arguments: [(0, 0, 1), (0, 599, 1), (0, 600, nil), (0, 100_000, nil), (5, 604, 1), (5, 605, nil)]
            as [(Int, Int, CredentialID?)]
    )
    func lifetime(made: Int, asked: Int, expected: CredentialID?) {
        var pins = CredentialPins()
        pins.pin(Self.key(1), to: 1, at: .seconds(made))
        for second in stride(from: made, to: min(asked, made + 600), by: 100) {
            #expect(pins.credential(of: Self.key(1), at: .seconds(second)) == 1)
        }
        #expect(pins.credential(of: Self.key(1), at: .seconds(asked)) == expected)
        #expect(pins.count == (expected == nil ? 0 : 1))
    }

    @Test("What is made again lives ten minutes from then")
    func renewed() {
        var pins = CredentialPins()
        pins.pin(Self.key(1), to: 1, at: .zero)
        pins.pin(Self.key(1), to: 1, at: .seconds(300))
        #expect(pins.credential(of: Self.key(1), at: .seconds(899)) == 1)
        #expect(pins.credential(of: Self.key(1), at: .seconds(900)) == nil)
    }

    @Test("There are never more pins than the capacity", arguments: [0, 1, 2, 3, 10, 100])
    func capacity(capacity: Int) {
        var pins = CredentialPins(capacity: capacity)
        var most = 0
        for number in 0..<1_000 {
            pins.pin(Self.key(number), to: 0, at: .zero)
            most = max(most, pins.count)
        }
        #expect(most <= max(capacity, 1))
        #expect(most >= capacity / 2)
        #expect(pins.credential(of: Self.key(999), at: .zero) == 0)
    }

    @Test("What was made last is remembered, up to half of the capacity, and what was made before is forgotten")
    func order() {
        var pins = CredentialPins(capacity: 100)
        for number in 0..<1_000 { pins.pin(Self.key(number), to: .minted(number), at: .zero) }
        let known = (0..<1_000).filter { pins.credential(of: Self.key($0), at: .zero) == .minted($0) }
        #expect(known.count <= 100)
        #expect(Set(known).isSuperset(of: 950..<1_000))
        #expect(known == Array((1_000 - known.count)..<1_000))
    }

    @Test("What is asked for again and again is not forgotten before its time")
    func asked() {
        var pins = CredentialPins(capacity: 100)
        pins.pin(Self.key(-1), to: 7, at: .zero)
        var missing = 0
        for number in 0..<10_000 {
            pins.pin(Self.key(number), to: 0, at: .zero)
            if number % 40 == 0, pins.credential(of: Self.key(-1), at: .zero) != 7 { missing += 1 }
        }
        #expect(missing == 0)
        #expect(pins.credential(of: Self.key(-2), at: .zero) == nil)
    }

    @Test("Against a model: a pin that is found is the last that was made, and none is too old", arguments: 0..<20)
    func randomWalk(seed: UInt64) {
        var random = SplitMix(seed: seed)
        var pins = CredentialPins(capacity: 20)
        var made: [Int: (slot: CredentialID, at: Duration)] = [:]
        var now = Duration.zero
        var wrong = 0
        for _ in 0..<2_000 {
            now += .seconds(random.below(20))
            let number = random.below(30)
            if random.below(2) == 0 {
                let slot = CredentialID.minted(random.below(5))
                pins.pin(Self.key(number), to: slot, at: now)
                made[number] = (slot, now)
            } else if let slot = pins.credential(of: Self.key(number), at: now) {
                let last = made[number]
                if slot != last?.slot || now - (last?.at ?? .zero) >= CredentialPins.lifetime { wrong += 1 }
            }
            if pins.count > 20 { wrong += 1 }
        }
        #expect(wrong == 0)
    }
}
