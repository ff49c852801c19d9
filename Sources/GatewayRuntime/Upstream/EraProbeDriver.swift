// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewaySession
import GatewayTransport
import GatewayWire
import NIOCore

/// Runs the probe of one upstream: sends what the machine asks for and tells it what came back.
struct EraProbeDriver: Sendable {
    let upstream: Upstream
    let loop: GatewayLoop
    let identity: Identity
    let timeout: TimeAmount

    /// As whom we introduce ourselves.
    struct Identity: Sendable {
        let name: String
        let version: String

        var json: String { #"{"name":\#(JSONText.quoted(self.name)),"version":\#(JSONText.quoted(self.version))}"# }
    }

    func run() async -> EraProbe.Conclusion {
        let scope: EraProbe.Scope =
            switch self.upstream.configuration.protocolPin {
            case .auto: .both
            case .handshake: .handshake
            case .stateless: .stateless
            }
        var machine = EraProbe.StateMachine(scope: scope)
        var action = machine.start()
        while true {
            switch action {
            case .sendDiscover: action = machine.answered(await self.discover())
            case .sendInitialize: action = machine.answered(await self.initialize())
            case .conclude(let conclusion): return conclusion
            }
        }
    }

    /// Sends the lightest message that any server of the known era answers.
    func ping() async -> EraProbe.Answer {
        if self.upstream.eras.stateless == true { return await self.discover() }
        let body = #"{"jsonrpc":"2.0","id":"mcp-proxy-ping","method":"ping"}"#
        return Self.classify(await self.send(body, fields: ""))
    }

    private func discover() async -> EraProbe.Answer {
        let version = ProtocolRevision.july2026.rawValue
        let meta = "io.modelcontextprotocol"
        let body = #"{"jsonrpc":"2.0","id":"mcp-proxy-probe","method":"server/discover","params":{"_meta":{"#
            + #""\#(meta)/protocolVersion":"\#(version)","\#(meta)/clientCapabilities":{},"#
            + #""\#(meta)/clientInfo":\#(self.identity.json)}}}"#
        let fields = "MCP-Protocol-Version: \(version)\r\nMcp-Method: server/discover\r\n"
        return Self.classify(await self.send(body, fields: fields))
    }

    private func initialize() async -> EraProbe.Answer {
        let body = #"{"jsonrpc":"2.0","id":"mcp-proxy-probe","method":"initialize","params":{"protocolVersion":""#
            + ProtocolRevision.november2025.rawValue
            + #"","capabilities":{},"clientInfo":\#(self.identity.json)}}"#
        let result = await self.send(body, fields: "")
        guard case .success(let answer) = result, (200..<300).contains(answer.status),
            let envelope = AnswerReader.read(answer.body, depth: 64), envelope.kind == .result
        else { return Self.classify(result) }
        let version = AnswerReader.protocolVersion(of: envelope, in: answer.body)
        if let session = answer.sessionID { self.end(session, version: version) }
        return .initialized(version: version, hasSession: answer.sessionID != nil)
    }

    /// The probe's own session is not left behind.
    private func end(_ session: String, version: String?) {
        let fields = version.flatMap { ProtocolRevision(rawValue: $0) }.map { "MCP-Protocol-Version: \($0.rawValue)\r\n" }
        self.loop.eventLoop.execute {
            UpstreamCall.send(
                self.upstream,
                method: .delete,
                on: self.loop,
                session: session,
                fields: fields ?? "",
                timeout: self.timeout
            ) { _ in }
        }
    }

    private func send(_ body: String, fields: String) async -> Result<UpstreamCall.Answer, TransportError> {
        let call = NIOLoopBoundBox<UpstreamCall?>.makeBoxSendingValue(nil, eventLoop: self.loop.eventLoop)
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                self.loop.eventLoop.execute {
                    call.value = UpstreamCall.send(
                        self.upstream,
                        on: self.loop,
                        body: ByteBuffer(string: body),
                        fields: fields,
                        timeout: self.timeout
                    ) { result in
                        continuation.resume(returning: result)
                    }
                }
            }
        } onCancel: {
            // A stop does not wait for an upstream that does not answer.
            self.loop.eventLoop.execute { call.value?.cancel() }
        }
    }

    private static func classify(_ result: Result<UpstreamCall.Answer, TransportError>) -> EraProbe.Answer {
        let answer: UpstreamCall.Answer
        switch result {
        case .failure: return .unreachable
        case .success(let success): answer = success
        }
        switch answer.status {
        case 401, 403: return .refused
        case 429, 500...: return .busy
        default: break
        }
        guard let envelope = AnswerReader.read(answer.body, depth: 64) else { return .other }
        if envelope.kind == .result {
            return AnswerReader.supportedVersions(of: envelope, in: answer.body).map { .discovered(versions: $0) } ?? .other
        }
        switch envelope.errorCode {
        case -32_020, -32_021: return .statelessError
        case -32_022:
            return .unsupportedVersion(supported: AnswerReader.refusedVersions(of: envelope, in: answer.body))
        default: return .other
        }
    }
}
