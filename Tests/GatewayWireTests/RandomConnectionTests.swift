// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Random connections")
struct RandomConnectionTests {
    /// Moves, and how often each is made: as often as it leads somewhere; an end is rare.
    private static let weights: [(move: UInt8, count: Int)] = [
        (0, 16), (1, 12), (2, 2), (3, 12), (4, 2), (5, 4), (6, 8), (7, 10), (8, 2), (9, 1), (10, 2), (11, 1), (12, 2),
        (13, 1), (14, 2), (15, 2),
    ]

    private static let moves = Self.weights.flatMap { Array(repeating: $0.move, count: $0.count) }

    private static let requests = [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "\r\nDELETE /x HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET / HTT",
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 96\r\n\r\n" + String(repeating: "x", count: 96),
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            + String(repeating: "4\r\nabcd\r\n", count: 24) + "0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\n",
    ]

    /// The ones that end a connection.
    private static let last = [
        "", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "\u{1}", "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 97\r\n\r\n" + String(repeating: "x", count: 97),
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3c\r\n\(String(repeating: "x", count: 60))\r\n25\r\n",
        "GET /\(String(repeating: "x", count: 300))",
    ]

    private static func script(_ seed: UInt64) -> [UInt8] {
        var generator = MessageGenerator(seed: seed)
        let count = UInt8.random(in: 1...60, using: &generator)
        var script = [count]
        for _ in 0..<count {
            let move = Self.moves.randomElement(using: &generator) ?? 0
            script.append(move | UInt8.random(in: 0...15, using: &generator) << 4)
        }
        for _ in 0..<Int.random(in: 0...12, using: &generator) {
            script += latin1(Self.requests.randomElement(using: &generator) ?? "")
        }
        script += latin1(Self.last.randomElement(using: &generator) ?? "")
        return script
    }

    @Test("No order of events breaks an invariant or the model", arguments: 0..<100 as Range<UInt64>)
    func survivesSchedules(_ block: UInt64) {
        for seed in (100 * block)..<(100 * (block + 1)) {
            let violation = ConnectionInvariants.violation(of: Self.script(seed))
            #expect(violation == nil, "seed \(seed)")
        }
    }

    @Test("Random schedules lead everywhere, and serve requests on the way")
    func leadsEverywhere() {
        let ends = (0..<3000 as Range<UInt64>).map { ConnectionInvariants.walk(Self.script($0)) }
        for stage in ConnectionModel.Stage.allCases {
            let count = ends.count { $0.stage == stage }
            #expect(count >= 10, "at \(stage)")
        }
        let most = ends.map(\.served).max()
        #expect(most == 6)
    }

    @Test("A mutated schedule never breaks an invariant", arguments: 0..<100 as Range<UInt64>)
    func survivesMutations(_ seed: UInt64) {
        var generator = MessageGenerator(seed: seed)
        var script = Self.script(seed)
        for _ in 0..<20 {
            generator.mutate(&script)
            let violation = ConnectionInvariants.violation(of: script)
            #expect(violation == nil, "\(script)")
        }
    }
}
