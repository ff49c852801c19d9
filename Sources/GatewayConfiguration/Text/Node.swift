// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A value of the document, with its place.
struct Node: Sendable {
    enum Value: Sendable {
        case null
        case boolean(Bool)
        /// The text as written: nothing is lost by reading it.
        case number(String)
        case string(String)
        case array([Node])
        /// In the order of the document, keys different from each other.
        case object([Member])
        /// An unquoted `${VAR}`.
        case variable(Variable)
        /// Something that a finding already speaks about, and nobody else should.
        case unread
    }

    /// A key and its value.
    struct Member: Sendable {
        var key: String
        /// Where the key stands.
        var position: SourcePosition
        var value: Node
    }

    /// `${name}` or `${name:-fallback}`.
    struct Variable: Hashable, Sendable {
        var name: String
        var fallback: String?
    }

    var value: Value
    var position: SourcePosition
    var path: DocumentPath
    /// The keys of an object that its table does not have, once it was held against one.
    var unknownKeys: [String] = []

    /// What kind of value it is, for a message.
    var kind: String {
        switch self.value {
        case .null: "null"
        case .boolean(let value): value ? "true" : "false"
        case .number: "a number"
        case .string: "a string"
        case .array: "an array"
        case .object: "an object"
        case .variable: "a variable"
        case .unread: "nothing readable"
        }
    }

    var string: String? {
        guard case .string(let text) = self.value else { return nil }
        return text
    }

    var boolean: Bool? {
        guard case .boolean(let value) = self.value else { return nil }
        return value
    }

    var number: String? {
        guard case .number(let text) = self.value else { return nil }
        return text
    }

    var elements: [Node]? {
        guard case .array(let elements) = self.value else { return nil }
        return elements
    }

    var members: [Member]? {
        guard case .object(let members) = self.value else { return nil }
        return members
    }

    var isNull: Bool {
        guard case .null = self.value else { return false }
        return true
    }

    /// Whether a finding speaks about it already.
    var isUnread: Bool {
        guard case .unread = self.value else { return false }
        return true
    }

    /// The value under a key; nil if this is no object or has no such key.
    subscript(key: String) -> Node? {
        self.members?.first { $0.key == key }?.value
    }
}
