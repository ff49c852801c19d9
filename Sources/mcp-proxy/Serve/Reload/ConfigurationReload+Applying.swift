// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import Logging

/// One reload: read, compare, apply, tell.
extension ConfigurationReload {
    func reload(_ trigger: ReloadSequence.Trigger) async {
        let began = ContinuousClock.now
        let earlier = EarlierLoad(
            address: self.surroundings.address,
            files: self.watch?.paths ?? [],
            secretFiles: self.running.memory,
            validators: trigger == .poll ? self.poll?.validators ?? HTTPValidators() : HTTPValidators()
        )
        let loaded: LoadedConfiguration
        do {
            guard let found = try await self.surroundings.options.loadAgain(after: earlier) else {
                return self.answered(.notModified)
            }
            loaded = found
        } catch {
            self.answered(.failed)
            await self.didNotRead(earlier.files)
            return self.refused(trigger, [error.message ?? "the configuration cannot be read"])
        }
        _ = self.watch?.didRead(ConfigurationWatch.Look(loaded.files), now: self.now)
        guard let snapshot = loaded.result.snapshot else {
            self.answered(.rejected)
            return self.refused(trigger, loaded.result)
        }
        await self.apply(snapshot, loaded, trigger, since: began)
    }

    /// A file that cannot be read is not tried again before it changes; what a URL did not give may be there soon.
    private func didNotRead(_ files: [String]) async {
        if self.surroundings.options.isURL {
            _ = self.watch?.didNotRead(until: self.now + Self.retryTime)
        } else {
            let look = await self.look(at: files)
            _ = self.watch?.didRead(look, now: self.now)
        }
    }

    private static let retryTime = Duration.seconds(30)

    /// What a URL gave.
    private func answered(_ answer: ConfigurationPoll.Answer) {
        _ = self.poll?.answered(answer, now: self.now, jitter: Self.jitter)
    }

    /// Goes by what was read, if it means anything else than what runs.
    private func apply(
        _ snapshot: GatewaySnapshot,
        _ loaded: LoadedConfiguration,
        _ trigger: ReloadSequence.Trigger,
        since began: ContinuousClock.Instant
    ) async {
        let before = self.running
        let changedFiles = Set(loaded.certificates.filter { before.certificates[$0.key] != $0.value }.map(\.key))
        let comparison = SnapshotComparison(from: before.snapshot, to: snapshot, changedFiles: changedFiles)
        var next = snapshot
        next.listener = before.snapshot.listener.tuned(by: snapshot.listener)
        var changes = AppliedChanges()
        if comparison.changesAnything {
            self.beginApplying(next)
            defer { self.endApplying() }
            do {
                changes = try await self.surroundings.gateway.registry.apply(
                    next,
                    changes: Dictionary(comparison.servers.map { ($0.name, $0.verdict) }) { first, _ in first },
                    drainTime: next.listener.drainTimeout
                )
                self.running.snapshot = next
            } catch is CancellationError {
                return self.tellStopping()
            } catch {
                self.answered(.rejected)
                return self.refused(trigger, [GatewayProcess.text(setUpError: error)])
            }
        } else {
            changes.same = comparison.names(.same)
        }
        self.running = Running(snapshot: next, memory: loaded.result.secretFiles, certificates: loaded.certificates)
        self.answered(comparison.changesAnything ? .applied(loaded.validators) : .unchanged(loaded.validators))
        self.secretFileErrors.set(loaded.result.secretFiles.faultCount)
        self.tell(changes, comparison, loaded.result, trigger, since: began)
    }

    // MARK: Telling

    private func tell(
        _ changes: AppliedChanges,
        _ comparison: SnapshotComparison,
        _ loaded: LoadResult,
        _ trigger: ReloadSequence.Trigger,
        since began: ContinuousClock.Instant
    ) {
        let restarts = comparison.restartKeys.map { loaded.needsRestart($0) }
        let findings = loaded.findings + restarts
        self.surroundings.logger.log(self.history.new(in: findings), of: loaded.sourceName)
        self.surroundings.logger.announce(
            self.surroundings.gateway.endpoints,
            port: self.surroundings.port,
            only: changes.added
        )
        let state = self.surroundings.state
        let result: ConfigurationState.Result = comparison.changesAnything ? .applied : .unchanged
        self.results.increment(result)
        state.record(
            ConfigurationState.Reload(
                result,
                trigger: trigger.word,
                changes: changes,
                problems: restarts.map { $0.rendered(sourceName: loaded.sourceName) }
            )
        )
        self.surroundings.logger.notice(
            "configuration reloaded",
            metadata: [
                "added": "\(changes.added.count)", "removed": "\(changes.removed.count)",
                "replaced": "\(changes.replaced.count)", "tuned": "\(changes.tuned.count)",
                "same": "\(changes.same.count)", "took": "\(Int((ContinuousClock.now - began) / .milliseconds(1)))ms",
                "generation": "\(state.generation)", "trigger": "\(trigger.word)",
            ]
        )
    }

    /// What was read cannot run: the gateway goes on with what it had.
    private func refused(_ trigger: ReloadSequence.Trigger, _ loaded: LoadResult) {
        self.surroundings.logger.log(self.history.new(in: loaded.findings), of: loaded.sourceName)
        let errors = loaded.findings.filter { $0.severity == .error }
        self.record(trigger, errors.map { $0.rendered(sourceName: loaded.sourceName) })
    }

    /// Nothing could be read, or it could not be set up.
    private func refused(_ trigger: ReloadSequence.Trigger, _ reasons: [String]) {
        // A URL that is asked now and then is asked again.
        let level: Logger.Level = trigger == .poll ? .warning : .error
        for reason in reasons {
            self.surroundings.logger.log(level: level, "configuration", metadata: ["detail": "\(reason)"])
        }
        self.record(trigger, reasons)
    }

    private func record(_ trigger: ReloadSequence.Trigger, _ problems: [String]) {
        self.results.increment(.rejected)
        self.surroundings.state.record(
            ConfigurationState.Reload(.rejected, trigger: trigger.word, problems: problems)
        )
        self.surroundings.logger.notice(
            "configuration refused",
            metadata: [
                "errors": "\(problems.count)", "trigger": "\(trigger.word)",
                "generation": "\(self.surroundings.state.generation)",
            ]
        )
    }
}

extension ReloadSequence.Trigger {
    /// For logs and `/_status`.
    fileprivate var word: String {
        switch self {
        case .file: "file"
        case .poll: "poll"
        case .signal: "signal"
        }
    }
}
