// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why a file gives no secret.
package enum SecretFileFault: Error, Hashable {
    case missing
    /// The system does not let this user read it; what the system said.
    case unreadable(String)
    case directory
    /// A pipe, a socket or a device.
    case noRegularFile
    /// More than ``SecretFileText/limit`` bytes.
    case tooLarge
    case notUTF8
    case holdsNUL
    /// Nothing, or nothing but white space.
    case empty

    /// What is wrong with the file and what helps; `path` is as somebody wrote it.
    func message(path: String) -> String {
        let shown = ConfigurationSummary.shown(path)
        switch self {
        case .missing:
            let advice = path.hasPrefix("~") ? "~ is not expanded, write ${HOME}/…" : "create it, or correct the path"
            return "there is no secret file \(shown); \(advice)"
        case .unreadable(let reason):
            return "this user cannot read the secret file \(shown) (\(ConfigurationSummary.escaped(reason)));"
                + " let the user of the gateway read it"
        case .directory:
            return "\(shown) is a directory; name the file in it that holds the secret"
        case .noRegularFile:
            return "\(shown) is no regular file; a secret is read from one"
        case .tooLarge:
            return "the secret file \(shown) has more than 64 KiB; no secret is so long, so this may be another file"
        case .notUTF8:
            return "the secret file \(shown) is not UTF-8 text; write bytes as base64 or hexadecimal digits"
        case .holdsNUL:
            return "the secret file \(shown) has a NUL byte in it, which no header can hold; write it as text"
        case .empty:
            return "the secret file \(shown) is empty, or nothing but white space; write the secret into it"
        }
    }
}
