// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
package import GatewayRuntime
import GatewayWire
import Synchronization

/// Where the configuration that runs is from, and what became of the last attempt to read it again: for `/_status`.
///
/// Nothing in it is secret: names of servers and keys, and what findings say.
package final class ConfigurationState: Sendable {
    /// What became of an attempt; the raw value is the label in metrics.
    package enum Result: String, CaseIterable, Sendable, MetricLabel {
        /// The gateway goes by what was read.
        case applied
        /// Nothing changed that means anything.
        case unchanged
        /// What was read is wrong; the gateway goes on with what it had.
        case rejected

        package var metricIndex: Int {
            switch self {
            case .applied: 0
            case .unchanged: 1
            case .rejected: 2
            }
        }
        package var metricLabel: String { self.rawValue }
    }

    /// An attempt to read the configuration again.
    package struct Reload: Sendable {
        package let result: Result
        /// Who wanted it, in a word.
        package let trigger: String
        package let changes: AppliedChanges
        /// What is wrong with what was read, or needs a restart: a finding each, with its place.
        package let problems: [String]

        package init(_ result: Result, trigger: String, changes: AppliedChanges = AppliedChanges(), problems: [String])
        {
            self.result = result
            self.trigger = trigger
            self.changes = changes
            self.problems = problems
        }
    }

    private struct State {
        /// Counted from 1, one more for each configuration that was applied.
        var generation = 1
        /// Nanoseconds since 1970, as `lastTime`.
        var since = Platform.wallClock()
        var reloads = 0
        var last: (reload: Reload, time: Int64)?
    }

    private let source: String
    private let state = Mutex(State())

    /// `source`: the path, or the URL without its secrets.
    package init(source: String) {
        self.source = source
    }

    package var generation: Int { self.state.withLock { $0.generation } }

    package func record(_ reload: Reload) {
        self.state.withLock { state in
            let now = Platform.wallClock()
            state.reloads += 1
            state.last = (reload, now)
            guard reload.result == .applied else { return }
            state.generation += 1
            state.since = now
        }
    }

    /// As an object of JSON.
    var json: String {
        self.state.withLock { state in
            let last = state.last.map { Self.json($0.reload, at: $0.time) } ?? "null"
            return #"{"source":\#(ErrorAnswer.quoted(self.source)),"generation":\#(state.generation)"#
                + #","since":\#(Self.time(state.since)),"reloads":\#(state.reloads),"lastReload":\#(last)}"#
        }
    }

    private static func json(_ reload: Reload, at time: Int64) -> String {
        let changes = reload.changes
        let names = [
            ("added", changes.added), ("removed", changes.removed), ("replaced", changes.replaced),
            ("tuned", changes.tuned),
        ]
        return #"{"result":"\#(reload.result.rawValue)","at":\#(Self.time(time)),"trigger":"\#(reload.trigger)""#
            + names.map { #","\#($0)":\#(Self.list($1))"# }.joined()
            + #","same":\#(changes.same.count),"problems":\#(Self.list(reload.problems))}"#
    }

    private static func list(_ texts: [String]) -> String {
        "[\(texts.map(ErrorAnswer.quoted).joined(separator: ","))]"
    }

    private static func time(_ nanoseconds: Int64) -> String {
        var text: [UInt8] = []
        CivilTime(nanoseconds: nanoseconds).append(to: &text)
        return ErrorAnswer.quoted(String(decoding: text, as: UTF8.self))
    }
}
