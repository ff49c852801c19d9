// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What a value of the configuration may look like.
///
/// One description for two readers: `DocumentCheck` holds documents against it, `ConfigurationSchema` writes it as JSON
/// Schema.
indirect enum Shape: Sendable {
    case text
    /// A string, or a number or boolean that is read as its text.
    case written
    /// A string that is not blank.
    case filledText
    /// A string that is never shown.
    case secret
    /// A string that is never shown and is not blank.
    case filledSecret
    /// A string that is an absolute http or https URL.
    case webURL
    case flag
    /// A whole number.
    case integer(ClosedRange<Int>)
    /// One of these whole numbers.
    case oneOf([Int])
    /// A string in Go's grammar, or whole milliseconds.
    case duration
    /// Whole bytes, or a string such as `4MiB`.
    case size(ClosedRange<Int>)
    /// One of these strings.
    case choice([String], ignoringCase: Bool = false)
    case list(Shape)
    /// An object with keys of the operator's choice; `names` is what they look like, as a regular expression of the
    /// schema.
    case map(Shape, names: String? = nil)
    case object(KeyTable)
    /// The first whose JSON type is that of the value.
    case either([Shape])
    /// Only `false`.
    case off
    /// Anything; nobody reads it.
    case anything
    /// Nothing: the key has no place here, for this reason.
    case never(String)

    /// The types of JSON values that can fit.
    var kinds: Set<Kind> {
        switch self {
        case .text, .filledText, .secret, .filledSecret, .webURL, .choice: [.string]
        case .written: [.string, .number, .boolean]
        case .flag, .off: [.boolean]
        case .integer, .oneOf: [.number]
        case .duration, .size: [.string, .number]
        case .list: [.array]
        case .map, .object: [.object]
        case .either(let shapes): shapes.reduce(into: []) { $0.formUnion($1.kinds) }
        case .anything, .never: Set(Kind.allCases)
        }
    }

    /// What is accepted, for a message.
    var expectation: String {
        switch self {
        case .text, .filledText, .secret, .filledSecret: "a string"
        case .written: "a string, a number, true or false"
        case .webURL: "a string with an absolute http or https URL"
        case .flag: "true or false"
        case .integer(let range): "a whole number\(Self.describe(range))"
        case .oneOf(let values): values.map(String.init).joined(separator: " or ")
        case .duration: "a duration such as \"30s\", or whole milliseconds"
        case .size: "a size such as \"4MiB\", or whole bytes"
        case .choice(let values, _): values.map { "\"\($0)\"" }.joined(separator: " or ")
        case .list(let element): "an array of \(element.plural)"
        case .map(let element, _): "an object whose values are \(element.plural)"
        case .object: "an object"
        case .either(let shapes): shapes.map(\.expectation).joined(separator: ", or ")
        case .off: "false"
        case .anything: "any value"
        case .never(let reason): "nothing (\(reason))"
        }
    }

    private var plural: String {
        switch self {
        case .text, .filledText, .secret, .filledSecret: "strings"
        case .written: "strings, numbers, true or false"
        case .integer: "whole numbers"
        case .object: "objects"
        case .oneOf: "numbers out of \(self.expectation)"
        default: self.expectation
        }
    }

    private static func describe(_ range: ClosedRange<Int>) -> String {
        range.upperBound == Int.max
            ? " of \(range.lowerBound) or more" : " from \(range.lowerBound) to \(range.upperBound)"
    }

    /// A type of JSON value; `null` stands for an absent one everywhere.
    enum Kind: CaseIterable {
        case boolean
        case number
        case string
        case array
        case object

        init?(_ value: Node.Value) {
            switch value {
            case .boolean: self = .boolean
            case .number: self = .number
            case .string: self = .string
            case .array: self = .array
            case .object: self = .object
            case .null, .variable, .unread: return nil
            }
        }
    }
}
