// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The files of this machine that `${file:PATH}` names.
package struct SecretFilesOnDisk: SecretFileReader {
    package init() {}

    package func read(_ path: String) -> SecretFileReading {
        // A pipe without a writer would hold us up.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { return .fault(Self.fault(errno)) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { return .fault(Self.fault(errno)) }
        switch status.st_mode & S_IFMT {
        case S_IFREG: break
        case S_IFDIR: return .fault(.directory)
        default: return .fault(.noRegularFile)
        }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: SecretFileText.limit + 1)
        while bytes.count <= SecretFileText.limit {
            let count = Self.read(descriptor, into: &piece, atMost: piece.count - bytes.count)
            guard count >= 0 else { return .fault(Self.fault(errno)) }
            if count == 0 { break }
            bytes += piece[..<count]
        }
        return .bytes(bytes, isReadableByOthers: status.st_mode & 0o004 != 0)
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

    private static func fault(_ code: Int32) -> SecretFileFault {
        code == ENOENT || code == ENOTDIR ? .missing : .unreadable(String(cString: strerror(code)))
    }
}
