// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The files of this machine that `${file:PATH}` names.
package struct SecretFilesOnDisk: SecretFileReader {
    package init() {}

    package func read(_ path: String) -> SecretFileReading {
        do {
            let file = try LocalFile(path, limit: SecretFileText.limit)
            return .bytes(file.bytes, isReadableByOthers: file.isReadableByOthers)
        } catch {
            return .fault(Self.fault(error))
        }
    }

    private static func fault(_ fault: LocalFile.Fault) -> SecretFileFault {
        switch fault {
        case .system where fault.isMissing: .missing
        case .system: .unreadable(fault.reason)
        case .directory: .directory
        case .noRegularFile: .noRegularFile
        }
    }
}
