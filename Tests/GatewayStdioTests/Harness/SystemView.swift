// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
import GatewayTesting
import Glibc
#else
import Darwin
#endif

/// What the system says of processes and descriptors.
enum SystemView {
    /// Whether a process exists, or any of a group where the number is negative.
    ///
    /// A zombie does not: whether that of a grandchild is reaped is a matter of the system's first process.
    static func exists(_ number: Int32) -> Bool {
        if number > 0 { return !["Z", "X", nil].contains(self.fields(of: number).first) }
        return self.entries(of: "/proc").compactMap { Int32($0) }
            .contains { processID in
                let fields = self.fields(of: processID)
                return fields.count > 2 && fields[2] == "\(-number)" && fields[0] != "Z" && fields[0] != "X"
            }
    }

    /// The fields of /proc/PID/stat from the state on: state, parent, group, session.
    static func fields(of processID: Int32) -> [String] {
        let text = self.content(of: "/proc/\(processID)/stat")
        guard let name = text.lastIndex(of: ")") else { return [] }
        return text[name...].dropFirst().split(separator: " ").map(String.init)
    }

    /// Our children that ended and that nobody waited for.
    static func zombies() -> [Int32] {
        self.entries(of: "/proc").compactMap { Int32($0) }
            .filter { processID in
                let fields = self.fields(of: processID)
                return fields.first == "Z" && fields.count > 1 && fields[1] == "\(getpid())"
            }
    }

    /// Our descriptors of pipes and processes, without the standard three.
    static func pipesAndProcesses() -> Int {
        self.entries(of: "/proc/self/fd").compactMap { Int32($0) }
            .count { descriptor in
                guard descriptor > 2 else { return false }
                let target = self.link("/proc/self/fd/\(descriptor)")
                return target.hasPrefix("pipe:") || target.contains("pidfd")
            }
    }

    /// Waits until something is so; that a process of others is gone is no event that we hear of.
    static func wait(_ what: String, seconds: Int = 20, until isSo: () -> Bool) async throws {
        for _ in 0..<(seconds * 50) {
            if isSo() { return }
            try await Task.sleep(for: .milliseconds(20))
        }
        throw TestTimeout(description: "waited \(seconds) s for: \(what)")
    }

    static func content(of path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 64 * 1024)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    static func link(_ path: String) -> String {
        var bytes = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &bytes, bytes.count)
        return count < 0 ? "" : String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func entries(of path: String) -> [String] {
        guard let directory = opendir(path) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                names.append(String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self))
            }
        }
        return names
    }
}
