// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension Finding {
    /// The configuration file can be read by others than its owner, and has a secret in it (faults S2.1).
    ///
    /// Made by whoever can look at the file; `secret` is where the first one stands.
    package static func fileReadableByOthers(secret: DocumentPlace) -> Finding {
        secret.finding(
            .fileReadableByOthers,
            "others can read this file, and here it spells out a secret; chmod 600 keeps it, or write ${VARIABLE} or"
                + " ${file:PATH} instead"
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
