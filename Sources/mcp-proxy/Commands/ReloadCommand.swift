// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import GatewayConfiguration
import GatewayModel
import GatewayTransport
import GatewayWire

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// `mcp-proxy reload`: has a running gateway read its configuration again, and says what came of it.
struct ReloadCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload",
        abstract: "Check the configuration, have the running gateway read it again, and print what changed.",
        discussion: """
            The gateway is found through its /_status, at the addr of the configuration.
            Exit codes: 0 it goes by the configuration, 1 no gateway was found or it did not answer, 2 the configuration is wrong.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Option(name: .long, help: "Where the gateway listens (HOST:PORT), if not at the addr of the configuration.")
    var addr: String?

    @Option(name: .long, help: "The process id of the gateway, if its /_status cannot be asked.")
    var pid: Int32?

    func validate() throws {
        if let addr, HostPort(addr)?.port == nil { throw ValidationError("--addr takes HOST:PORT") }
        if let pid, pid < 2 { throw ValidationError("--pid takes the number of a process") }
    }

    func run() async throws {
        let result = try await self.options.loadForThisMachine(self.options.environment()).result
        // The gateway may still have the last value of a secret file that is away: it decides about those.
        let errors = result.findings.filter { $0.severity == .error && $0.code != .unusableSecretFile }
        for finding in errors { Output.error(finding.rendered(sourceName: result.sourceName)) }
        guard errors.isEmpty, let snapshot = result.understood else { throw CommandEnd.wrongConfiguration }
        let gateway = RunningGateway(snapshot.listener, addr: self.addr)
        let before: GatewayStatus
        do {
            before = try await gateway.status()
        } catch {
            guard let pid else { throw error }
            try RunningGateway.signal(pid)
            return Output.print("process \(pid) was told to read its configuration again; its log says what came of it")
        }
        try RunningGateway.signal(self.pid ?? before.processID, of: gateway)
        try await self.report(gateway, after: before)
    }

    /// Waits until the gateway has tried, and says how that went.
    private func report(_ gateway: RunningGateway, after before: GatewayStatus) async throws {
        let end = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(50))
            // It may be too busy for a moment.
            guard let now = try? await gateway.status(), now.reloads > before.reloads, let last = now.last else {
                continue
            }
            guard last.result != "rejected" else {
                for problem in last.problems { Output.error(problem) }
                Output.error("the gateway goes on with the configuration that it had (generation \(now.generation))")
                throw CommandEnd.wrongConfiguration
            }
            Output.print(now.text)
            for problem in last.problems { Output.print(problem) }
            return
        }
        throw CommandEnd.cannotRun("the gateway was told, and did not say within 10 s what came of it; see its log")
    }
}

/// A gateway that runs on this machine, as its `/_status` shows it.
private struct RunningGateway {
    private let url: HTTPURL?
    private let place: String
    private let headers: [(String, Secret)]

    init(_ listener: ListenerConfiguration, addr: String?) {
        let address = listener.address
        let host = address.host.flatMap { ["0.0.0.0", "::"].contains($0) ? nil : $0 } ?? "127.0.0.1"
        self.place = addr ?? "\(host.contains(":") ? "[\(host)]" : host):\(address.port)"
        self.url = HTTPURL(written: "http://\(self.place)/_status")
        self.headers = listener.statusTokens.first.map { [("Authorization", Secret("Bearer \($0.reveal())"))] } ?? []
    }

    func status() async throws(CommandEnd) -> GatewayStatus {
        let hint = "--addr names another address, --pid the process"
        guard let url else { throw .cannotRun("\(self.place): no address that can be asked; \(hint)") }
        let answer: ConfigurationFetch.Answer
        do {
            answer = try await ConfigurationFetch.get(
                url,
                headers: self.headers,
                tls: TLSClientConfiguration(),
                proxy: nil,
                timeout: .seconds(5),
                sizeLimit: GatewayStatus.sizeLimit
            )
        } catch {
            switch error.status {
            case 401, 403:
                throw .cannotRun(
                    "the gateway at \(self.place) does not show its /_status to the first token of "
                        + "mcpProxy.options.authTokens; if these have just changed, name the process with --pid"
                )
            default: throw .cannotRun("no gateway at \(self.place): \(error.message); \(hint)")
            }
        }
        guard case .version(let bytes, _) = answer, let status = GatewayStatus(bytes) else {
            throw .cannotRun("what answers at \(self.place) is no mcp-proxy that can reload; \(hint)")
        }
        return status
    }

    /// Tells a process to read its configuration again.
    ///
    /// `gateway` is who gave its number, which may be one of another container.
    static func signal(_ processID: Int32, of gateway: RunningGateway? = nil) throws(CommandEnd) {
        if let name = Self.name(of: processID), name != "mcp-proxy" {
            let said = gateway.map { "the gateway at \($0.place) says that it is process \(processID), but that is" }
            throw .cannotRun(
                "\(said ?? "process \(processID) is") \(name) here: it runs in a container of its own; "
                    + "send SIGHUP there, for instance with docker kill -s HUP CONTAINER"
            )
        }
        guard kill(processID, SIGHUP) != 0 else { return }
        let reason = String(cString: strerror(errno))
        throw .cannotRun("process \(processID) cannot be told to read its configuration again: \(reason)")
    }

    /// What a process is called here; nil where the system does not say so, or there is none.
    private static func name(of processID: Int32) -> String? {
        let descriptor = open("/proc/\(processID)/comm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let bytes = [UInt8](unsafeUninitializedCapacity: 64) { buffer, count in
            count = max(read(descriptor, buffer.baseAddress, buffer.count), 0)
        }
        return String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }
}
