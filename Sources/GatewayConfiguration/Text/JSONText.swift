// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A JSON value to be written, members in the order given.
enum JSONText {
    /// A member of an object.
    struct Member {
        var name: String
        var value: JSONText
    }

    case string(String)
    case integer(Int)
    case boolean(Bool)
    case array([JSONText])
    case members([Member])

    static func object(_ members: [(String, JSONText)]) -> JSONText {
        .members(members.map { Member(name: $0.0, value: $0.1) })
    }

    /// The text with two spaces per level, short arrays of plain values in one line.
    func indented(_ level: Int = 0) -> String {
        switch self {
        case .string(let text): return Self.quoted(text)
        case .integer(let value): return String(value)
        case .boolean(let value): return value ? "true" : "false"
        case .array(let elements):
            let isFlat = elements.allSatisfy(\.isPlain)
            return Self.block(elements.map { $0.indented(level + 1) }, in: ("[", "]"), level: isFlat ? nil : level)
        case .members(let members):
            return Self.block(
                members.map { "\(Self.quoted($0.name)): \($0.value.indented(level + 1))" },
                in: ("{", "}"),
                level: level
            )
        }
    }

    private var isPlain: Bool {
        switch self {
        case .string, .integer, .boolean: true
        case .array, .members: false
        }
    }

    private static func block(_ parts: [String], in brackets: (String, String), level: Int?) -> String {
        guard let level, !parts.isEmpty else { return brackets.0 + parts.joined(separator: ", ") + brackets.1 }
        let indent = String(repeating: "  ", count: level)
        return "\(brackets.0)\n" + parts.map { "\(indent)  \($0)" }.joined(separator: ",\n")
            + "\n\(indent)\(brackets.1)"
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": result += "\\\(scalar)"
            case "\n": result += "\\n"
            default:
                if scalar.value < 0x20 {
                    let digits = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }
}
