// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// Finds a secret that a document spells out, before variables are replaced.
///
/// A value is a secret where the tables of keys say so, unless variables and files are all that it is made of. Values of `headers` and
/// `env`, arguments and URLs are secret if their names or their looks say so (``SecretText``); keys that are not known are
/// looked at in the same way.
struct LiteralSecretSearch {
    /// The first such value in a document with this table of keys; nil if there is none.
    static func first(in root: Node, _ table: KeyTable) -> Node? { Self.find(in: root, .object(table), name: "") }

    private static func find(in node: Node, _ shape: Shape?, name: String) -> Node? {
        switch node.value {
        case .null, .boolean, .number, .unread: return nil
        case .string(let text): return Self.isSecret(Self.literal(of: text), shape, name: name) ? node : nil
        case .variable(let variable): return Self.isSecret(variable.fallback ?? "", shape, name: name) ? node : nil
        case .array(let elements):
            var before = ""
            for element in elements {
                // An option before it names an argument: `--token`, `abc`.
                let isNamed = before.hasPrefix("-") && element.string?.hasPrefix("-") == false
                let isArgument = name == "args"
                let name = isArgument ? (isNamed ? before : "") : name
                if let found = Self.find(in: element, isArgument ? nil : shape?.element, name: name) { return found }
                before = element.string ?? ""
            }
            return nil
        case .object(let members):
            for member in members {
                if let found = Self.find(in: member.value, shape?.member(member.key), name: member.key) { return found }
            }
            return nil
        }
    }

    private static func isSecret(_ text: String, _ shape: Shape?, name: String) -> Bool {
        // What is left of `Bearer ${TOKEN}` or of `http://${USER}:${PASSWORD}@host` without its variables.
        let words = text.split { !$0.isLetter && !$0.isNumber }
        if words.isEmpty || words.count == 1 && ["bearer", "basic", "token"].contains(words[0].lowercased()) {
            return false
        }
        switch shape {
        case .secret, .filledSecret:
            switch name.lowercased() {
            case "url": return Self.hasUserInformation(text)
            case "username": return false
            default: return true
            }
        case .either(let shapes):
            // An outbound proxy, which is text or an object.
            guard shapes.contains(where: { if case .filledSecret = $0 { true } else { false } }) else { return false }
            return Self.hasUserInformation(text)
        case .webURL, .anything, nil:
            return Self.looksSecret(text, name: name)
        default:
            return false
        }
    }

    /// Whether a value is a secret by its looks, or by the name that somebody gave it.
    private static func looksSecret(_ text: String, name: String) -> Bool {
        if text.contains("://") {
            let path = text.prefix { $0 != "?" }
            return Self.hasUserInformation(text) || !SecretText.queryValues(of: text[...]).isEmpty
                || path.split(separator: "/").contains(where: SecretText.isTokenLike)
        }
        if let equals = text.firstIndex(of: "="), text.hasPrefix("-") {
            return Self.looksSecret(String(text[text.index(after: equals)...]), name: String(text[..<equals]))
        }
        if SecretText.isSecretName(name) {
            let isPath = ["/", "./", "../", "~/"].contains(where: text.hasPrefix) && SecretText.isPlain(text)
            return !isPath && !["true", "false", "yes", "no", "on", "off"].contains(text.lowercased()) && text.count > 1
        }
        return SecretText.hasTokenLikePart(text[...])
    }

    private static func hasUserInformation(_ text: String) -> Bool {
        let rest = text.firstRange(of: "://").map { text[$0.upperBound...] } ?? text[...]
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard let at = authority.lastIndex(of: "@") else { return false }
        return authority[..<at].contains { $0.isLetter || $0.isNumber }
    }

    /// A text without its references to variables and files; what stands in for one that is not set stays.
    private static func literal(of text: String) -> String {
        var result = ""
        var rest = text[...]
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[..<dollar]
            rest = rest[dollar...].dropFirst()
            if rest.first == "$" {
                result += "$"
                rest = rest.dropFirst()
            } else if let end = Self.endOfFileReference(rest) {
                rest = rest[end...]
            } else if rest.first == "{", let close = rest.firstIndex(of: "}") {
                if let fallback = rest[..<close].firstRange(of: ":-") { result += rest[fallback.upperBound..<close] }
                rest = rest[close...].dropFirst()
            } else {
                rest = rest.drop { $0 == "_" || $0.isLetter || $0.isNumber }
            }
        }
        return result + rest
    }

    /// Where a `${file:PATH}` ends that begins here, behind its dollar; nil if it is none.
    private static func endOfFileReference(_ rest: Substring) -> String.Index? {
        let bytes = Array(rest.utf8).dropFirst()
        guard rest.first == "{", SecretFileReference.begins(bytes), let end = SecretFileReference.end(of: bytes) else {
            return nil
        }
        return rest.utf8.index(rest.startIndex, offsetBy: end)
    }
}

extension Shape {
    /// The shape of the elements of an array that fits; nil if it says nothing of them.
    fileprivate var element: Shape? {
        switch self {
        case .list(let element): element
        case .either(let shapes): shapes.lazy.compactMap(\.element).first
        default: nil
        }
    }

    /// The shape of a member of an object that fits; nil if it is not known.
    fileprivate func member(_ key: String) -> Shape? {
        switch self {
        // Of headers and variables their names say more than the table.
        case .map(.secret, _), .map(.written, _): nil
        case .map(let element, _): element
        case .object(let table):
            (table[key] ?? table.key(ignoringCaseOf: key)
                ?? table.spellings[key.lowercased()].flatMap { table[$0.key] })?
                .shape
        case .either(let shapes): shapes.lazy.compactMap { $0.member(key) }.first
        default: nil
        }
    }
}
