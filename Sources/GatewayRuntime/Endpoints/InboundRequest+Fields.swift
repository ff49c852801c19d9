// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore
import Synchronization

extension InboundRequest {
    /// Appends the caller's fields that concern the message, as they were written.
    ///
    /// `initialize` carries no version header: it is what is being negotiated (protocol C19). `Last-Event-ID` names an
    /// event of ours and stays here. Returns whether a version was there.
    func appendMessageFields(isInitialize: Bool, to buffer: inout ByteBuffer) -> Bool {
        var hasVersion = isInitialize
        for field in self.parser.fields {
            switch field.name {
            case .mcpMethod, .mcpName, .mcpParam: break
            case .mcpProtocolVersion where !isInitialize: hasVersion = true
            default: continue
            }
            self.append(field, to: &buffer)
        }
        return hasVersion
    }

    /// Appends the fields whose lower-case names are in `names`.
    func appendForwarded(_ names: [String], to buffer: inout ByteBuffer) {
        guard !names.isEmpty else { return }
        for field in self.parser.fields {
            guard let name = self.bytes(field.nameRange) else { continue }
            let lowered = String(decoding: name, as: UTF8.self).lowercased()
            if names.contains(lowered) { self.append(field, to: &buffer) }
        }
    }

    private func append(_ field: HTTP1Field, to buffer: inout ByteBuffer) {
        guard let name = self.bytes(field.nameRange), let value = self.bytes(field.valueRange) else { return }
        buffer.writeBytes(name)
        buffer.writeStaticString(": ")
        buffer.writeBytes(value)
        buffer.writeStaticString("\r\n")
    }
}

extension AdvertisedParameters {
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
