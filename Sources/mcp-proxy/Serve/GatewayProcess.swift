// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayStdio
import GatewayTransport
import GatewayWire
import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import UnixSignals

/// A gateway with everything around it: logs, metrics, event loops, signals.
///
/// The composition root.
struct GatewayProcess {
    /// Where the address to listen on was chosen, for whoever has to choose another.
    struct AddressSetting {
        /// File, line and key as the beginning of a message; empty if there is no file.
        let place: String
        /// The key or option.
        let key: String
    }

    private let snapshot: GatewaySnapshot
    private let addressSetting: AddressSetting
    private let threads: Int
    private let format: LogFormat
    private let output: LogOutput
    private let sink: DescriptorLogSink
    private let logger: Logger

    init(
        _ snapshot: GatewaySnapshot,
        addressSetting: AddressSetting,
        format: LogFormat,
        level: Logger.Level,
        threads: Int
    ) {
        self.snapshot = snapshot
        self.addressSetting = addressSetting
        self.threads = threads
        self.format = format
        self.sink = DescriptorLogSink()
        let redactor = CurrentRedactor(LoadedSecrets.values(of: snapshot))
        self.output = LogOutput(format: format, sink: self.sink, redactor: redactor, level: level)
        self.logger = self.output.makeLogger()
    }

    /// What there is to say about the configuration goes to the log.
    func log(_ findings: [Finding], of sourceName: String) { self.logger.log(findings, of: sourceName) }

    /// How the configuration is read again.
    struct Reloading {
        let options: ConfigurationOptions
        /// What the process begins with.
        let loaded: LoadedConfiguration
        /// Where it listens, whatever a configuration says; nil: where that says.
        let address: ListenAddress?
        let watch: WatchSetting
        /// Each SIGHUP.
        let hangups: UnixSignalsSequence
    }

    /// Serves until a signal ends it.
    ///
    /// `reloading` is nil where there is no configuration to read again; `ready` hears where it listens.
    ///
    /// - Throws: `CommandEnd` if it cannot run.
    func run(
        _ reloading: Reloading? = nil,
        ready: @escaping @Sendable (SocketAddress) -> Void = { _ in }
    ) async throws {
        defer { _ = self.sink.flush(timeout: .seconds(2)) }
        CrashLog.start(self.format)
        var snapshot = self.snapshot
        self.fitToFileLimit(&snapshot)
        let group = MultiThreadedEventLoopGroup(numberOfThreads: self.threads)
        let loops = LoopResources.all(of: group)
        let metrics = MetricsRegistry()
        ProcessMetrics.register(in: metrics)
        metrics.callback(.buildInfo, [Version.current]) { 1 }
        metrics.callback(.logDropped) { [sink] in Double(sink.droppedLines) }
        let state = ConfigurationState(source: reloading?.loaded.result.sourceName ?? "")
        let gateway: Gateway
        let handler: GatewayHandler
        do {
            gateway = try Gateway(
                snapshot,
                loops: loops,
                stdio: StdioAccess(environment: ProcessSetup.environment, guardian: self.makeGuard()),
                metrics: metrics,
                log: self.output
            )
            handler = GatewayHandler(gateway, configuration: state)
        } catch {
            throw CommandEnd.wrongConfiguration(Self.text(setUpError: error))
        }
        // Before anybody can know that it runs, so that a signal always means a stop in order.
        let signals = await SignalWatch()
        let listener: Listener
        do {
            listener = try await Listener.bind(
                snapshot.listener.address,
                group: group,
                loops: loops,
                connections: snapshot.listener.limits.connections,
                handler: handler
            )
        } catch {
            let setting = self.addressSetting
            throw CommandEnd.cannotRun("\(setting.place)\(error.message(setting: setting.key))")
        }
        var port = 0
        if let address = listener.address {
            port = address.port ?? 0
            self.announce(address, gateway)
            ready(address)
        }
        let reload = reloading.map { [port] reloading in
            ConfigurationReload(
                reloading,
                self.snapshot,
                in: ConfigurationReload.Surroundings(
                    options: reloading.options,
                    gateway: gateway,
                    redactor: self.output.redactor,
                    state: state,
                    eventLoop: group.next(),
                    address: reloading.address,
                    port: port,
                    logger: self.logger
                )
            )
        }
        try await self.serve(gateway, listener, signals, reload)
        #if DEBUG
        // The loops end last, and with them everything that anybody holds for a peer; but a call whose caller has left may
        // still run, since it holds no stop up.
        try? await group.shutdownGracefully()
        let isAtRest = gateway.held.exchanges == 0
        assert(!isAtRest || gateway.buffers.bytes == 0, "\(gateway.buffers.bytes) bytes were never given back")
        #endif
    }

    /// What keeps the gateway from being set up, in words; the files were looked at before, but may have changed since.
    static func text(setUpError error: any Error) -> String {
        switch error {
        case let error as TLSFileError: "tls.\(error.key.rawValue): \(error.file) \(error.reason)"
        case let collision as RouteTable.Collision:
            "mcpServers: two servers have the path \(collision.path); rename one"
        default: "the gateway cannot be set up; this is a fault of it, please report it"
        }
    }

    /// The process that ends our children if we cannot; without any it starts with the first one.
    private func makeGuard() -> ProcessGuard {
        let hasChildren = self.snapshot.upstreams.contains { upstream in
            guard case .stdio = upstream.transport else { return false }
            return !upstream.isDisabled
        }
        let guardian = ProcessGuard(logger: self.logger)
        if hasChildren { guardian.start() }
        return guardian
    }

    private func serve(
        _ gateway: Gateway,
        _ listener: Listener,
        _ watch: SignalWatch,
        _ reload: ConfigurationReload?
    ) async throws {
        let failure = StartFailure()
        let services = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(
                        service: GatewayService(
                            gateway: gateway,
                            listener: listener,
                            reload: reload,
                            failure: failure,
                            logger: self.logger
                        ),
                        successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .cancelGroup
                    )
                ],
                logger: self.logger
            )
        )
        let signals = Task {
            await watch.run { await services.triggerGracefulShutdown() }
        }
        defer { signals.cancel() }
        do {
            try await services.run()
        } catch {
            // What a library says in its own terms is for a report, not for whoever reads the last line.
            self.logger.debug("stopped by a fault of its own", error: error)
            throw CommandEnd.cannotRun(
                "stopped: a part of the gateway ended by itself; this is a fault of it, please report it"
            )
        }
        if let name = failure.upstream {
            throw CommandEnd.cannotRun("mcpServers.\(name): cannot be initialised, and options.panicIfInvalid is set")
        }
        self.logger.info("stopped")
    }

    private func announce(_ address: SocketAddress, _ gateway: Gateway) {
        self.logger.info(
            "listening",
            metadata: ["address": "\(Self.text(address))", "version": "\(Version.current)"]
        )
        self.logger.announce(gateway.endpoints, port: address.port ?? 0)
    }

    static func text(_ address: SocketAddress) -> String {
        let host = address.ipAddress ?? ""
        return (host.contains(":") ? "[\(host)]" : host) + ":\(address.port ?? 0)"
    }

    /// Callers' connections, our own, and children have to fit (faults S10.9).
    ///
    /// Most systems allow a little less than the default, which nobody needs to know; it matters where it is little, or less
    /// than what somebody asked for.
    private func fitToFileLimit(_ snapshot: inout GatewaySnapshot) {
        let available = ProcessSetup.raiseFileLimit()
        let wanted = snapshot.listener.limits.connections
        let fitting = DescriptorBudget(snapshot).connections(of: available)
        guard wanted > fitting else { return }
        snapshot.listener.limits.connections = fitting
        let isWorthReading = wanted != Limits().connections || fitting < 1_000
        self.logger.log(
            level: isWorthReading ? .warning : .debug,
            "limits.connections lowered to what the limit of open files allows",
            metadata: [
                "connections": "\(fitting)", "wanted": "\(wanted)", "open_files": "\(available)",
                "detail":
                    "raise the limit of open files: LimitNOFILE= in a unit, --ulimit nofile= for a container, ulimit -n",
            ]
        )
    }
}
