// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

@Suite("Callers of Secret.reveal") struct RevealCallersTests {
    /// Every file that may read the value of a secret, under `Sources`, and what for.
    ///
    /// To add one is a decision: the value must go to the party that it is for, or be compared, and nowhere else.
    static let allowed: [String: String] = [
        "GatewayModel/Secret.swift": "declares it",
        "GatewayObservability/Redaction/Redactor.swift": "looks for the values in what is printed",
        "GatewayObservability/Redaction/LoadedSecrets.swift": "tells secret values from plain ones",
    ]

    @Test("No file reads the value of a secret but those that are known to")
    func callers() throws {
        let sources = try #require(Self.sources)
        let files = Self.swiftFiles(under: sources)
        #expect(files.count > 10)
        let callers = files.filter { Self.content(of: sources + "/" + $0).contains("reveal()") }
        #expect(Set(callers) == Set(Self.allowed.keys))
    }

    /// The directory `Sources` beside the one with this file.
    static var sources: String? {
        let parts = #filePath.split(separator: "/")
        guard let tests = parts.lastIndex(of: "Tests") else { return nil }
        return "/" + (parts[..<tests] + ["Sources"]).joined(separator: "/")
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
