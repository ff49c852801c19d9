// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import Logging
import NIOCore
import UnixSignals

/// Reads the configuration again when somebody wants it, or when a file of it changed, and has the gateway go by it
/// (decision 0038).
///
/// One reload at a time: whoever wants one meanwhile gets one more behind it.
actor ConfigurationReload {
    /// What the gateway goes by now, and what it was read from.
    struct Running {
        /// As it was read, but with what needs a restart as it was at the start.
        var snapshot: GatewaySnapshot
        /// What secret files gave.
        var memory: SecretFileMemory
        /// What certificates, keys and authorities were.
        var certificates: [String: ConfigurationWatch.Content]
    }

    /// What a reload has to do with: who reads, who goes by what was read, and who is told.
    struct Surroundings {
        let options: ConfigurationOptions
        let gateway: Gateway
        let redactor: CurrentRedactor
        let state: ConfigurationState
        let eventLoop: any EventLoop
        /// Where it listens, whatever a configuration says; nil: where the first one said.
        let address: ListenAddress?
        /// The port that it really listens on.
        let port: Int
        let logger: Logger
    }

    let surroundings: Surroundings
    let results: CounterFamily<ConfigurationState.Result>
    /// Secrets of configurations that ran before, while upstreams of those are not gone yet, and of one that may run soon.
    private var otherSecrets: Set<Secret> = []
    let secretFileErrors: Gauge
    var running: Running
    var history: FindingHistory
    /// nil: nobody looks for changes of files.
    var watch: ConfigurationWatch?
    /// nil: nobody asks a URL for another configuration.
    var poll: ConfigurationPoll?
    /// Whether a configuration is about to take the place of the one that runs.
    private var isApplying = false
    private var sequence = ReloadSequence()
    private let triggers: AsyncStream<ReloadSequence.Trigger>
    private let wanted: AsyncStream<ReloadSequence.Trigger>.Continuation
    /// Rung when a reload is over.
    private let watchAlarm = Alarm()
    private let pollAlarm = Alarm()
    private let origin = ContinuousClock.now

    private let hangups: UnixSignalsSequence

    /// `snapshot` is what the gateway was started with.
    init(_ reloading: GatewayProcess.Reloading, _ snapshot: GatewaySnapshot, in surroundings: Surroundings) {
        let loaded = reloading.loaded
        let watch = reloading.watch
        self.hangups = reloading.hangups
        self.surroundings = surroundings
        let metrics = surroundings.gateway.metrics
        self.results = metrics.counters(.configReloads, by: ConfigurationState.Result.self)
        self.secretFileErrors = metrics.gauge(.configSecretFileErrors)
        self.history = FindingHistory(loaded.result.findings)
        self.running = Running(
            snapshot: snapshot,
            memory: loaded.result.secretFiles,
            certificates: loaded.certificates
        )
        (self.triggers, self.wanted) = AsyncStream.makeStream()
        if watch != .off {
            self.watch = ConfigurationWatch(
                configuration: surroundings.options.config,
                read: ConfigurationWatch.Look(loaded.files),
                now: .zero
            )
        }
        if surroundings.options.isURL, case .every(let interval) = watch {
            self.poll = ConfigurationPoll(
                interval: interval,
                validators: loaded.validators,
                now: .zero,
                jitter: Self.jitter
            )
        }
    }

    /// Since an arbitrary moment.
    var now: Duration { ContinuousClock.now - self.origin }

    static var jitter: Double { Double.random(in: -1...1) }

    // MARK: Life

    /// Reloads whenever that is wanted, until the task is cancelled; what was wanted before waited for this.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.reload() }
            group.addTask { for await _ in self.hangups { await self.request(.signal) } }
            group.addTask { await self.watchFiles() }
            group.addTask { await self.pollURL() }
            group.addTask { await self.forgetSecrets() }
        }
    }

    private func reload() async {
        self.obey(self.sequence.started())
        for await trigger in self.triggers {
            await self.reload(trigger)
            self.watchAlarm.ring()
            self.pollAlarm.ring()
            self.obey(self.sequence.finished())
        }
    }

    /// Somebody wants the configuration to be read again.
    func request(_ trigger: ReloadSequence.Trigger) { self.obey(self.sequence.requested(trigger)) }

    /// The process is about to end: from now on nothing is read again.
    func stop() { self.sequence.stop() }

    private func obey(_ action: ReloadSequence.Action) {
        switch action {
        case .nothing: break
        case .begin(let trigger): self.wanted.yield(trigger)
        case .tellStopping: self.tellStopping()
        }
    }

    func tellStopping() {
        self.surroundings.logger.notice("the configuration is not read again: the gateway stops")
    }

    /// The secrets of an upstream that went are forgotten when it is gone.
    private func forgetSecrets() async {
        for await _ in self.surroundings.gateway.registry.settlements { self.maskSecrets() }
    }

    /// Has the secrets of `next` masked, which may run soon, and keeps those of what runs for as long as anybody can use them.
    func beginApplying(_ next: GatewaySnapshot) {
        self.isApplying = true
        self.otherSecrets.formUnion(LoadedSecrets.values(of: self.running.snapshot))
        self.otherSecrets.formUnion(LoadedSecrets.values(of: next))
        self.maskSecrets()
    }

    /// It runs, or it does not.
    func endApplying() {
        self.isApplying = false
        self.maskSecrets()
    }

    /// Has those secrets masked that anybody can use.
    private func maskSecrets() {
        if !self.isApplying, self.surroundings.gateway.registry.isSettled { self.otherSecrets = [] }
        let configured = LoadedSecrets.values(of: self.running.snapshot)
        self.surroundings.redactor.configure(self.otherSecrets.union(configured))
    }

    // MARK: When

    private func watchFiles() async {
        var action = self.watch?.due(now: self.now)
        while !Task.isCancelled, let next = action {
            switch next {
            case .look(let time):
                guard await self.sleep(until: time, self.watchAlarm) else {
                    action = self.watch?.due(now: self.now)
                    continue
                }
                let look = await self.look(at: self.watch?.paths ?? [])
                action = self.watch?.looked(look, now: self.now)
            case .tellMissing(let time):
                self.surroundings.logger.warning(
                    "the configuration is missing; the gateway goes on with what it has",
                    metadata: ["file": "\(self.surroundings.options.config)"]
                )
                action = .look(at: time)
            case .read:
                self.request(.file)
                action = .nothing
            case .nothing:
                // It is being read: whoever does that says so when it is over.
                _ = await self.watchAlarm.sleep(nil, on: self.surroundings.eventLoop)
                action = self.watch?.due(now: self.now)
            }
        }
    }

    private func pollURL() async {
        while !Task.isCancelled, let time = self.poll?.nextRequest {
            guard await self.sleep(until: time, self.pollAlarm) else { continue }
            self.request(.poll)
            _ = await self.pollAlarm.sleep(nil, on: self.surroundings.eventLoop)
        }
    }

    /// False: the alarm was rung before.
    private func sleep(until time: Duration, _ alarm: Alarm) async -> Bool {
        await alarm.sleep(max(time - self.now, .zero), on: self.surroundings.eventLoop)
    }

    /// What stands at these paths, and where the configuration is if it is no file.
    func look(at paths: [String]) async -> ConfigurationWatch.Look {
        ConfigurationWatch.Look(await self.surroundings.options.contents(of: paths))
    }
}
