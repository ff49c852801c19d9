// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation

/// The files of the repository that tests read.
enum Repository {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    static func bytes(of path: String) throws -> [UInt8] {
        try Array(Data(contentsOf: Self.root.appending(path: path)))
    }

    static func text(of path: String) throws -> String {
        try String(decoding: self.bytes(of: path), as: UTF8.self)
    }

    /// The names of the files in a directory, sorted.
    static func files(in path: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: Self.root.appending(path: path).path()).sorted()
    }
}
