// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The inputs under `Fuzz/Corpus`.
enum Corpus {
    struct File: Sendable, CustomStringConvertible {
        let name: String
        let bytes: [UInt8]

        var description: String { self.name }
    }

    /// All files of one target, in the order of their names.
    static func files(_ target: String, sourceFile: String = #filePath) throws -> [File] {
        let root = URL(fileURLWithPath: sourceFile)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let folder = root.appendingPathComponent("Fuzz/Corpus/\(target)")
        return try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
            .map { name in
                File(name: name, bytes: Array(try Data(contentsOf: folder.appendingPathComponent(name))))
            }
    }
}
