// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import NIOCore
import NIOPosix
import Testing

@testable import GatewayServer

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("An address that cannot be listened on") struct ListenErrorTests {
    private static let here = ListenAddress(host: "127.0.0.1", port: 9090)

    @Test(
        "The message says what is wrong, and where to choose another address",
        arguments: [
            (EADDRINUSE, Self.here, "127.0.0.1:9090 is taken by nginx (pid 811). Stop it, or change mcpProxy.addr."),
            (
                EADDRINUSE, ListenAddress(host: "::1", port: 80),
                "[::1]:80 is taken by nginx (pid 811). Stop it, or change"
            ),
            (EADDRINUSE, ListenAddress(host: nil, port: 80), ":80 is taken by nginx (pid 811). Stop it, or change"),
            (
                EACCES, ListenAddress(host: nil, port: 443),
                "port 443 is only for privileged programs. Set mcpProxy.addr to a"
            ),
            (EACCES, Self.here, "the system does not permit to listen on 127.0.0.1:9090. Change mcpProxy.addr"),
            (
                EADDRNOTAVAIL, ListenAddress(host: "10.1.1.1", port: 1),
                "10.1.1.1 is no address of this machine. Set mcpProxy"
            ),
            (
                EAFNOSUPPORT, ListenAddress(host: "::1", port: 1),
                "this machine has no addresses of the kind of [::1]:1."
            ),
            (ENOBUFS, Self.here, "cannot listen on 127.0.0.1:9090: "),
        ] as [(Int32, ListenAddress, String)]
    )
    func messages(code: Int32, address: ListenAddress, beginning: String) {
        let error = ListenError(
            IOError(errnoCode: code, reason: "bind(descriptor:)"),
            at: address,
            holder: "nginx (pid 811)"
        )
        let message = error.message(setting: "mcpProxy.addr")
        #expect(message.hasPrefix(beginning), "\(message)")
        #expect(!message.contains("bind(") && !message.contains("errno") && !message.contains("KEY"))
    }

    @Test("A host without an address, and a holder that nobody may see, are said in words")
    func others() {
        let unknown = ListenError(CancellationError(), at: .init(host: "h", port: 1), holder: nil)
        #expect(unknown.message(setting: "--port") == "the host h has no address. Correct it in --port.")
        let hidden = ListenError(IOError(errnoCode: EADDRINUSE, reason: ""), at: Self.here, holder: nil)
        #expect(hidden.message(setting: "--port").hasPrefix("127.0.0.1:9090 is taken by another process. "))
    }

    @Test("The sockets that listen on a port are read from the table of the system")
    func table() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000
               1: 0100007F:2382 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000000000000000
               2: 00000000000000000000000000000000:2382 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4713 1
               3: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4714 1 0000000000000000
               4: cut off
            """
        #expect(PortHolder.listening(on: 9090, in: table) == ["socket:[4711]", "socket:[4713]"])
        #expect(PortHolder.listening(on: 8080, in: table) == ["socket:[4714]"])
        #expect(PortHolder.listening(on: 1, in: table).isEmpty && PortHolder.listening(on: 1, in: "").isEmpty)
    }

    #if os(Linux)
    @Test("Whoever listens on a port is found: here it is this process")
    func foundSocket() async throws {
        let channel = try await ServerBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = try #require(channel.localAddress?.port)
        #expect(PortHolder.describe(port: port)?.hasSuffix(" (pid \(getpid()))") == true)
        try await channel.close()
    }
    #endif
}
