// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Fuzz corpus")
struct CorpusTests {
    @Test("No committed input breaks an invariant of the envelope scanner", arguments: try Corpus.files("envelope"))
    func replaysEnvelopes(_ file: Corpus.File) {
        #expect(EnvelopeInvariants.violation(of: file.bytes) == nil)
    }

    @Test(
        "No committed input breaks an invariant of the connection of a caller",
        arguments: try Corpus.files("connection")
    )
    func replaysConnections(_ file: Corpus.File) {
        #expect(ConnectionInvariants.violation(of: file.bytes) == nil)
    }

    @Test("No committed input breaks an invariant of the event stream decoder", arguments: try Corpus.files("sse"))
    func replaysStreams(_ file: Corpus.File) {
        #expect(SSEInvariants.violation(of: file.bytes) == nil)
    }

    @Test("No committed input breaks an invariant of the HTTP/1.1 codec", arguments: try Corpus.files("http"))
    func replaysHTTP(_ file: Corpus.File) {
        #expect(HTTPInvariants.violation(of: file.bytes) == nil)
    }

    @Test("No committed input breaks an invariant of the handshakes with proxies", arguments: try Corpus.files("proxy"))
    func replaysProxies(_ file: Corpus.File) {
        #expect(ProxyInvariants.violation(of: file.bytes) == nil)
    }

    @Test("The corpus is there", arguments: ["connection", "envelope", "sse", "http", "proxy"])
    func hasFiles(_ name: String) throws {
        #expect(try Corpus.files(name).count >= 25)
    }
}
