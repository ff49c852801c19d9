// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

/// The ASCII form of the names of hosts (credentials §3.3, rule 2).
enum HostName {
    /// A name whose labels with other letters are the Punycode of the label in lower case; the others stay as they are.
    ///
    /// Nothing else is mapped. Nil for a label with a character that IDNA maps to another one or does not admit, such as
    /// a letter of full width, an emoji or an invisible joiner: which name it stands for is not for us to guess.
    static func ascii(_ name: some StringProtocol) -> String? {
        var labels: [String] = []
        for part in String(name).unicodeScalars.split(separator: ".", omittingEmptySubsequences: false) {
            guard let label = Self.asciiLabel(String(Substring(part))) else { return nil }
            labels.append(label)
        }
        return labels.joined(separator: ".")
    }

    /// The longest label (RFC 1035 §2.3.4).
    private static let longestLabel = 63

    private static func asciiLabel(_ written: String) -> String? {
        guard written.utf8.contains(where: { $0 >= 0x80 }) else { return written }
        let label = written.lowercased()
        guard label.utf8.contains(where: { $0 >= 0x80 }) else { return label }
        guard label.unicodeScalars.allSatisfy(Self.isAdmitted), let encoded = Punycode.encode(label) else { return nil }
        let whole = "xn--" + encoded
        return whole.utf8.count <= Self.longestLabel ? whole : nil
    }

    /// Whether a letter of a label in lower case stands for itself, as nearly as Unicode says so of each alone (RFC 5892 §2).
    private static func isAdmitted(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return true }
        // The two letters that names may hold (RFC 5892 §2.6) and that folding of case would change.
        if scalar == "\u{df}" || scalar == "\u{3c2}" { return true }
        guard !scalar.properties.changesWhenNFKCCaseFolded else { return false }
        switch scalar.properties.generalCategory {
        case .lowercaseLetter, .otherLetter, .modifierLetter, .nonspacingMark, .spacingMark, .decimalNumber: return true
        default: return false
        }
    }
}

extension HTTPURL {
    /// Parses a URL as people write it: its host may have letters outside ASCII, and is kept in the ASCII form.
    ///
    /// Nil for what is no URL with that host either, and for a host that has no such form.
    package init?(written text: String) {
        let bytes = text.utf8
        guard bytes.contains(where: { $0 >= 0x80 }) else {
            self.init(text)
            return
        }
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), bytes[colon...].starts(with: "://".utf8) else {
            return nil
        }
        let start = bytes.index(colon, offsetBy: 3)
        let end = bytes[start...].firstIndex { "/?#".utf8.contains($0) } ?? bytes.endIndex
        let host = bytes[start..<end].lastIndex(of: UInt8(ascii: "@")).map { bytes.index(after: $0) } ?? start
        let port = bytes[host..<end].lastIndex(of: UInt8(ascii: ":")) ?? end
        guard let name = HostName.ascii(text[host..<port]) else { return nil }
        self.init("\(text[..<host])\(name)\(text[port...])")
    }
}
