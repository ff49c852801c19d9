// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy
import GatewayWire
import NIOCore
import NIOPosix
import Testing

@testable import GatewayRuntime
@testable import GatewayTransport

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("A process without descriptors") struct NoDescriptorsTests {
    @Test(
        "That we can open no more sockets is our overload, and nothing that the upstream did",
        arguments: [EMFILE, ENFILE]
    )
    func sorted(code: CInt) {
        let failure = TransportError(dialling: IOError(errnoCode: code, reason: "socket"))
        #expect(failure.code == .noDescriptors)
        let error = GatewayError(failure)
        #expect(error.reason == .overloaded)
        #expect(error.executed == .no)
        #expect(error.isRetryable)
        #expect(error.cause == "descriptors")
        #expect(error.message.contains("raise the limit of open files"))
    }

    @Test("Any other error of a socket is the connection's", arguments: [ECONNRESET, ENETUNREACH, ENOBUFS])
    func others(code: CInt) {
        let failure = TransportError(dialling: IOError(errnoCode: code, reason: "socket"))
        #expect(failure.code == .connectFailed)
        #expect(GatewayError(failure).reason == .unreachable)
    }

    @Test("A name that is not found for want of descriptors is no name without an address")
    func names() {
        #expect(TransportError(resolving: "x", NameResolver.Failure.noDescriptors).code == .noDescriptors)
        #expect(TransportError(resolving: "x", NameResolver.Failure.busy).code == .resolve)
    }
}
