// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The JSON Schema (draft 2020-12) of the configuration file, made from the tables that the reader uses.
package enum ConfigurationSchema {
    /// The schema as indented JSON with a newline at the end.
    package static let text = "{}\n"
}
