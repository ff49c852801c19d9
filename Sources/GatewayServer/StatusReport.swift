// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayRuntime
import GatewaySession
import GatewayWire

/// `/_status`: the state of everything, for people and scripts; nothing in it is secret (contract §3).
enum StatusReport {
    static func json(_ gateway: Gateway) -> String {
        let listener = gateway.listener
        let upstreams = gateway.upstreams.map(Self.upstream).joined(separator: ",")
        return #"{"name":\#(ErrorAnswer.quoted(listener.name)),"version":\#(ErrorAnswer.quoted(listener.version))"#
            + #","readiness":"\#(gateway.readiness.word.rawValue)","draining":\#(gateway.isDraining)"#
            + #","uptimeSeconds":\#(gateway.uptime.components.seconds)"#
            + #","inFlight":\#(gateway.inFlightCount),"streams":\#(gateway.streamCount)"#
            + #","sessions":\#(gateway.sessions.count),"upstreams":{\#(upstreams)}}"#
    }

    private static func upstream(_ upstream: Upstream) -> String {
        let eras = upstream.eras
        func known(_ value: Bool?) -> String { value.map(String.init) ?? "null" }
        let versions = eras.supportedVersions.map(ErrorAnswer.quoted).joined(separator: ",")
        return ErrorAnswer.quoted(upstream.name)
            + #":{"transport":"\#(upstream.http.kind == .sse ? "sse" : "streamable-http")""#
            // The target may carry a key in its query: the origin says enough.
            + #","origin":\#(ErrorAnswer.quoted(upstream.http.url.origin.description))"#
            + #","state":"\#(upstream.currentVerdict)","protocol":"\#(upstream.configuration.protocolPin.rawValue)""#
            + #","eras":{"handshake":\#(known(eras.handshake)),"stateless":\#(known(eras.stateless))"#
            + #","versions":[\#(versions)],"issuesSessions":\#(known(eras.issuesSessions))}"#
            + #","inFlight":\#(upstream.runningCount),"guarded":\#(!upstream.configuration.inboundTokens.isEmpty)}"#
    }
}
