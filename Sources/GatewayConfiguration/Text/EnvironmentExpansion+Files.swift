// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension EnvironmentExpansion {
    /// Files that one document may name; each of them is watched while the gateway runs.
    static let fileLimit = 1_000

    /// What the secret in a file is for a value; nil and a finding if there is none, which never makes it weaker.
    mutating func secret(_ reference: SecretFileReference, at node: Node) -> String? {
        guard let path = self.path(of: reference, at: node) else { return nil }
        guard let outcome = self.outcome(at: path, node) else { return nil }
        switch outcome {
        case .read(let text):
            return self.bring(text, node)
        case .kept(let text, let fault):
            self.findings.add(
                .secretFileKept,
                at: node,
                "\(fault.message(path: reference.written)); until then its last value stays"
            )
            return self.bring(text, node)
        case .unusable(let fault):
            let isRelative = reference.parts.count == 1 && !reference.written.hasPrefix("/")
            let advice =
                fault == .missing && isRelative ? "; relative paths count from the directory of the configuration" : ""
            self.findings.add(.unusableSecretFile, at: node, fault.message(path: reference.written) + advice)
            return nil
        }
    }

    private mutating func path(of reference: SecretFileReference, at node: Node) -> String? {
        var bytes: [UInt8] = []
        for part in reference.parts {
            switch part {
            case .text(let text): bytes += text
            case .variable(let name):
                guard let value = self.environment[name], !value.isEmpty else {
                    self.findings.add(
                        .unusableSecretFile,
                        at: node,
                        "the environment variable \(name) is not set, so this names no file"
                            + (name == "CREDENTIALS_DIRECTORY"
                                ? "; systemd sets it for a service that has LoadCredential= or SetCredential=" : "")
                    )
                    return nil
                }
                bytes += value.utf8
            }
        }
        let path = String(decoding: bytes, as: UTF8.self)
        guard let resolved = self.files.resolve(path) else {
            self.findings.add(
                .unusableSecretFile,
                at: node,
                "this configuration came from a URL, so a relative path counts from nowhere; write the whole path,"
                    + " beginning with /"
            )
            return nil
        }
        return resolved
    }

    /// What a file gives to this load: it is read once, so that every reference to it has the same value.
    private mutating func outcome(at path: String, _ node: Node) -> SecretFileMemory.Outcome? {
        if let known = self.outcomes[path] { return known }
        guard self.outcomes.count < Self.fileLimit else {
            self.findings.add(.tooLarge, at: node, "at most \(Self.fileLimit) secret files are read")
            return nil
        }
        let reading = self.files.reader.read(path)
        let outcome = self.secretFiles.take(reading, of: path, last: self.files.memory)
        self.outcomes[path] = outcome
        if case .read = outcome, case .bytes(_, isReadableByOthers: true) = reading, !self.isProtected(path) {
            self.findings.add(
                .secretFileReadableByOthers,
                at: node,
                "everybody on this machine can read this secret file; chmod 400 keeps it for the user of the gateway"
            )
        }
        return outcome
    }

    /// Whether a file is in a place that the system keeps for the secrets of this process alone, whatever its mode says.
    private func isProtected(_ path: String) -> Bool {
        guard !path.split(separator: "/").contains("..") else { return false }
        let credentials = self.environment["CREDENTIALS_DIRECTORY"].map { [$0] } ?? []
        return (["/run/secrets", "/var/run/secrets"] + credentials)
            .contains { !$0.isEmpty && path.hasPrefix($0.hasSuffix("/") ? $0 : "\($0)/") }
    }
}
