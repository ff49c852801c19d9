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
        do {
            let file = try LocalFile(path, limit: Self.sizeLimit)
            return file.bytes.count > Self.sizeLimit
                ? .unreadable(code: EFBIG) : ConfigurationWatch.Content(bytes: file.bytes)
        } catch {
            // What is no file does not change as one does: reading it would take from it what another reader wants.
            guard case .system(let code) = error else { return .unreadable(code: EINVAL) }
            return error.isMissing ? .missing : .unreadable(code: code)
        }
    }
}
