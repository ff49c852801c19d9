// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the name of an environment variable looks like in `${NAME}`.
enum VariableName {
    /// What a finding says about a malformed reference.
    static let rule =
        "this ${ does not begin ${VAR}, ${VAR:-default} or ${file:PATH}; a name is letters, digits and _, not beginning with a digit;"
        + " a dollar itself is written $$"

    /// Whether these bytes are a name: letters, digits and `_`, not beginning with a digit.
    static func isValid(_ bytes: some Sequence<UInt8>) -> Bool {
        var isEmpty = true
        for byte in bytes {
            if isEmpty, JSONCReader.isDigit(byte) { return false }
            guard JSONCReader.isWordByte(byte) else { return false }
            isEmpty = false
        }
        return !isEmpty
    }
}
