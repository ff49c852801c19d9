// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy
import GatewaySession
import GatewayTestRandom
import GatewayWire
import Testing

@Suite("Random calls") struct RandomCallTests {
    private static func facts(_ random: inout SplitMix) -> CallMachine.Facts {
        let classes = RetryRules.MessageClass.allCases
        var facts = CallMachine.Facts(
            era: random.below(3) == 0 ? .stateless : .handshake,
            messageClass: classes[random.below(classes.count)],
            startedAt: .zero,
            timeout: .seconds(60)
        )
        facts.isOverLink = random.below(4) == 0
        facts.hasCredentials = !facts.isOverLink && random.below(2) == 0
        facts.isListening = facts.era == .stateless && facts.messageClass == .safe && random.below(4) == 0
        facts.isInitialize = facts.era == .handshake && facts.messageClass == .safe && random.below(4) == 0
        facts.isLong = random.below(4) == 0
        facts.takesMessages = random.below(4) > 0
        facts.isMessageWise = random.below(4) == 0
        facts.streamLimit = 100_000
        return facts
    }

    @Test(
        "Whatever happens in whatever order, a call has one answer, runs once, and gives back what it took",
        arguments: 0..<100 as Range<UInt64>
    )
    func randomWalk(seed: UInt64) {
        var random = SplitMix(seed: seed)
        for _ in 0..<100 {
            var walk = CallWalk(Self.facts(&random))
            for _ in 0..<(1 + random.below(60)) { walk.move(&random) }
            walk.finish()
            #expect(walk.violation == nil, "\(walk.moves)")
        }
    }

    @Test("Random calls end in every way in which calls end")
    func endsEverywhere() {
        var random = SplitMix(seed: 1)
        var reasons: Set<String> = []
        var resent = 0
        for _ in 0..<5_000 {
            var walk = CallWalk(Self.facts(&random))
            for _ in 0..<60 { walk.move(&random) }
            walk.finish()
            reasons.formUnion(walk.reasons)
            if walk.sendings > 1 { resent += 1 }
        }
        #expect(resent > 100)
        let common = [
            "answered", "answeredWithFailure", "relayed", "taken", "answeredHere", "sessionOver", "broken",
            "callerLeft",
            "callerIsSlow", "takenBack", "listeningEnded", "queueFull", "timedOut", "streamLost",
            "credentialsExhausted",
            "drained", "upstreamGone", "reported",
        ]
        for reason in common { #expect(reasons.contains(reason), "\(reasons.sorted())") }
    }
}
