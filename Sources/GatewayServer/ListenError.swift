// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import NIOCore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Why an address cannot be listened on, in words for whoever chose it.
package struct ListenError: Error, Hashable, Sendable {
    package enum Code: String, Sendable {
        /// Somebody else listens there.
        case taken
        case notPermitted
        /// The machine has no such address.
        case notHere
        case unknownHost
        case other
    }

    package let code: Code
    /// What is wrong.
    package let reason: String
    /// What to do; `KEY` in it stands for where the address was chosen.
    private let advice: String

    /// What is wrong and what helps; `setting` is where the address was chosen, such as `mcpProxy.addr`.
    package func message(setting: String) -> String {
        "\(self.reason). \(self.advice.replacing("KEY", with: setting))"
    }

    /// Reads what came of an attempt to bind; `holder` is who listens there, if that is known.
    init(_ error: any Error, at address: ListenAddress, holder: @autoclosure () -> String?) {
        let host = address.host.map { $0.contains(":") ? "[\($0)]" : $0 } ?? ""
        let place = "\(host):\(address.port)"
        switch (error as? IOError)?.errnoCode {
        case EADDRINUSE:
            self.init(.taken, "\(place) is taken by \(holder() ?? "another process")", "Stop it, or change KEY.")
        case EACCES where address.port < 1024, EPERM where address.port < 1024:
            self.init(
                .notPermitted,
                "port \(address.port) is only for privileged programs",
                "Set KEY to a port of 1024 or above, or give this program CAP_NET_BIND_SERVICE (setcap, or"
                    + " AmbientCapabilities= in a unit)."
            )
        case EACCES, EPERM:
            self.init(
                .notPermitted,
                "the system does not permit to listen on \(place)",
                "Change KEY, or its security policy."
            )
        case EADDRNOTAVAIL:
            self.init(
                .notHere,
                "\(address.host ?? "") is no address of this machine",
                "Set KEY to one that it has, or to :\(address.port) for all of them."
            )
        case EAFNOSUPPORT:
            self.init(.notHere, "this machine has no addresses of the kind of \(place)", "Change KEY.")
        case let code?:
            self.init(.other, "cannot listen on \(place): \(String(cString: strerror(code)))", "Change KEY.")
        case nil:
            self.init(.unknownHost, "the host \(address.host ?? "") has no address", "Correct it in KEY.")
        }
    }

    private init(_ code: Code, _ reason: String, _ advice: String) {
        self.code = code
        self.reason = reason
        self.advice = advice
    }
}
