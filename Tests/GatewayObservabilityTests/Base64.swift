// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Base64 of a whole text (RFC 4648 §4, §5), written from the definition to check the cores against.
func base64(_ bytes: [UInt8], isURLSafe: Bool = false, isPadded: Bool = true) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\(isURLSafe ? "-_" : "+/")")
    var text = ""
    for start in stride(from: 0, to: bytes.count, by: 3) {
        let group = Array(bytes[start..<min(start + 3, bytes.count)])
        let bits = (0..<3).reduce(0) { $0 << 8 | ($1 < group.count ? Int(group[$1]) : 0) }
        for character in 0...group.count { text.append(alphabet[bits >> (18 - 6 * character) & 63]) }
        if isPadded { text += String(repeating: "=", count: 3 - group.count) }
    }
    return text
}
