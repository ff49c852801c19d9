// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Era probe") struct EraProbeTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        var scope = EraProbe.Scope.both
        let answers: [EraProbe.Answer]
        let verdict: EraProbe.Verdict
        let handshake: Bool?
        let stateless: Bool?

        var testDescription: String { self.name }
    }

    static let modern = EraProbe.Answer.discovered(versions: ["2026-07-28"])
    static let session = EraProbe.Answer.initialized(version: "2025-11-25", hasSession: true)

    /// The table of protocol §4.
    static let cases = [
        Case(name: "both eras", answers: [modern, session], verdict: .usable, handshake: true, stateless: true),
        Case(name: "stateless only", answers: [modern, .other], verdict: .usable, handshake: false, stateless: true),
        Case(
            name: "locked to stateless",
            answers: [modern, .unsupportedVersion(supported: ["2026-07-28"])],
            verdict: .usable,
            handshake: false,
            stateless: true
        ),
        Case(name: "a 1.x server", answers: [.other, session], verdict: .usable, handshake: true, stateless: false),
        Case(
            name: "discovers handshake versions only",
            answers: [.discovered(versions: ["2025-06-18"]), session],
            verdict: .usable,
            handshake: true,
            stateless: false
        ),
        Case(
            name: "-32022 with a stateless version",
            answers: [.unsupportedVersion(supported: ["2027-01-01"]), .other],
            verdict: .usable,
            handshake: false,
            stateless: true
        ),
        Case(
            name: "-32022 with handshake versions",
            answers: [.unsupportedVersion(supported: ["2025-11-25"]), session],
            verdict: .usable,
            handshake: true,
            stateless: false
        ),
        Case(
            name: "-32020 is no reason to fall back",
            answers: [.statelessError, .other],
            verdict: .usable,
            handshake: false,
            stateless: true
        ),
        Case(name: "refused", answers: [.refused], verdict: .rejected, handshake: nil, stateless: nil),
        Case(name: "busy", answers: [.busy], verdict: .unusable, handshake: nil, stateless: nil),
        Case(name: "not there", answers: [.unreachable], verdict: .unreachable, handshake: nil, stateless: nil),
        Case(name: "no MCP server", answers: [.other, .other], verdict: .unusable, handshake: nil, stateless: nil),
        Case(name: "refused at last", answers: [.other, .refused], verdict: .rejected, handshake: nil, stateless: nil),
        Case(name: "gone between", answers: [modern, .unreachable], verdict: .usable, handshake: nil, stateless: true),
        Case(name: "busy between", answers: [modern, .busy], verdict: .usable, handshake: nil, stateless: true),
        Case(
            name: "pinned to the handshake",
            scope: .handshake,
            answers: [session],
            verdict: .usable,
            handshake: true,
            stateless: false
        ),
        Case(
            name: "pinned to the handshake and down",
            scope: .handshake,
            answers: [.unreachable],
            verdict: .unreachable,
            handshake: nil,
            stateless: false
        ),
        Case(
            name: "pinned to stateless",
            scope: .stateless,
            answers: [modern],
            verdict: .usable,
            handshake: false,
            stateless: true
        ),
        Case(
            name: "pinned to stateless, but it is not",
            scope: .stateless,
            answers: [.other],
            verdict: .unusable,
            handshake: false,
            stateless: nil
        ),
    ]

    @Test("The answers to the probe decide which eras an upstream speaks", arguments: cases)
    func conclusion(of example: Case) {
        var machine = EraProbe.StateMachine(scope: example.scope)
        var action = machine.start()
        var answers = example.answers[...]
        while true {
            if case .conclude(let conclusion) = action {
                #expect(answers.isEmpty, "it concluded before it had asked everything")
                #expect(conclusion.verdict == example.verdict)
                #expect(conclusion.eras.handshake == example.handshake)
                #expect(conclusion.eras.stateless == example.stateless)
                return
            }
            guard let answer = answers.popFirst() else {
                Issue.record("it asks more than expected: \(action)")
                return
            }
            action = machine.answered(answer)
        }
    }

    @Test("The stateless era is asked for first, and the handshake whatever the answer is")
    func order() {
        var machine = EraProbe.StateMachine(scope: .both)
        let first = machine.start()
        #expect(first == .sendDiscover)
        let second = machine.answered(Self.modern)
        #expect(second == .sendInitialize)
    }

    @Test("What an upstream is known not to speak is refused, what is not known is not")
    func refusals() {
        var eras = UpstreamEras()
        #expect(!eras.refusesStateless && !eras.refusesHandshake)
        eras.handshake = true
        eras.stateless = false
        #expect(eras.refusesStateless && !eras.refusesHandshake)
        eras.handshake = false
        eras.stateless = true
        #expect(!eras.refusesStateless && eras.refusesHandshake)
    }

    @Test(
        "A server that takes no POST is asked for the old transport, where the configuration leaves the transport open",
        arguments: [
            ([.noSuchTransport, .noSuchTransport, .endpoint], true, EraProbe.Verdict.usable, true),
            ([.noSuchTransport, .noSuchTransport, .other], true, .unusable, false),
            ([.noSuchTransport, .noSuchTransport], false, .unusable, false),
            ([.other, .other], true, .unusable, false),
            ([.noSuchTransport, .initialized(version: "2025-06-18", hasSession: true)], true, .usable, false),
            ([.discovered(versions: ["2026-07-28"]), .noSuchTransport], true, .usable, false),
        ] as [([EraProbe.Answer], Bool, EraProbe.Verdict, Bool)]
    )
    func eventStream(answers: [EraProbe.Answer], admits: Bool, verdict: EraProbe.Verdict, isEventStream: Bool) {
        var machine = EraProbe.StateMachine(scope: .both, admitsEventStream: admits)
        var action = machine.start()
        for answer in answers { action = machine.answered(answer) }
        guard case .conclude(let conclusion) = action else {
            Issue.record("no conclusion but \(action)")
            return
        }
        #expect(conclusion.verdict == verdict)
        #expect(conclusion.isEventStream == isEventStream)
        if isEventStream { #expect(conclusion.eras.handshake == true && conclusion.eras.stateless == false) }
    }
}
