// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Which of a program's two processes is stopped") struct EraUseTests {
    /// When a process was used last, in seconds, or never, and whether it is at the moment of the question.
    struct Use: Sendable {
        var last: Int?
        var isInUse = false

        var use: EraUse {
            var use = EraUse()
            if let last { use.observe(isInUse: true, now: .seconds(last)) }
            use.observe(isInUse: self.isInUse, now: .seconds(1_000))
            return use
        }
    }

    static let rows: [(handshake: Use, stateless: Use, spare: EraUse.Spare?)] = [
        // One that no caller ever used goes at once: it keeps nothing for anybody.
        (Use(last: nil), Use(last: 1_000, isInUse: true), .handshake),
        (Use(last: nil), Use(last: 999), .handshake),
        (Use(last: 999), Use(last: nil), .stateless),
        // One that was used has five minutes.
        (Use(last: 701), Use(last: 1_000, isInUse: true), nil),
        (Use(last: 700), Use(last: 1_000, isInUse: true), .handshake),
        (Use(last: 1_000, isInUse: true), Use(last: 701), nil),
        (Use(last: 1_000, isInUse: true), Use(last: 700), .stateless),
        // Both in use, or both a moment ago: both stay.
        (Use(last: 1_000, isInUse: true), Use(last: 1_000, isInUse: true), nil), (Use(last: 900), Use(last: 990), nil),
        // Of two that nobody uses one stays: the one that was used last.
        (Use(last: 100), Use(last: 200), .handshake), (Use(last: 200), Use(last: 100), .stateless),
        (Use(last: 200), Use(last: 200), .handshake), (Use(last: nil), Use(last: nil), .handshake),
        (Use(last: 200), Use(last: nil), .stateless), (Use(last: nil), Use(last: 200), .handshake),
    ]

    @Test("It is one that nobody needs, and never both", arguments: 0..<rows.count)
    func table(index: Int) {
        let row = Self.rows[index]
        let spare = EraUse.spare(handshake: row.handshake.use, stateless: row.stateless.use, now: .seconds(1_000))
        #expect(spare == row.spare)
    }
}
