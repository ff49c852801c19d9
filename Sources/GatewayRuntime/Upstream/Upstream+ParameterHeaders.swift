// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

/// What the tools of an upstream want said in `Mcp-Param-*`, as far as their lists were passed on.
///
/// Kept where the gateway is the HTTP server for callers of the stateless era: an upstream that is one checks the headers
/// itself (protocol S15). A tool that nobody was shown yet is not checked.
final class AdvertisedParameters: Sendable {
    private let tools = Mutex<[[UInt8]: ParameterHeaders]>([:])
    /// Tools above this number are not checked.
    private static let limit = 10_000

    /// Callers are shown this answer to `tools/list`.
    func learn(from answer: ByteBuffer) {
        let listed = ParameterHeaders.read(answer.readableBytesUInt8Span)
        guard !listed.isEmpty else { return }
        self.tools.withLock { tools in
            for (tool, headers) in listed where headers == nil || tools.count < Self.limit || tools[tool] != nil {
                tools[tool] = headers
            }
        }
    }

    /// Why a call is refused before anything of it is sent; nil if its headers say what it says.
    func rejection(of message: CallerMessage, _ request: InboundRequest) -> EraRejection? {
        guard message.method == .toolsCall, let name = message.envelope.name else { return nil }
        let body = message.body
        let bytes = body.readableBytesUInt8Span
        let tool = name.decodedBytes(in: bytes)
        guard let wanted = self.tools.withLock({ $0[tool] }) else { return nil }
        let head = request.head
        var headers: ParameterHeaders.Headers = [:]
        for field in request.parser.fields where field.name == .mcpParam {
            let (name, value) = (field.nameRange, field.valueRange)
            ParameterHeaders.add(head.readableBytesUInt8Span.extracting(name), value: value, to: &headers)
        }
        let arguments = message.envelope.params.flatMap {
            Envelope.member("arguments", at: $0.lowerBound, in: bytes)
        }
        return wanted.rejection(
            arguments: arguments?.kind == .object ? arguments?.range.lowerBound : nil,
            in: bytes,
            headers: headers,
            in: head.readableBytesUInt8Span
        )
    }
}
