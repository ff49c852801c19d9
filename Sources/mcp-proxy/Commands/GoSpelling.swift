// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Arguments as the Go program takes them, turned into ours: `-config x`, `-config=x`, `-expand-env=false`,
/// `-insecure=true`.
enum GoSpelling {
    /// Options that may be written with one dash.
    private static let names: Set<String> = [
        "config", "expand-env", "http-headers", "http-timeout", "insecure", "version", "help", "check-config", "doctor",
        "log-level", "log-format",
    ]
    /// Those that are true if they are merely there, and may be given a value all the same.
    private static let switches: Set<String> = ["insecure", "version", "help", "check-config", "doctor"]

    static func translate(_ arguments: [String]) -> [String] {
        var translated: [String] = []
        for (index, argument) in arguments.enumerated() {
            guard argument.hasPrefix("-"), argument != "-", argument != "--" else {
                translated.append(argument)
                continue
            }
            let text = argument.drop { $0 == "-" }
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard let name = parts.first, self.names.contains(name) else {
                translated.append(argument)
                continue
            }
            let value = parts.count == 2 ? parts[1] : nil
            if self.switches.contains(name) {
                if value.map(self.isTrue) ?? true { translated.append("--\(name)") }
            } else if let value {
                translated.append("--\(name)=\(value)")
            } else if name == "expand-env", !self.isBoolean(arguments.dropFirst(index + 1).first) {
                translated.append("--expand-env=true")
            } else {
                translated.append("--\(name)")
            }
        }
        return translated
    }

    /// What Go's `strconv.ParseBool` takes for true.
    private static func isTrue(_ value: String) -> Bool {
        ["1", "t", "T", "true", "TRUE", "True"].contains(value)
    }

    private static func isBoolean(_ value: String?) -> Bool {
        ["true", "false"].contains(value ?? "")
    }
}
