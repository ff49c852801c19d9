// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// The machine that a configuration is for, as far as it can be looked at without starting or asking anybody.
package protocol Machine {
    /// What is at a path, relative ones as this process sees them.
    func entry(at path: String) -> MachineEntry
    /// Whether this user may list and enter the directory at a path.
    func canEnter(_ path: String) -> Bool
    /// What stands behind `#!` at the beginning of a program; nil if there is no such line, or it cannot be read.
    func interpreter(of path: String) -> String?
    /// What is wrong with the files that `tls` names; nil if they can be used.
    func fault(in tls: TLSClientConfiguration) -> MachineFault?
}

/// What is at a path.
package enum MachineEntry: Hashable, Sendable {
    case nothing
    case directory
    /// Anything but a directory.
    case file(isExecutable: Bool)
}

/// A file that `tls` names and that cannot be used.
package struct MachineFault: Hashable, Sendable {
    /// The name of the key: `caFile`, `certFile` or `keyFile`.
    package let key: String
    /// What is wrong with it, and what helps.
    package let reason: String

    package init(key: String, reason: String) {
        self.key = key
        self.reason = reason
    }
}
