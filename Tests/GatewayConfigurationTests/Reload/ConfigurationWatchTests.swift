// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Watching a configuration") struct ConfigurationWatchTests {
    private typealias Look = ConfigurationWatch.Look

    private static let path = "/c/config.json"

    /// A look at the configuration and one file that it names.
    private static func look(_ configuration: UInt8?, secret: UInt8? = 0) -> ConfigurationWatch.Look {
        ConfigurationWatch.Look([
            Self.path: configuration.map { .init(bytes: [$0]) } ?? .missing,
            "/run/secrets/a": secret.map { .init(bytes: [$0]) } ?? .missing,
        ])
    }

    private static let read: ConfigurationWatch.Look = Self.look(0)
    private static let other: ConfigurationWatch.Look = Self.look(1)
    private static let missing: ConfigurationWatch.Look = Self.look(nil)

    private static func at(_ seconds: Double) -> Duration { .seconds(seconds) }

    /// A watch in each of its states at 100 s, where the last look was taken.
    private static let states: [(name: String, make: @Sendable () -> ConfigurationWatch)] = [
        ("quiet", { Self.watch([(100, Self.read)]) }),
        ("settling", { Self.watch([(100, Self.other)]) }),
        ("gone", { Self.watch([(100, Self.missing)]) }),
        ("gone and told", { Self.watch([(94, Self.missing), (100, Self.missing)]) }),
        ("reading", { Self.watch([(99, Self.other), (100, Self.other)]) }),
    ]

    private static func watch(_ looks: [(Double, ConfigurationWatch.Look)]) -> ConfigurationWatch {
        var watch = ConfigurationWatch(configuration: Self.path, read: Self.read, now: .zero)
        for (seconds, look) in looks { _ = watch.looked(look, now: Self.at(seconds)) }
        return watch
    }

    private func watch(_ state: String) throws -> ConfigurationWatch {
        try #require(Self.states.first { $0.name == state }).make()
    }

    @Test(
        "The timer leads to the look that is due, and to none while the configuration is read",
        arguments: [
            ("quiet", 102), ("settling", 100.25), ("gone", 100.25), ("gone and told", 102), ("reading", nil),
        ] as [(String, Double?)]
    )
    func due(state: String, next: Double?) throws {
        var watch = try self.watch(state)
        #expect(watch.due(now: Self.at(100.1)) == next.map { .look(at: Self.at($0)) } ?? .nothing)
        #expect(watch.due(now: Self.at(200)) == next.map { _ in .look(at: Self.at(200)) } ?? .nothing)
    }

    /// State, what the look at 101 s finds, and what follows.
    private static let table: [(state: String, look: ConfigurationWatch.Look, action: ConfigurationWatch.Action)] = [
        ("quiet", Self.read, .look(at: Self.at(103))), ("quiet", Self.other, .look(at: Self.at(101.25))),
        ("quiet", Self.missing, .look(at: Self.at(101.25))),
        ("settling", Self.read, .look(at: Self.at(103))), ("settling", Self.other, .read),
        ("settling", Self.look(2), .look(at: Self.at(101.25))),
        ("settling", Self.missing, .look(at: Self.at(101.25))),
        ("gone", Self.read, .look(at: Self.at(103))), ("gone", Self.other, .look(at: Self.at(101.25))),
        ("gone", Self.missing, .look(at: Self.at(101.25))),
        ("gone and told", Self.read, .look(at: Self.at(103))),
        ("gone and told", Self.other, .look(at: Self.at(101.25))),
        ("gone and told", Self.missing, .look(at: Self.at(103))),
        ("reading", Self.read, .nothing), ("reading", Self.other, .nothing), ("reading", Self.look(2), .nothing),
        ("reading", Self.missing, .nothing),
    ]

    @Test("A look leads to what the table of decision 0038 says", arguments: Self.table.indices)
    func looked(index: Int) throws {
        let row = Self.table[index]
        var watch = try self.watch(row.state)
        #expect(watch.looked(row.look, now: Self.at(101)) == row.action, "\(row.state)")
    }

    @Test("What was read is what counts, whoever asked for it", arguments: Self.states.map(\.name))
    func didRead(state: String) throws {
        var watch = try self.watch(state)
        #expect(watch.didRead(Self.look(2), now: Self.at(101)) == .look(at: Self.at(103)))
        #expect(watch.due(now: Self.at(101)) == .look(at: Self.at(103)))
        #expect(watch.looked(Self.look(2), now: Self.at(103)) == .look(at: Self.at(105)))
        #expect(watch.looked(Self.read, now: Self.at(105)) == .look(at: Self.at(105.25)))
        #expect(watch.looked(Self.read, now: Self.at(105.25)) == .read)
    }

    @Test("A reading that did not find the configuration read nothing", arguments: Self.states.map(\.name))
    func didReadNothing(state: String) throws {
        var watch = try self.watch(state)
        let isTold = state == "gone and told"
        #expect(watch.didRead(Self.missing, now: Self.at(101)) == .look(at: Self.at(isTold ? 103 : 101.25)))
        // What was read before still counts.
        #expect(watch.looked(Self.read, now: Self.at(102)) == .look(at: Self.at(104)))
    }

    @Test("What could not be had is tried again from the given time on", arguments: Self.states.map(\.name))
    func didNotRead(state: String) throws {
        var watch = try self.watch(state)
        #expect(watch.didNotRead(until: Self.at(131)) == .look(at: Self.at(131)))
        #expect(watch.due(now: Self.at(101)) == .look(at: Self.at(131)))
        #expect(watch.looked(Self.other, now: Self.at(131)) == .look(at: Self.at(131.25)))
        #expect(watch.looked(Self.other, now: Self.at(131.25)) == .read)
    }

    @Test("Two looks that are the same and less than 250 ms apart are not enough")
    func tooEarly() throws {
        var watch = try self.watch("settling")
        #expect(watch.looked(Self.other, now: Self.at(100.2)) == .look(at: Self.at(100.25)))
        #expect(watch.looked(Self.other, now: Self.at(100.249)) == .look(at: Self.at(100.25)))
        #expect(watch.looked(Self.other, now: Self.at(100.25)) == .read)
    }

    @Test("A file that changes back is not read")
    func back() {
        var watch = Self.watch([(100, Self.other), (100.25, Self.look(2))])
        #expect(watch.looked(Self.read, now: Self.at(100.5)) == .look(at: Self.at(102.5)))
        #expect(watch.looked(Self.look(2), now: Self.at(102.5)) == .look(at: Self.at(102.75)))
    }

    @Test("What does not settle for 60 s is read all the same, and the next 60 s count anew")
    func unsettled() {
        var watch = ConfigurationWatch(configuration: Self.path, read: Self.read, now: .zero)
        var now = 10.0
        var reads: [Double] = []
        for number in 0..<600 {
            let look = Self.look(number % 2 == 0 ? 1 : 2, secret: UInt8(number % 251))
            if watch.looked(look, now: Self.at(now)) == .read {
                reads.append(now)
                _ = watch.didRead(look, now: Self.at(now))
            }
            now += 0.25
        }
        #expect(reads == [70, 130.25])
    }

    @Test("A configuration that is away for 5 s is said to be missing, once each time that it goes")
    func missing() {
        var watch = ConfigurationWatch(configuration: Self.path, read: Self.read, now: .zero)
        for start in [10.0, 100] {
            var now = start
            while now < start + 5 {
                #expect(watch.looked(Self.missing, now: Self.at(now)) == .look(at: Self.at(now + 0.25)))
                now += 0.25
            }
            #expect(watch.looked(Self.missing, now: Self.at(now)) == .tellMissing(lookAt: Self.at(now + 2)))
            #expect(watch.due(now: Self.at(now)) == .look(at: Self.at(now + 2)))
            #expect(watch.looked(Self.missing, now: Self.at(now + 2)) == .look(at: Self.at(now + 4)))
            #expect(watch.looked(Self.read, now: Self.at(now + 4)) == .look(at: Self.at(now + 6)))
        }
    }

    @Test("A configuration that no look mentions is missing")
    func unmentioned() {
        var watch = ConfigurationWatch(configuration: Self.path, read: Self.read, now: .zero)
        #expect(watch.looked(Look([:]), now: Self.at(5)) == .look(at: Self.at(5.25)))
        #expect(watch.looked(Look([:]), now: Self.at(10)) == .tellMissing(lookAt: Self.at(12)))
    }

    @Test("A secret that is missing settles as any other change does, and so does one that cannot be read")
    func missingSecret() {
        let unreadable = Look([Self.path: .init(bytes: [0]), "/run/secrets/a": .unreadable(code: 13)])
        for look in [Self.look(0, secret: nil), unreadable] {
            var watch = ConfigurationWatch(configuration: Self.path, read: Self.read, now: .zero)
            #expect(watch.looked(look, now: Self.at(5)) == .look(at: Self.at(5.25)))
            #expect(watch.looked(look, now: Self.at(5.25)) == .read)
        }
    }

    @Test("What has to be looked at is the configuration and what it named when it was read last")
    func paths() {
        var watch = ConfigurationWatch(configuration: Self.path, read: Look([:]), now: .zero)
        #expect(watch.paths == [Self.path])
        _ = watch.didRead(Look([Self.path: .init(bytes: []), "/b": .missing, "/a": .unreadable(code: 1)]), now: .zero)
        #expect(watch.paths == ["/a", "/b", Self.path])
        _ = watch.didRead(Self.missing, now: .zero)
        #expect(watch.paths == ["/a", "/b", Self.path])
    }

    @Test("Contents are the same if their bytes are, and an empty file is not a missing one")
    func contents() {
        let contents: [ConfigurationWatch.Content] = [
            .missing, .unreadable(code: 1), .unreadable(code: 2), .init(bytes: []), .init(bytes: [0]),
            .init(bytes: [0, 0]), .init(bytes: [1]), .init(bytes: Array(repeating: 7, count: 100_000)),
            .init(bytes: Array(repeating: 7, count: 100_001)),
        ]
        #expect(Set(contents).count == contents.count)
        #expect(ConfigurationWatch.Content(bytes: Array("text".utf8)) == .init(bytes: Array("text".utf8)))
    }
}
