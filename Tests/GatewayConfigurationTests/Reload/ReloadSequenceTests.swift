// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Which request to reload counts") struct ReloadSequenceTests {
    private enum Event {
        case requested
        case started
        case stop
    }

    /// What leads to each state, by the name of the state.
    private static let states: [(name: String, events: [Event])] = [
        ("starting", []), ("starting, wanted", [.requested]), ("idle", [.started]),
        ("reloading", [.started, .requested]), ("reloading, again", [.started, .requested, .requested]),
        ("stopping", [.stop]),
    ]

    private func sequence(_ name: String) throws -> ReloadSequence {
        var sequence = ReloadSequence()
        for event in try #require(Self.states.first { $0.name == name }).events {
            switch event {
            case .requested: _ = sequence.requested(.file)
            case .started: _ = sequence.started()
            case .stop: sequence.stop()
            }
        }
        return sequence
    }

    @Test(
        "A request begins at once, waits for what runs, or is told that the process stops",
        arguments: [
            ("starting", .nothing), ("starting, wanted", .nothing), ("idle", .begin(.poll)), ("reloading", .nothing),
            ("reloading, again", .nothing), ("stopping", .tellStopping),
        ] as [(String, ReloadSequence.Action)]
    )
    func requested(state: String, expected: ReloadSequence.Action) throws {
        var sequence = try self.sequence(state)
        #expect(sequence.requested(.poll) == expected)
    }

    @Test(
        "The end of the start begins what was asked for meanwhile, once",
        arguments: [
            ("starting", .nothing), ("starting, wanted", .begin(.file)), ("idle", .nothing), ("reloading", .nothing),
            ("reloading, again", .nothing), ("stopping", .nothing),
        ] as [(String, ReloadSequence.Action)]
    )
    func started(state: String, expected: ReloadSequence.Action) throws {
        var sequence = try self.sequence(state)
        #expect(sequence.started() == expected)
        #expect(sequence.started() == .nothing)
    }

    @Test(
        "The end of a reload begins the one that was asked for meanwhile, once",
        arguments: [
            ("starting", .nothing), ("starting, wanted", .nothing), ("idle", .nothing), ("reloading", .nothing),
            ("reloading, again", .begin(.file)), ("stopping", .nothing),
        ] as [(String, ReloadSequence.Action)]
    )
    func finished(state: String, expected: ReloadSequence.Action) throws {
        var sequence = try self.sequence(state)
        #expect(sequence.finished() == expected)
        #expect(sequence.finished() == .nothing)
    }

    @Test("Once the process stops nothing begins, whatever was under way", arguments: Self.states.map(\.name))
    func stop(state: String) throws {
        var sequence = try self.sequence(state)
        sequence.stop()
        #expect(sequence.finished() == .nothing)
        #expect(sequence.started() == .nothing)
        #expect(sequence.requested(.signal) == .tellStopping)
    }

    @Test("Any number of signals while one reload runs are one more")
    func signals() {
        var sequence = ReloadSequence()
        #expect(sequence.started() == .nothing)
        #expect(sequence.requested(.signal) == .begin(.signal))
        for _ in 0..<100 { #expect(sequence.requested(.signal) == .nothing) }
        #expect(sequence.finished() == .begin(.signal))
        #expect(sequence.finished() == .nothing)
        #expect(sequence.requested(.file) == .begin(.file))
    }

    @Test(
        "Of requests that wait the one that reads most counts, in whatever order they came",
        arguments: ReloadSequence.Trigger.allCases,
        ReloadSequence.Trigger.allCases
    )
    func strongest(one: ReloadSequence.Trigger, other: ReloadSequence.Trigger) throws {
        let strongest: ReloadSequence.Trigger =
            [one, other].contains(.signal) ? .signal : [one, other].contains(.file) ? .file : .poll
        var starting = ReloadSequence()
        _ = starting.requested(one)
        _ = starting.requested(other)
        #expect(starting.started() == .begin(strongest))
        var reloading = try self.sequence("reloading")
        _ = reloading.requested(one)
        _ = reloading.requested(other)
        #expect(reloading.finished() == .begin(strongest))
    }
}
