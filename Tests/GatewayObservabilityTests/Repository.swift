// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The files of the repository that the tests were built from, for tests that hold files to each other.
enum Repository {
    /// The directory with `Tests`, in which this file is.
    static var root: String? {
        let parts = #filePath.split(separator: "/")
        guard let tests = parts.lastIndex(of: "Tests") else { return nil }
        return "/" + parts[..<tests].joined(separator: "/")
    }

    /// The Swift files under a directory, as paths from there.
    static func swiftFiles(under directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var files: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasPrefix(".") { continue }
            if name.hasSuffix(".swift") {
                files.append(name)
            } else {
                files += Self.swiftFiles(under: directory + "/" + name).map { name + "/" + $0 }
            }
        }
        return files
    }

    static func content(of path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = fread(&chunk, 1, chunk.count, file)
            guard count > 0 else { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
