// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTestRandom
import Testing

@testable import GatewayConfiguration

/// A driver of the watch among files that change at random, by a clock of its own.
///
/// Timers are late or early; readings take time, find each file at another moment, and are asked for by signals, too.
private struct Simulation {
    private enum Event {
        case change
        case timer
        case signal
        case readingEnds
    }

    private static let configuration = "/c/config.json"
    private static let paths = [Self.configuration, "/s/a", "/s/b"]

    private var random: SplitMix
    /// Whether there are no pauses, so that nothing ever settles.
    let isRestless: Bool
    private var watch: ConfigurationWatch
    private var sequence = ReloadSequence()
    private var files: [String: ConfigurationWatch.Content] = [:]
    /// What was planned before, by time, and what came of it since.
    private var plan: ArraySlice<(time: Duration, event: Event)> = []
    private var events: [(time: Duration, event: Event)] = []
    private var now = Duration.zero
    private var changedAt = Duration.zero
    /// What was read last, and what the reading that runs has found so far.
    private var read: ConfigurationWatch.Look
    private var found: [String: ConfigurationWatch.Content] = [:]
    /// Looks, one after another, that were neither as what was read last nor without the configuration.
    private var differing: [(time: Duration, look: ConfigurationWatch.Look)] = []
    private var lookedAt: Duration?
    private(set) var faults: [String] = []
    private(set) var readCount = 0
    private(set) var checkCount = 0

    init(seed: UInt64) {
        self.random = SplitMix(seed: seed)
        self.isRestless = seed % 8 == 0
        for path in Self.paths { self.files[path] = .init(bytes: [0]) }
        self.read = ConfigurationWatch.Look(self.files)
        self.watch = ConfigurationWatch(configuration: Self.configuration, read: self.read, now: .zero)
        _ = self.sequence.started()
    }

    mutating func run() {
        self.makePlan()
        self.perform(self.watch.due(now: self.now))
        while self.now < .seconds(300), let (time, event) = self.nextEvent() {
            self.now = max(self.now, time)
            switch event {
            case .change: self.change()
            case .timer: self.perform(self.watch.due(now: self.now))
            case .signal: self.perform(self.sequence.requested(.signal))
            case .readingEnds: self.endReading()
            }
        }
        self.checkStable()
    }

    private mutating func nextEvent() -> (time: Duration, event: Event)? {
        let next = self.events.indices.min { self.events[$0].time < self.events[$1].time }
        if let planned = self.plan.first, next.map({ planned.time <= self.events[$0].time }) ?? true {
            return self.plan.popFirst()
        }
        return next.map { self.events.remove(at: $0) }
    }

    /// Bursts of changes, with pauses between them that are sometimes long enough for everything to be read.
    private mutating func makePlan() {
        var events: [(time: Duration, event: Event)] = []
        var time = Duration.zero
        while time < .seconds(250) {
            let isLong = !self.isRestless && self.random.below(3) == 0
            time += .milliseconds(
                isLong ? 3_000 + self.random.below(6_000) : self.random.below(self.isRestless ? 80 : 800)
            )
            for _ in 0...self.random.below(10) {
                time += .milliseconds(self.random.below(120))
                events.append((time, .change))
            }
            guard self.random.below(self.isRestless ? 500 : 5) == 0 else { continue }
            events.append((time + .milliseconds(self.random.below(4_000)), .signal))
        }
        self.plan = events.sorted { $0.time < $1.time }[...]
    }

    private mutating func change() {
        self.checkStable()
        let path = Self.paths[self.random.below(Self.paths.count)]
        let contents: [ConfigurationWatch.Content] = [
            .missing, .unreadable(code: 13), .init(bytes: [0]), .init(bytes: [1]), .init(bytes: [2]), .init(bytes: [3]),
        ]
        self.files[path] =
            self.isRestless
            ? .unreadable(code: Int32(self.random.below(1 << 30))) : contents[self.random.below(contents.count)]
        self.changedAt = self.now
    }

    /// What has been stable for 3 s was read: 2.25 s until it is, two readings, and timers that are late.
    private mutating func checkStable() {
        let isThere = self.files[Self.configuration] != .missing
        guard self.now - self.changedAt >= .seconds(3), isThere else { return }
        self.checkCount += 1
        guard self.read.contents != self.files else { return }
        self.faults.append("at \(self.now): what stands since \(self.changedAt) was not read")
    }

    private mutating func perform(_ action: ConfigurationWatch.Action) {
        switch action {
        case .nothing: break
        case .look(let time):
            if time <= self.now { self.look() } else { self.setTimer(time) }
        case .tellMissing(let time):
            if self.files[Self.configuration] != .missing { self.faults.append("at \(self.now): it is not missing") }
            self.setTimer(time)
        case .read:
            self.checkRead()
            self.perform(self.sequence.requested(.file))
        }
    }

    private mutating func perform(_ action: ReloadSequence.Action) {
        guard case .begin = action else { return }
        self.found = [Self.configuration: self.files[Self.configuration, default: .missing]]
        self.events.append((self.now + .milliseconds(self.random.below(150)), .readingEnds))
    }

    private mutating func endReading() {
        for path in Self.paths where self.found[path] == nil { self.found[path] = self.files[path] }
        let look = ConfigurationWatch.Look(self.found)
        if self.found[Self.configuration] != .missing { self.read = look }
        self.differing = []
        self.perform(self.watch.didRead(look, now: self.now))
        self.perform(self.sequence.finished())
    }

    private mutating func setTimer(_ time: Duration) {
        self.events.removeAll { $0.event == .timer }
        self.events.append((time + .milliseconds(self.random.below(20) - 1), .timer))
    }

    private mutating func look() {
        if let last = self.lookedAt, self.now - last < .milliseconds(250) {
            self.faults.append("at \(self.now): a look so soon after that of \(last)")
        }
        self.lookedAt = self.now
        let look = ConfigurationWatch.Look(self.files)
        if look == self.read || self.files[Self.configuration] == .missing {
            self.differing = []
        } else {
            self.differing.append((self.now, look))
        }
        self.perform(self.watch.looked(look, now: self.now))
    }

    /// Two equal looks, 250 ms apart, that differ from what was read last; or a minute without.
    private mutating func checkRead() {
        self.readCount += 1
        guard let first = self.differing.first, let last = self.differing.last else {
            self.faults.append("at \(self.now): read although the last look was as what was read last")
            return
        }
        let same = self.differing.reversed().prefix { $0.look == last.look }.last ?? last
        if last.time - same.time < .milliseconds(250), last.time - first.time < .seconds(60) {
            self.faults.append("at \(self.now): read although nothing is settled")
        }
    }
}

@Suite("Watching a configuration, at random") struct ConfigurationWatchScheduleTests {
    @Test(
        "Nothing is read that is not settled, and what is stable is read within 3 s",
        arguments: 0..<96 as Range<UInt64>
    )
    func schedules(seed: UInt64) {
        var simulation = Simulation(seed: seed)
        simulation.run()
        #expect(simulation.faults == [])
        #expect(simulation.readCount > 1 && (simulation.isRestless || simulation.checkCount > 3))
    }

    /// What happens to the files, in ms from its beginning; nil: the configuration is not there.
    private static let stories: [(name: String, changes: [(after: Int, text: String?)])] = [
        ("a link that is swapped, or a time that does not move", [(0, "new")]),
        ("a rename", [(0, nil), (1, "new")]),
        ("ten pieces", (1...10).map { ($0 * 90, String(repeating: "piece", count: $0)) }),
        ("ten slow pieces", (1...10).map { ($0 * 240, String(repeating: "piece", count: $0)) }),
        ("a file deleted and made again", [(0, nil), (400, "new")]),
        ("a file that is away for long", [(0, nil), (20_000, "new")]),
        ("a file that is emptied first", [(0, ""), (100, "new")]),
    ]

    @Test(
        "However a file is replaced, it is read once, whole, and within 2.25 s, whenever that begins",
        arguments: Self.stories.indices,
        [2_000, 2_001, 2_345, 3_200, 3_999]
    )
    func replaced(index: Int, start: Int) throws {
        let path = "/c/config.json"
        let changes = Self.stories[index].changes
        var current = ConfigurationWatch.Look([path: .init(bytes: Array("old".utf8))])
        var watch = ConfigurationWatch(configuration: path, read: current, now: .zero)
        var action = watch.due(now: .zero)
        var reads: [(time: Int, look: ConfigurationWatch.Look)] = []
        for time in 0..<40_000 {
            let now = Duration.milliseconds(time)
            for change in changes where start + change.after == time {
                current = ConfigurationWatch.Look([path: change.text.map { .init(bytes: Array($0.utf8)) } ?? .missing])
            }
            switch action {
            case .look(let next) where next <= now, .tellMissing(let next) where next <= now:
                action = watch.looked(current, now: now)
            case .look, .tellMissing, .nothing: break
            case .read:
                reads.append((time, current))
                action = watch.didRead(current, now: now)
            }
        }
        let last = try #require(changes.last)
        let read = try #require(reads.first)
        #expect(reads.count == 1)
        #expect(read.look == current)
        #expect((250...2_250).contains(read.time - start - last.after))
    }
}
