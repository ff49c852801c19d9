// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import NIOPosix

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// The files that a configuration was read from, as they are at a moment.
enum WatchedFiles {
    /// Larger files are only known to be there.
    private static let sizeLimit = 16 * 1024 * 1024

    /// Reads what stands at these paths, on a thread that may wait for a disk.
    static func contents(of paths: [String]) async -> [String: ConfigurationWatch.Content] {
        let contents = try? await NIOThreadPool.singleton.runIfActive {
            Dictionary(paths.map { ($0, Self.content(of: $0)) }) { first, _ in first }
        }
        return contents ?? [:]
    }

    private static func content(of path: String) -> ConfigurationWatch.Content {
        // A pipe without a writer would hold us up.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return Self.fault(errno) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return Self.fault(errno) }
        // What is no file does not change as one does: reading it would take from it what another reader wants.
        guard status.st_mode & S_IFMT == S_IFREG else { return .unreadable(code: EINVAL) }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 * 1024)
        while true {
            let count = read(descriptor, &piece, piece.count)
            guard count >= 0 else { return Self.fault(errno) }
            if count == 0 { return ConfigurationWatch.Content(bytes: bytes) }
            bytes += piece[..<count]
            guard bytes.count <= Self.sizeLimit else { return .unreadable(code: EFBIG) }
        }
    }

    private static func fault(_ code: Int32) -> ConfigurationWatch.Content {
        code == ENOENT || code == ENOTDIR ? .missing : .unreadable(code: code)
    }
}
