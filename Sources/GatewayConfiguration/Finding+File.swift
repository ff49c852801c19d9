// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension Finding {
    /// The configuration file, or a file that it names, can be read by others than its owner (faults.md S2.1).
    ///
    /// Made by whoever can look at the file; `path` is the key that names it, empty for the configuration itself.
    package static func fileReadableByOthers(path: String = "") -> Finding {
        Finding(
            code: .fileReadableByOthers,
            path: path,
            line: 1,
            column: 1,
            message: "the file can be read by its group or by everybody, and may hold secrets; chmod 600 keeps them"
        )
    }

    /// The configuration could not be read at all.
    ///
    /// Made by whoever reads it, so that a file that is missing ends like one that is wrong; `reason` must not hold a
    /// secret.
    package static func unreadable(reason: String) -> Finding {
        Finding(code: .unreadable, path: "", line: 1, column: 1, message: reason)
    }
}
