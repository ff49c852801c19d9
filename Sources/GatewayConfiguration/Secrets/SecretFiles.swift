// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Looks at the files that `${file:PATH}` names.
package protocol SecretFileReader: Sendable {
    /// Reads a file, or says why that cannot be; at most one byte more than ``SecretFileText/limit``.
    func read(_ path: String) -> SecretFileReading
}

/// What came of reading a file.
package enum SecretFileReading: Sendable {
    /// `isReadableByOthers`: whether every user of the machine may read it.
    case bytes([UInt8], isReadableByOthers: Bool)
    case fault(SecretFileFault)
}

/// Where the secrets of one load come from that stand in files.
package struct SecretFiles: Sendable {
    /// A load that may read no file: each is missing.
    package static let none = SecretFiles(directory: nil, reader: NoFiles())

    private struct NoFiles: SecretFileReader {
        func read(_ path: String) -> SecretFileReading { .fault(.missing) }
    }

    /// Where relative paths count from: the directory of the configuration; nil if it came from a URL.
    let directory: String?
    let reader: any SecretFileReader
    let memory: SecretFileMemory

    /// `memory` is that of the configuration that runs, if there is one.
    package init(
        directory: String?,
        reader: any SecretFileReader,
        memory: SecretFileMemory = SecretFileMemory()
    ) {
        self.directory = directory
        self.reader = reader
        self.memory = memory
    }

    /// The directory that relative paths in a configuration count from, which is where the configuration is.
    package static func directory(ofFileAt path: String) -> String {
        path.lastIndex(of: "/").map { String(path[...$0]) } ?? ""
    }

    /// A path that begins at the root, or wherever this process is; nil for a relative one in a document from a URL.
    func resolve(_ path: String) -> String? {
        guard !path.hasPrefix("/") else { return path }
        return self.directory.map { $0.isEmpty || $0.hasSuffix("/") ? "\($0)\(path)" : "\($0)/\(path)" }
    }
}
