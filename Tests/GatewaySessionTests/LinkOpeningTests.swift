// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Opening of a link") struct LinkOpeningTests {
    typealias Row = (
        scope: EraProbe.Scope, first: LinkOpening.Action, steps: [(LinkOpening.Answer, LinkOpening.Action)]
    )

    static let handshake = LinkOpening.Answer.initialized(version: "2025-11-25")
    static let discovered = LinkOpening.Answer.discovered(versions: ["2026-07-28"])
    static let stateless = LinkOpening.Action.openedStateless(versions: ["2026-07-28"])

    static let rows: [Row] = [
        // The handshake comes first, and a server that has it is asked nothing else.
        (.both, .sendInitialize, [(handshake, .openedHandshake)]),
        (.both, .sendInitialize, [(.initialized(version: "2024-11-05"), .openedHandshake)]),
        // One that refuses it is alive, and asked for the other era on the same process.
        (.both, .sendInitialize, [(.other, .sendDiscover), (discovered, stateless)]),
        (.both, .sendInitialize, [(.initialized(version: "2026-07-28"), .sendDiscover), (discovered, stateless)]),
        (.both, .sendInitialize, [(.discovered(versions: []), .sendDiscover), (discovered, stateless)]),
        (.both, .sendInitialize, [(.other, .sendDiscover), (.other, .fail(.refused))]),
        (.both, .sendInitialize, [(.other, .sendDiscover), (.silence, .fail(.silent))]),
        (
            .both, .sendInitialize,
            [(.other, .sendDiscover), (.discovered(versions: ["2025-11-25"]), .fail(.refused))]
        ),
        // One that says nothing at all is not asked anything else: it may be deaf for ever.
        (.both, .sendInitialize, [(.silence, .fail(.silent))]),
        (.handshake, .sendInitialize, [(handshake, .openedHandshake)]),
        (.handshake, .sendInitialize, [(.other, .fail(.refused))]),
        (.handshake, .sendInitialize, [(.initialized(version: "2026-07-28"), .fail(.refused))]),
        (.handshake, .sendInitialize, [(.silence, .fail(.silent))]),
        (.stateless, .sendDiscover, [(discovered, stateless)]),
        (
            .stateless, .sendDiscover,
            [
                (
                    .discovered(versions: ["2025-11-25", "2026-07-28", "2027-01-01"]),
                    .openedStateless(versions: ["2026-07-28", "2027-01-01"])
                )
            ]
        ),
        (.stateless, .sendDiscover, [(.other, .fail(.refused))]),
        (.stateless, .sendDiscover, [(.silence, .fail(.silent))]),
        (.stateless, .sendDiscover, [(handshake, .fail(.refused))]),
        (.stateless, .sendDiscover, [(.discovered(versions: ["2025-11-25"]), .fail(.refused))]),
        (.stateless, .sendDiscover, [(.discovered(versions: []), .fail(.refused))]),
    ]

    @Test("Each way of answering leads to the era that it shows", arguments: 0..<rows.count)
    func table(index: Int) {
        let row = Self.rows[index]
        var machine = LinkOpening.StateMachine(scope: row.scope)
        let first = machine.started()
        #expect(first == row.first)
        for (answer, expected) in row.steps {
            let action = machine.answered(answer)
            #expect(action == expected)
        }
        // Whatever comes late changes nothing.
        let late = machine.answered(Self.handshake)
        #expect(late == .fail(.refused))
    }
}
