// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Era probe") struct EraProbeTests {
    typealias Answer = EraProbe.Answer

    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        var scope = EraProbe.Scope.both
        /// To `server/discover`, `initialize` and GET, those of them that are sent.
        let answers: [Answer]
        let verdict: EraProbe.Verdict
        let handshake: Bool?
        let stateless: Bool?
        var cause: EraProbe.Step?

        var testDescription: String { self.name }
    }

    static let modern = Answer.discovered(versions: ["2026-07-28"])
    static let session = Answer.initialized(version: "2025-11-25", hasSession: true)

    /// Runs a probe on these answers; nil if it asks for more of them, or for fewer.
    static func conclusion(
        _ answers: [Answer],
        scope: EraProbe.Scope = .both,
        admitsEventStream: Bool = false
    ) -> EraProbe.Conclusion? {
        var machine = EraProbe.StateMachine(scope: scope, admitsEventStream: admitsEventStream)
        var action = machine.start()
        for answer in answers {
            guard case .send = action else { return nil }
            action = machine.answered(answer)
        }
        guard case .conclude(let conclusion) = action else { return nil }
        return conclusion
    }

    /// The table of protocol §4.
    static let cases = [
        Case(name: "stateless", answers: [modern], verdict: .usable, handshake: nil, stateless: true),
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
            answers: [.unsupportedVersion(supported: ["2027-01-01"])],
            verdict: .usable,
            handshake: nil,
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
            answers: [.statelessError],
            verdict: .usable,
            handshake: nil,
            stateless: true
        ),
        Case(
            name: "not there",
            answers: [.unreachable],
            verdict: .unreachable,
            handshake: nil,
            stateless: nil,
            cause: .discover
        ),
        Case(
            name: "gone between",
            answers: [.other, .unreachable],
            verdict: .unreachable,
            handshake: nil,
            stateless: nil,
            cause: .initialize
        ),
        Case(
            name: "speaks the other transport",
            answers: [.endpoint, .endpoint],
            verdict: .unusable,
            handshake: nil,
            stateless: nil,
            cause: .initialize
        ),
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
            stateless: false,
            cause: .initialize
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
            stateless: false,
            cause: .discover
        ),
        Case(
            name: "pinned to stateless, but refused",
            scope: .stateless,
            answers: [.refused],
            verdict: .rejected,
            handshake: false,
            stateless: nil,
            cause: .discover
        ),
    ]

    @Test("The answers to the probe decide which eras an upstream speaks", arguments: cases)
    func conclusion(of example: Case) throws {
        let conclusion = try #require(Self.conclusion(example.answers, scope: example.scope))
        #expect(conclusion.verdict == example.verdict)
        #expect(conclusion.eras.handshake == example.handshake)
        #expect(conclusion.eras.stateless == example.stateless)
        #expect(conclusion.cause == example.cause)
    }

    /// What says nothing for the stateless era, and whether it says something against it (protocol C17).
    static let noVerdicts: [(answer: Answer, isAgainst: Bool)] = [
        (.refused, false), (.busy, false), (.silence, false), (.other, true),
    ]
    /// What a POST may meet that is no InitializeResult, and the verdict if nothing else is known.
    static let failures: [(answer: Answer, verdict: EraProbe.Verdict)] = [
        (.refused, .rejected), (.busy, .unusable), (.silence, .unreachable), (.other, .unusable),
    ]

    @Test(
        "Whatever is answered to the question about the stateless era, the handshake is tried next",
        arguments: [false, true]
    )
    func handshakeIsTried(admitsEventStream: Bool) throws {
        for (answer, isAgainst) in Self.noVerdicts {
            let answers = [answer, Self.session]
            let conclusion = try #require(Self.conclusion(answers, admitsEventStream: admitsEventStream), "\(answer)")
            #expect(conclusion.verdict == .usable && !conclusion.isEventStream && conclusion.cause == nil)
            #expect(conclusion.eras.handshake == true)
            #expect(conclusion.eras.stateless == (isAgainst ? false : nil), "\(answer)")
            #expect(conclusion.eras.isStatelessOpen == !isAgainst, "\(answer)")
        }
    }

    @Test("Without a transport, whatever both POSTs meet, a stream with an endpoint makes the server usable")
    func eventStreamIsTried() throws {
        for (discover, _) in Self.noVerdicts {
            for (initialize, _) in Self.failures {
                let answers = [discover, initialize, .endpoint]
                let conclusion = try #require(Self.conclusion(answers, admitsEventStream: true), "\(answers)")
                #expect(conclusion.verdict == .usable && conclusion.isEventStream && conclusion.cause == nil)
                #expect(conclusion.eras.handshake == true && conclusion.eras.stateless == false)
                #expect(conclusion.eras.issuesSessions == true)
            }
        }
    }

    @Test("Of all failures that is told which a call would meet")
    func cause() throws {
        for (discover, _) in Self.noVerdicts {
            for (initialize, verdict) in Self.failures {
                let typed = try #require(Self.conclusion([discover, initialize]))
                #expect(typed.verdict == verdict && typed.cause == .initialize, "\(discover), \(initialize)")
                #expect(typed.eras == UpstreamEras(), "what is not certain is forgotten")
                for stream in [Answer.refused, .busy, .silence, .other, .unreachable] {
                    let answers = [discover, initialize, stream]
                    let conclusion = try #require(Self.conclusion(answers, admitsEventStream: true), "\(answers)")
                    #expect(!conclusion.isEventStream)
                    switch (initialize, stream) {
                    case (.other, .refused):
                        // A server of the old transport that takes no POST there, and refuses the token.
                        #expect(conclusion.verdict == .rejected && conclusion.cause == .openEventStream)
                    case (.other, .busy):
                        #expect(conclusion.verdict == .unusable && conclusion.cause == .openEventStream)
                    default:
                        #expect(conclusion.verdict == verdict && conclusion.cause == .initialize, "\(answers)")
                    }
                }
            }
        }
    }

    @Test("A connection that fails is not tried in other ways")
    func unreachable() {
        for answers in [[Answer.unreachable], [.other, .unreachable], [.silence, .unreachable]] {
            #expect(Self.conclusion(answers, admitsEventStream: true)?.verdict == .unreachable, "\(answers)")
        }
    }

    @Test("A server that answers a POST with the stream of the old transport is not sent another")
    func streamToPost() {
        let found = Self.conclusion([.endpoint, .endpoint], admitsEventStream: true)
        #expect(found?.isEventStream == true && found?.verdict == .usable)
        let late = Self.conclusion([.refused, .endpoint, .endpoint], admitsEventStream: true)
        #expect(late?.isEventStream == true && late?.verdict == .usable)
        let lost = Self.conclusion([.endpoint, .refused], admitsEventStream: true)
        #expect(lost?.verdict == .rejected && lost?.cause == .openEventStream)
    }

    @Test("Whether a server of the stateless era speaks the handshake too is learnt when somebody asks")
    func handshakeIsOpen() throws {
        let found = try #require(Self.conclusion([Self.modern])).eras
        #expect(found.isHandshakeOpen && !found.refusesHandshake)
        let answers: [(Answer, Bool?)] = [
            (Self.session, true), (.other, false), (.unsupportedVersion(supported: ["2026-07-28"]), false),
            (.statelessError, false), (.refused, nil), (.busy, nil), (.silence, nil), (.unreachable, nil),
        ]
        for (answer, isSpoken) in answers {
            var eras = found
            eras.heard(toInitialize: answer)
            #expect(eras.handshake == isSpoken && eras.stateless == true, "\(answer)")
            #expect(eras.refusesHandshake == (isSpoken == false), "\(answer)")
        }
        var both = found
        both.heard(toInitialize: Self.session)
        #expect(both.supportedVersions == ["2026-07-28", "2025-11-25"] && both.issuesSessions == true)
    }

    @Test("A server that was busy when it was asked about the stateless era can say so later")
    func statelessIsOpen() throws {
        let found = try #require(Self.conclusion([.busy, Self.session])).eras
        #expect(found.isStatelessOpen && !found.refusesStateless)
        let answers: [(Answer, Bool?)] = [
            (Self.modern, true), (.other, false), (.refused, nil), (.busy, nil), (.silence, nil), (.unreachable, nil),
        ]
        for (answer, isSpoken) in answers {
            var eras = found
            eras.heard(toDiscover: answer)
            #expect(eras.stateless == isSpoken && eras.handshake == true, "\(answer)")
        }
    }

    @Test("The stateless era is asked for first")
    func order() {
        var machine = EraProbe.StateMachine(scope: .both)
        let first = machine.start()
        #expect(first == .send(.discover))
        let second = machine.answered(.silence)
        #expect(second == .send(.initialize))
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
}
