// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The secret in the bytes of a file: UTF-8 text, without the white space at its end.
///
/// Editors and `echo` end a file with a newline, which is no part of the secret. White space at the beginning is left
/// alone: no program puts it there by itself.
package enum SecretFileText {
    /// Bytes that a file may have.
    package static let limit = 64 * 1024

    /// The text of a whole file.
    ///
    /// - Throws: `tooLarge`, `holdsNUL`, `notUTF8` or `empty`.
    static func read(_ bytes: [UInt8]) throws(SecretFileFault) -> String {
        guard bytes.count <= Self.limit else { throw .tooLarge }
        guard !bytes.contains(0) else { throw .holdsNUL }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw .notUTF8 }
        let end = text.utf8.lastIndex { !Self.isWhiteSpace($0) }
        guard let end else { throw .empty }
        return String(text[...end])
    }

    private static func isWhiteSpace(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || (UInt8(ascii: "\t")...UInt8(ascii: "\r")).contains(byte)
    }
}
