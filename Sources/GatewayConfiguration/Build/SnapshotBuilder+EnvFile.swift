// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

extension SnapshotBuilder {
    /// The variables of the file that `envFile` names, by name; a file that gives none of them is an error.
    mutating func variables(inFile node: Node) -> [(name: String, value: Secret)] {
        guard let written = self.path(node) else { return [] }
        guard let path = self.files.resolve(written) else {
            self.findings.add(
                .unusableFile,
                at: node,
                "this configuration came from a URL, so a relative path counts from nowhere; write the whole path"
            )
            return []
        }
        self.mentions.variableFiles.append(path)
        let shown = ConfigurationSummary.shown(path)
        switch self.files.reader.read(path) {
        case .fault(.missing):
            self.findings.add(
                .unusableFile,
                at: node,
                "there is no file \(shown); create it, or remove envFile; relative paths count from the directory of this"
                    + " configuration"
            )
        case .fault(let fault):
            self.findings.add(.unusableFile, at: node, "\(shown) \(fault.reason)")
        case .bytes(let bytes, _) where bytes.count > SecretFileText.limit:
            self.findings.add(.unusableFile, at: node, "\(shown) \(SecretFileFault.tooLarge.reason)")
        case .bytes(let bytes, _):
            do {
                let file = try EnvironmentFile(bytes)
                return file.variables.sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
            } catch {
                self.findings.add(
                    .unusableFile,
                    at: node,
                    "\(shown), line \(error.line), column \(error.column): \(error.message)"
                )
            }
        }
        return []
    }
}

extension SecretFileFault {
    /// What is wrong with a file, behind its name.
    fileprivate var reason: String {
        switch self {
        case .missing: "is not there"
        case .unreadable(let reason): "cannot be read: \(ConfigurationSummary.escaped(reason))"
        case .directory: "is a directory"
        case .noRegularFile: "is no regular file"
        case .tooLarge: "has more than 64 KiB"
        case .notUTF8: "is not UTF-8 text"
        case .holdsNUL: "has a NUL byte in it"
        case .empty: "is empty"
        }
    }
}
