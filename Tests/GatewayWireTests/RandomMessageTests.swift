// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Random messages")
struct RandomMessageTests {
    @Test(
        "A generated message is found piece by piece, and its pieces make it again",
        arguments: 0..<400 as Range<UInt64>
    )
    func findsGeneratedPieces(_ seed: UInt64) throws {
        var generator = MessageGenerator(seed: seed)
        let message = generator.message()
        let bytes = Array(message.text.utf8)
        let envelope = try Envelope(message.text)
        #expect(envelope.range == 0..<bytes.count)
        #expect(envelope.id.map { message.text[utf8: $0.range] } == message.id)
        #expect(envelope.params.map { message.text[utf8: $0] } == message.params)
        #expect((envelope.result ?? envelope.error).map { message.text[utf8: $0] } == message.payload)
        #expect(envelope.methodName?.decoded(in: bytes) == message.method)
        #expect(EnvelopeInvariants.violation(of: bytes) == nil)

        // What lies between the pieces and the pieces themselves are all of the message.
        let pieces = [
            envelope.id?.range, envelope.methodName?.literal, envelope.params, envelope.result, envelope.error,
        ]
        .compactMap { $0 }
        .sorted { $0.lowerBound < $1.lowerBound }
        var rebuilt: [UInt8] = []
        for piece in pieces {
            #expect(piece.lowerBound >= rebuilt.count)
            rebuilt += bytes[rebuilt.count..<piece.lowerBound]
            rebuilt += bytes[piece]
        }
        rebuilt += bytes[rebuilt.count...]
        #expect(rebuilt == bytes)
    }

    @Test("A mutated message never breaks an invariant", arguments: 0..<400 as Range<UInt64>)
    func survivesMutations(_ seed: UInt64) {
        var generator = MessageGenerator(seed: seed)
        var bytes = Array(generator.message().text.utf8)
        for _ in 0..<20 {
            generator.mutate(&bytes)
            #expect(EnvelopeInvariants.violation(of: bytes) == nil, "\(String(decoding: bytes, as: UTF8.self))")
        }
    }

    @Test("A mutated event stream never breaks an invariant", arguments: 0..<200 as Range<UInt64>)
    func survivesMutatedStreams(_ seed: UInt64) {
        var generator = MessageGenerator(seed: seed)
        var bytes: [UInt8] = []
        for _ in 0..<3 {
            let data = Array(generator.message().text.utf8)
            SSEEncoder.append(comment: "c", to: &bytes)
            SSEEncoder.append(type: "message", id: "\(seed)", data: data.span, to: &bytes)
        }
        for _ in 0..<10 {
            generator.mutate(&bytes)
            #expect(SSEInvariants.violation(of: bytes) == nil, "\(String(decoding: bytes, as: UTF8.self))")
        }
    }
}
