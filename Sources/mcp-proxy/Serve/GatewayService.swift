// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayRuntime
import GatewayServer
import GatewaySession
import Logging
import ServiceLifecycle
import Synchronization

/// The gateway and its listener as one service: they start together and stop in order.
struct GatewayService: Service {
    let gateway: Gateway
    let listener: Listener
    /// nil: there is no configuration to read again.
    let reload: ConfigurationReload?
    let failure: StartFailure
    let logger: Logger

    /// Calls that run have so long to finish, and sessions so long to be ended upstream (contract §1).
    private static let drainTime = Duration.seconds(25)
    private static let closeTime = Duration.seconds(2)

    func run() async throws {
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                await self.gateway.run { upstream, verdict in
                    guard upstream.settings.panicIfInvalid, verdict != .usable else { return }
                    self.failure.record(upstream.name)
                }
            }
            if let reload { group.addTask { await reload.run() } }
            group.addTask { await self.failure.wait() }
            group.addTask { try? await gracefulShutdown() }
            // A failed start ends it, and so does a signal; the probes and the reloads never end by themselves.
            await group.next()
            await self.reload?.stop()
            self.gateway.beginDraining()
            self.logger.info("stopping", metadata: ["connections": "\(self.listener.connectionCount)"])
            await self.listener.drain(within: Self.drainTime)
            await self.gateway.close(within: Self.closeTime)
            group.cancelAll()
        }
    }
}

/// The first upstream that had to be initialised and could not be (`panicIfInvalid`).
final class StartFailure: Sendable {
    private let name = Mutex<String?>(nil)
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() {
        (self.stream, self.continuation) = AsyncStream.makeStream()
    }

    var upstream: String? { self.name.withLock { $0 } }

    func record(_ upstream: String) {
        self.name.withLock { $0 = $0 ?? upstream }
        self.continuation.finish()
    }

    /// Returns when there is a failure, or when cancelled.
    func wait() async {
        for await _ in self.stream {}
    }
}
