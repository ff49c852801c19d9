// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayTransport
import GatewayWire
import NIOCore
import NIOEmbedded
import Testing

@testable import GatewayRuntime

@Suite("The end of an upstream unit") struct UpstreamEndTests {
    /// A unit, and the event loop that it lives on.
    private static func unit() throws -> (Upstream, LoopResources) {
        let loop = LoopResources(eventLoop: EmbeddedEventLoop())
        return (try .untouched(on: loop, buffers: BufferLedger(total: Gauge(), limit: .max)), loop)
    }

    @Test("One that is over starts no child, whoever asks for its links")
    func startsNoChild() throws {
        let (upstream, _) = try Self.unit()
        upstream.departure.end()
        var failures: [GatewayError.Reason?] = []
        let shared = try #require(upstream.sharedLinks)
        shared.links.start { failures.append($0?.reason) }
        shared.links.link(of: .handshake) { result in
            guard case .failure(let error) = result else { return failures.append(nil) }
            failures.append(error.reason)
        }
        #expect(failures == [.childExited, .childExited], "told at once, since nothing was begun")
        #expect(shared.made == nil)
    }

    @Test("A departure only goes on, whatever it is told afterwards")
    func departure() {
        let departure = Departure()
        #expect(!departure.isRemoved && !departure.isOver)
        departure.replace()
        #expect(!departure.isRemoved && !departure.isOver)
        departure.remove()
        departure.replace()
        #expect(departure.isRemoved && !departure.isOver)
        departure.end()
        departure.remove()
        #expect(departure.isRemoved && departure.isOver)
    }

    @Test("A lane has the settings that were given last")
    func lane() throws {
        let (upstream, loop) = try Self.unit()
        for timeout in [Duration.seconds(7), .seconds(8)] {
            upstream.tune(Upstream.untouchedConfiguration(timeout: timeout))
            #expect(loop.settings(of: upstream).timeout == timeout && upstream.settings.timeout == timeout)
        }
        var limits = Limits()
        limits.jsonDepth = 7
        upstream.tune(limits)
        #expect(loop.settings(of: upstream).limits == limits && upstream.jsonDepth == 7)
        #expect(loop.settings(of: upstream).timeout == .seconds(8), "limits leave the rest as it is")
        upstream.tune(Upstream.untouchedConfiguration(timeout: .seconds(9)))
        #expect(upstream.settings.timeout == .seconds(9) && upstream.jsonDepth == 7, "and the rest leaves the limits")
    }
}
