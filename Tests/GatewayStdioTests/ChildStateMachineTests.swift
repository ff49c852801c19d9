// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTesting
import Testing

@testable import GatewayStdio

@Suite("Life of a child")
struct ChildStateMachineTests {
    private typealias Machine = StdioChild.StateMachine

    private enum Event {
        case start
        case spawned
        case notSpawned
        case noDescriptors
        case stop
        case kill
        case lineTooLong
        case pipeClosed
        case exited
        case killed
        case drained
        case timer
    }

    private static func send(_ event: Event, to machine: inout Machine) -> Machine.Action {
        switch event {
        case .start: machine.start()
        case .spawned: machine.spawned()
        case .notSpawned: machine.notSpawned("why")
        case .noDescriptors: machine.noDescriptors()
        case .stop: machine.stop()
        case .kill: machine.kill()
        case .lineTooLong: machine.lineTooLong()
        case .pipeClosed: machine.pipeClosed()
        case .exited: machine.exited(.exited(code: 3))
        case .killed: machine.exited(.signalled(9))
        case .drained: machine.drained()
        case .timer: machine.timerFired()
        }
    }

    private static let closeInput = Machine.Action.closeInput(thenWait: .seconds(2))
    private static let terminate = Machine.Action.terminate(thenWait: .seconds(3))
    private static let kill = Machine.Action.kill(thenWait: .seconds(5))
    private static let start = Machine.Action.wait(.seconds(5))
    private static let grace = Machine.Action.wait(.milliseconds(250))
    private static let drain = Machine.Action.drain

    @Test("Every course of events has its end, and only one")
    func courses() {
        let up: [(Event, Machine.Action)] = [(.start, .spawn), (.spawned, .announce)]
        let courses: [[(Event, Machine.Action)]] = [
            up + [(.exited, Self.drain), (.drained, .end(.exited(code: 3)))],
            up + [
                (.exited, Self.drain), (.pipeClosed, .none), (.stop, .none), (.timer, .none),
                (.drained, .end(.exited(code: 3))),
            ],
            up + [(.pipeClosed, Self.grace), (.exited, Self.drain), (.drained, .end(.exited(code: 3)))],
            up + [(.pipeClosed, Self.grace), (.pipeClosed, .none), (.timer, Self.kill), (.killed, Self.drain)]
                + [(.drained, .end(.closedOutput))],
            // It ended by itself before it could be killed.
            up + [(.pipeClosed, Self.grace), (.timer, Self.kill), (.exited, Self.drain)]
                + [(.drained, .end(.exited(code: 3)))],
            up + [(.killed, Self.drain), (.drained, .end(.signalled(9)))],
            up + [
                (.lineTooLong, Self.kill), (.lineTooLong, .none), (.exited, Self.drain), (.drained, .end(.lineTooLong)),
            ],
            up + [(.exited, Self.drain), (.lineTooLong, .end(.exited(code: 3)))],
            up + [(.stop, Self.closeInput), (.stop, .none), (.pipeClosed, .none), (.exited, Self.drain)]
                + [(.drained, .end(.stopped))],
            up + [(.stop, Self.closeInput), (.timer, Self.terminate), (.timer, Self.kill), (.exited, Self.drain)]
                + [(.drained, .end(.stopped))],
            up + [(.stop, Self.closeInput), (.kill, Self.kill), (.kill, .none), (.timer, .end(.stopped))],
            up + [
                (.stop, Self.closeInput), (.lineTooLong, Self.kill), (.exited, Self.drain), (.drained, .end(.stopped)),
            ],
            up + [
                (.pipeClosed, Self.grace), (.stop, Self.closeInput), (.exited, Self.drain), (.drained, .end(.stopped)),
            ],
            [(.start, .spawn), (.notSpawned, .end(.notStarted("why")))],
            [(.start, .spawn), (.stop, Self.start), (.stop, .none), (.notSpawned, .end(.stopped))],
            [(.start, .spawn), (.noDescriptors, .end(.noDescriptors))],
            [(.start, .spawn), (.stop, Self.start), (.noDescriptors, .end(.stopped))],
            [(.start, .spawn), (.stop, Self.start), (.timer, .end(.stopped))],
            [
                (.start, .spawn), (.kill, Self.start), (.spawned, Self.kill), (.exited, Self.drain),
                (.drained, .end(.stopped)),
            ],
            [(.start, .spawn), (.pipeClosed, .none), (.start, .none), (.notSpawned, .end(.notStarted("why")))],
            [(.stop, .end(.stopped))], [(.kill, .end(.stopped))],
        ]
        for (number, course) in courses.enumerated() {
            var machine = Machine()
            for (step, (event, action)) in course.enumerated() {
                expect(machine.hasEnded, is: false)
                expect(Self.send(event, to: &machine), is: action, "course \(number), step \(step)")
            }
            expect(machine.hasEnded, is: true)
            let events: [Event] = [
                .start, .notSpawned, .noDescriptors, .stop, .kill, .lineTooLong, .pipeClosed, .exited, .killed,
                .drained,
                .timer,
            ]
            for event in events { expect(Self.send(event, to: &machine), is: .none) }
            // A start that was given up and succeeds after all.
            expect(Self.send(.spawned, to: &machine), is: Self.kill)
            expect(machine.hasEnded, is: true)
        }
    }

    @Test("Lines are delivered from the announcement to the end, but not once the child is being killed")
    func delivers() {
        let course: [(Event, delivers: Bool, keeps: Bool, takes: Bool)] = [
            (.start, false, true, false), (.spawned, true, false, true),
            (.pipeClosed, true, false, true), (.stop, true, false, false),
            (.exited, true, false, false), (.drained, false, false, false),
        ]
        var machine = Machine()
        for (event, delivers, keeps, takes) in course {
            _ = Self.send(event, to: &machine)
            expect(machine.deliversLines, is: delivers, "\(event)")
            expect(machine.keepsBytes, is: keeps, "\(event)")
            expect(machine.takesLines, is: takes, "\(event)")
        }
        var killed = Machine()
        for event in [Event.start, .spawned, .kill] { _ = Self.send(event, to: &killed) }
        expect(killed.deliversLines, is: false)
        _ = Self.send(.exited, to: &killed)
        expect(killed.deliversLines, is: false)
    }
}
