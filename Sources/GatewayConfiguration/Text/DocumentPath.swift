// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Where a value is in the document: `mcpServers.github.options.auth.tokens[1]`.
///
/// A list of steps that children share with their parents, written out only when a finding needs it: a document of
/// 4 MiB can have a long key above a million values.
final class DocumentPath: Sendable, CustomStringConvertible {
    private enum Step: Sendable {
        case key(String)
        case index(Int)
    }

    /// The document as a whole.
    static let root = DocumentPath(parent: nil, step: nil)

    private let parent: DocumentPath?
    private let step: Step?

    private init(parent: DocumentPath?, step: Step?) {
        self.parent = parent
        self.step = step
    }

    /// The path of a member of the object here.
    func appending(key: String) -> DocumentPath { DocumentPath(parent: self, step: .key(key)) }

    /// The path of an element of the array here.
    func appending(index: Int) -> DocumentPath { DocumentPath(parent: self, step: .index(index)) }

    var description: String {
        var steps: [Step] = []
        var path = self
        while let step = path.step {
            steps.append(step)
            guard let parent = path.parent else { break }
            path = parent
        }
        var text = ""
        for step in steps.reversed() {
            switch step {
            case .index(let index): text += "[\(index)]"
            case .key(let key) where Self.isPlain(key): text += text.isEmpty ? key : ".\(key)"
            case .key(let key): text += "[\(Self.quoted(key))]"
            }
        }
        return text
    }

    /// Whether a key can stand after a dot without being misread.
    private static func isPlain(_ key: String) -> Bool {
        (1...Self.shownScalars).contains(key.utf8.count)
            && key.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "$"):
                    true
                default:
                    false
                }
            }
    }

    /// How much of a key is shown.
    private static let shownScalars = 64

    private static func quoted(_ key: String) -> String {
        var text = "\""
        for (count, scalar) in key.unicodeScalars.enumerated() {
            if count == Self.shownScalars {
                text += "…"
                break
            }
            switch scalar {
            case "\"", "\\": text += "\\\(scalar)"
            default: text += scalar.isVisible ? "\(scalar)" : "\\u{\(String(scalar.value, radix: 16))}"
            }
        }
        return text + "\""
    }
}

extension Unicode.Scalar {
    /// Whether the scalar can be shown as it is: it has a shape of its own and does not reorder its surroundings.
    var isVisible: Bool {
        switch self.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
            false
        case .spaceSeparator:
            self == " "
        default:
            true
        }
    }
}
