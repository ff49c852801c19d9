// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

// A secret that is rotated is away for a moment, and a volume can be unmounted for longer. While the gateway runs, what it
// has stays good until something better is there: a file that cannot be used keeps its last value, with a warning. At the
// start there is nothing to keep, and neither is there for a file that the running configuration does not name: then it is
// an error like any other.

/// The secrets that files gave to the configuration that runs, by the paths of the files.
///
/// A value: a load makes the next one (``LoadResult/secretFiles``), which counts once its configuration runs.
package struct SecretFileMemory: Sendable {
    /// What a file gives to a load.
    enum Outcome {
        case read(String)
        /// It cannot be used now; this is the last value that it gave.
        case kept(String, SecretFileFault)
        case unusable(SecretFileFault)
    }

    private struct Entry {
        var value: Secret
        var fault: SecretFileFault?
    }

    private var entries: [String: Entry] = [:]
    /// Those that gave nothing, now or before.
    private var unusable: Set<String> = []

    /// Nothing is remembered, as at a start.
    package init() {}

    /// The files, sorted: all that a configuration names, also those that give nothing.
    package var paths: [String] { self.unusable.union(self.entries.keys).sorted() }

    /// How many files cannot be used now and keep their last value (`config_secret_file_errors`).
    package var faultCount: Int { self.entries.values.count { $0.fault != nil } }

    /// The values, for the redactor.
    var values: [Secret] { self.entries.keys.sorted().compactMap { self.entries[$0]?.value } }

    /// Takes what a file gave now; `last` is the memory of the configuration that runs.
    mutating func take(_ reading: SecretFileReading, of path: String, last: SecretFileMemory) -> Outcome {
        let fault: SecretFileFault
        switch reading {
        case .bytes(let bytes, _):
            do {
                let text = try SecretFileText.read(bytes)
                self.entries[path] = Entry(value: Secret(text))
                return .read(text)
            } catch let found {
                fault = found
            }
        case .fault(let found):
            fault = found
        }
        guard var entry = last.entries[path] else {
            self.unusable.insert(path)
            return .unusable(fault)
        }
        entry.fault = fault
        self.entries[path] = entry
        return .kept(entry.value.reveal(), fault)
    }
}
