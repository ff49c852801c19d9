// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayPolicy
import GatewayRuntime
import GatewaySession
import GatewayWire

/// `/_status`: the state of everything, for people and scripts; nothing in it is secret (contract §3).
enum StatusReport {
    static func json(_ gateway: Gateway, _ configuration: ConfigurationState) -> String {
        let listener = gateway.listener
        let upstreams = gateway.endpoints.all.map(Self.endpoint).joined(separator: ",")
        return #"{"name":\#(ErrorAnswer.quoted(listener.name)),"version":\#(ErrorAnswer.quoted(listener.version))"#
            + #","pid":\#(Platform.processID),"configuration":\#(configuration.json)"#
            + #","readiness":"\#(gateway.readiness.word.rawValue)","draining":\#(gateway.isDraining)"#
            + #","uptimeSeconds":\#(gateway.uptime.components.seconds)"#
            + #","inFlight":\#(gateway.inFlightCount),"streams":\#(gateway.streamCount)"#
            + #","sessions":\#(gateway.sessions.count),"held":\#(Self.held(gateway)),"upstreams":{\#(upstreams)}}"#
    }

    /// What is 0 while nobody wants anything, for tests and for those who look for leaks.
    private static func held(_ gateway: Gateway) -> String {
        let held = gateway.held
        return #"{"bufferedBytes":\#(held.bufferedBytes),"sessionBytes":\#(held.sessionBytes)"#
            + #","inFlight":\#(gateway.inFlightCount),"streams":\#(gateway.streamCount),"exchanges":\#(held.exchanges)"#
            + #","queued":\#(held.queued),"suspended":\#(held.suspended)"#
            + #","upstreamConnectionsInUse":\#(held.upstreamConnections),"ownConnections":\#(held.ownConnections)}"#
    }

    private static func endpoint(_ endpoint: Endpoint) -> String {
        let upstream = endpoint.upstream
        let eras = upstream.eras
        func known(_ value: Bool?) -> String { value.map(String.init) ?? "null" }
        let versions = eras.supportedVersions.map(ErrorAnswer.quoted).joined(separator: ",")
        return ErrorAnswer.quoted(upstream.name)
            + #":{"transport":"\#(upstream.transportName)"\#(Self.origin(of: upstream))"#
            + #","isolation":"\#(upstream.isolation.rawValue)""#
            + #","state":"\#(upstream.currentVerdict)"\#(Self.cause(of: upstream)),"protocol":"\#(upstream.protocolPin.rawValue)""#
            + #","eras":{"handshake":\#(known(eras.handshake)),"stateless":\#(known(eras.stateless))"#
            + #","versions":[\#(versions)],"issuesSessions":\#(known(eras.issuesSessions))}"#
            + #","inFlight":\#(upstream.runningCount),"guarded":\#(!endpoint.tokens.isEmpty)"#
            + Self.toolFilter(of: upstream) + Self.proxy(of: upstream) + Self.credentials(of: upstream) + "}"
    }

    /// The tool filter of an upstream that has one, with the entries that no tool matches once a list of its tools was seen.
    private static func toolFilter(of upstream: Upstream) -> String {
        guard let watch = upstream.settings.toolFilter else { return "" }
        let unmatched = watch.unmatched.map { "[\($0.map(ErrorAnswer.quoted).joined(separator: ","))]" } ?? "null"
        return #","toolFilter":{"mode":"\#(watch.filter.mode.rawValue)","entries":\#(watch.filter.entries.count)"#
            + #","patterns":\#(watch.filter.patternCount),"unmatched":\#(unmatched)}"#
    }

    /// Why an upstream is not usable.
    private static func cause(of upstream: Upstream) -> String {
        guard let cause = upstream.cause else { return "" }
        return #","cause":"\#(cause.code.rawValue)","detail":\#(ErrorAnswer.quoted(cause.detail))"#
    }

    /// The outbound proxy of an upstream that has one, without its user and password.
    private static func proxy(of upstream: Upstream) -> String {
        guard let health = upstream.outboundProxy else { return "" }
        let (lastError, failures) = health.report
        return #","proxy":{"url":\#(ErrorAnswer.quoted(health.proxy.description))"#
            + #","setting":\#(ErrorAnswer.quoted(health.proxy.setting))"#
            + #","lastError":\#(lastError.map { "\"\($0.rawValue)\"" } ?? "null"),"failures":\#(failures)}"#
    }

    /// The pool of an upstream that has one: slots and counts, and of a token nothing but a name that this process gave it.
    private static func credentials(of upstream: Upstream) -> String {
        guard let credentials = upstream.credentials else { return "" }
        let report = credentials.report
        func time(_ time: Duration?) -> String {
            guard let time else { return "null" }
            var text: [UInt8] = []
            CivilTime(nanoseconds: credentials.wallClock(time)).append(to: &text)
            return ErrorAnswer.quoted(String(decoding: text, as: UTF8.self))
        }
        let slots = report.slots.enumerated()
            .map { index, report in
                let slot = report.slot
                let probe = report.probe
                let state = slot.condition(probed: probe).rawValue
                let reason = report.lastRefusal.map { #""\#($0.rawValue)""# } ?? "null"
                let name = report.name.map { #""name":\#(ErrorAnswer.quoted($0)),"# } ?? ""
                return #"{"slot":\#(index),\#(name)"fingerprint":"\#(report.fingerprint)","state":"\#(state)""#
                    + #","failures":\#(slot.failures),"rejections":\#(slot.rejections),"inFlight":\#(slot.inFlight)"#
                    + #","lastSuccess":\#(time(slot.lastSuccess(probed: probe)))"#
                    + #","lastFailure":\#(time(slot.lastFailure(probed: probe)))"#
                    + #","lastRefusal":\#(reason)}"#
            }
        return #","credentials":{"mode":"\#(report.mode.rawValue)","current":\#(report.current)"#
            + #","rotations":\#(report.rotations),"slots":[\#(slots.joined(separator: ","))]}"#
    }

    /// The target may carry a key in its query, and a command line anything: the origin says enough.
    private static func origin(of upstream: Upstream) -> String {
        guard let origin = upstream.origin else { return "" }
        return #","origin":\#(ErrorAnswer.quoted(origin))"#
    }
}
