// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A file of this machine, read whole.
package struct LocalFile: Sendable {
    /// Why a file is not read.
    package enum Fault: Error, Hashable, Sendable {
        /// What the system said.
        case system(code: Int32)
        case directory
        /// A pipe, a socket or a device.
        case noRegularFile
    }

    package let bytes: [UInt8]
    /// Whether every user of the machine may read it.
    package let isReadableByOthers: Bool

    /// Reads it, at most one byte more than `limit`.
    ///
    /// `mayWait`: it may be a pipe as well, which is read to its end, whenever that comes.
    ///
    /// - Throws: `Fault` if it is not there, or cannot be read.
    package init(_ path: String, limit: Int, mayWait: Bool = false) throws(Fault) {
        var status = stat()
        // Whoever opens a pipe lets its writer go on, who then finds no reader: what is no file is not even opened.
        if !mayWait, stat(path, &status) == 0, let fault = Self.fault(of: status) { throw fault }
        // Another may have come in its place: a pipe without a writer would hold us up.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | (mayWait ? 0 : O_NONBLOCK))
        guard descriptor >= 0 else { throw .system(code: errno) }
        defer { close(descriptor) }
        guard fstat(descriptor, &status) == 0 else { throw .system(code: errno) }
        if let fault = Self.fault(of: status), fault == .directory || !mayWait { throw fault }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: min(limit + 1, 64 * 1024))
        while bytes.count <= limit {
            let count = Self.read(descriptor, into: &piece, atMost: min(piece.count, limit + 1 - bytes.count))
            guard count >= 0 else { throw .system(code: errno) }
            if count == 0 { break }
            bytes += piece[..<count]
        }
        self.bytes = bytes
        self.isReadableByOthers = status.st_mode & 0o004 != 0
    }

    private static func fault(of status: stat) -> Fault? {
        switch status.st_mode & S_IFMT {
        case S_IFREG: nil
        case S_IFDIR: .directory
        default: .noRegularFile
        }
    }

    /// The call of the system, whose name is that of a member here.
    private static func read(_ descriptor: Int32, into piece: inout [UInt8], atMost count: Int) -> Int {
        piece.withUnsafeMutableBytes { buffer in
            #if canImport(Glibc)
            Glibc.read(descriptor, buffer.baseAddress, count)
            #elseif canImport(Musl)
            Musl.read(descriptor, buffer.baseAddress, count)
            #else
            Darwin.read(descriptor, buffer.baseAddress, count)
            #endif
        }
    }
}

extension LocalFile.Fault {
    /// Whether there is no such file.
    package var isMissing: Bool {
        guard case .system(let code) = self else { return false }
        return code == ENOENT || code == ENOTDIR
    }

    /// What is wrong, in words.
    package var reason: String {
        switch self {
        case .system(let code): String(cString: strerror(code))
        case .directory: "is a directory"
        case .noRegularFile: "is no regular file"
        }
    }
}
