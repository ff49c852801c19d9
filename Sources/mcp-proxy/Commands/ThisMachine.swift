// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import GatewayModel
import GatewayTransport
import GatewayWire

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// The machine that this process runs on.
struct ThisMachine: Machine {
    /// What it is called in its network; nil if the system does not say it.
    static var name: String? {
        var bytes = [CChar](repeating: 0, count: 256)
        guard gethostname(&bytes, bytes.count - 1) == 0 else { return nil }
        let name = String(decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return HostPort(name)?.host
    }

    func entry(at path: String) -> MachineEntry {
        var status = stat()
        guard stat(path, &status) == 0 else { return .nothing }
        if status.st_mode & S_IFMT == S_IFDIR { return .directory }
        return .file(isExecutable: access(path, X_OK) == 0)
    }

    func canEnter(_ path: String) -> Bool { access(path, X_OK) == 0 }

    func interpreter(of path: String) -> String? {
        // A pipe without a writer would hold us up.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        // No system reads more of the line.
        let bytes = [UInt8](unsafeUninitializedCapacity: 256) { buffer, count in
            count = max(Glibc.read(descriptor, buffer.baseAddress, buffer.count), 0)
        }
        guard bytes.starts(with: "#!".utf8) else { return nil }
        return String(decoding: bytes.dropFirst(2).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    func fault(in tls: TLSClientConfiguration) -> MachineFault? {
        TLSFiles.fault(in: tls).map { MachineFault(key: $0.key.rawValue, reason: $0.reason) }
    }
}
