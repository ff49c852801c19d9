// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Opening of a link") struct LinkOpeningTests {
    /// What happens, and what the machine wants then.
    enum Event: Sendable {
        case started
        case answered(LinkOpening.Answer)
        case ended
    }

    typealias Row = (scope: EraProbe.Scope, steps: [(Event, LinkOpening.Action)])

    static let rows: [Row] = [
        (
            .both,
            [
                (.started, .sendDiscover),
                (.answered(.discovered(versions: ["2026-07-28"])), .openedStateless(versions: ["2026-07-28"])),
            ]
        ),
        // A server of the handshake era says anything, or nothing.
        (
            .both,
            [
                (.started, .sendDiscover), (.answered(.other), .sendInitialize),
                (.answered(.initialized), .openedHandshake),
            ]
        ),
        (
            .both,
            [
                (.started, .sendDiscover), (.answered(.silence), .sendInitialize),
                (.answered(.initialized), .openedHandshake),
            ]
        ),
        (
            .both,
            [
                (.started, .sendDiscover), (.answered(.discovered(versions: ["2025-11-25"])), .sendInitialize),
                (.answered(.initialized), .openedHandshake),
            ]
        ),
        // One that dies of the question is started again and not asked.
        (
            .both,
            [
                (.started, .sendDiscover), (.ended, .restart), (.started, .sendInitialize),
                (.answered(.initialized), .openedHandshake),
            ]
        ),
        (.both, [(.started, .sendDiscover), (.ended, .restart), (.started, .sendInitialize), (.ended, .fail)]),
        // A slow one had locked itself to the stateless era.
        (
            .both,
            [
                (.started, .sendDiscover), (.answered(.silence), .sendInitialize),
                (.answered(.unsupportedVersion), .sendDiscover),
                (.answered(.discovered(versions: ["2026-07-28"])), .openedStateless(versions: ["2026-07-28"])),
            ]
        ),
        (.both, [(.started, .sendDiscover), (.answered(.other), .sendInitialize), (.answered(.other), .fail)]),
        (.handshake, [(.started, .sendInitialize), (.answered(.initialized), .openedHandshake)]),
        (.handshake, [(.started, .sendInitialize), (.answered(.unsupportedVersion), .fail)]),
        (.handshake, [(.started, .sendInitialize), (.ended, .fail)]),
        (
            .stateless,
            [
                (.started, .sendDiscover),
                (.answered(.discovered(versions: ["2026-07-28"])), .openedStateless(versions: ["2026-07-28"])),
            ]
        ),
        (.stateless, [(.started, .sendDiscover), (.answered(.other), .fail)]),
        (.stateless, [(.started, .sendDiscover), (.answered(.discovered(versions: ["2025-11-25"])), .fail)]),
        (.stateless, [(.started, .sendDiscover), (.ended, .fail)]),
    ]

    @Test("Each way of answering leads to the era that it shows", arguments: 0..<rows.count)
    func table(index: Int) {
        let row = Self.rows[index]
        var machine = LinkOpening.StateMachine(scope: row.scope)
        for (event, expected) in row.steps {
            let action =
                switch event {
                case .started: machine.started()
                case .answered(let answer): machine.answered(answer)
                case .ended: machine.ended()
                }
            #expect(action == expected)
        }
        // Whatever comes late changes nothing.
        #expect(machine.answered(.initialized) == .fail)
    }
}
