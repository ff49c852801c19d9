// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Turns the bytes of a configuration file into a snapshot to run with, and into findings.
///
/// Pure: the environment is an argument, and no file is opened, not even one that the configuration names.
package enum ConfigurationLoader {
    /// Reads a whole configuration; bytes of any kind give a result, never a trap.
    ///
    /// `bytes` is UTF-8, with or without a byte order mark. `sourceName` is what findings call it and must not contain
    /// a secret. `environment` holds the variables of the process: what `${VAR}` means, and which proxies it names.
    package static func load(
        bytes: [UInt8],
        sourceName: String,
        environment: [String: String],
        options: LoadOptions = LoadOptions()
    ) -> LoadResult {
        LoadResult(understood: nil, findings: [], sourceName: sourceName)
    }
}
