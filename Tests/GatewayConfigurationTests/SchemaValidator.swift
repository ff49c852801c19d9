// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

@testable import GatewayConfiguration

/// Holds documents against a JSON Schema, as far as the keywords of our own schema go; an unknown keyword is an error.
struct SchemaValidator {
    struct UnknownKeyword: Error {
        var name: String
    }

    let schema: Node

    init(_ text: String) throws {
        var reader = JSONCReader(bytes: Array(text.utf8))
        self.schema = try reader.read()
    }

    /// Whether a document, which may have comments, is valid.
    func accepts(_ text: String) throws -> Bool {
        var reader = JSONCReader(bytes: Array(text.utf8))
        return try self.accepts(try reader.read(), by: self.schema)
    }

    private func accepts(_ node: Node, by schema: Node) throws -> Bool {
        for keyword in schema.members ?? [] {
            guard try self.accepts(node, keyword.key, keyword.value, schema) else { return false }
        }
        return true
    }

    private func accepts(_ node: Node, _ keyword: String, _ value: Node, _ schema: Node) throws -> Bool {
        let members = node.members ?? []
        switch keyword {
        case "$schema", "title", "description":
            return true
        case "type":
            return Set((value.elements ?? [value]).compactMap(\.string)).intersection(Self.types(of: node)) != []
        case "properties":
            return try members.allSatisfy { member in
                try value[member.key].map { try self.accepts(member.value, by: $0) } ?? true
            }
        case "additionalProperties":
            let others = members.filter { schema["properties"]?[$0.key] == nil }
            if let isAllowed = value.boolean { return isAllowed || others.isEmpty }
            return try others.allSatisfy { try self.accepts($0.value, by: value) }
        case "propertyNames":
            return try members.allSatisfy { member in
                try self.accepts(Node(value: .string(member.key), position: node.position, path: node.path), by: value)
            }
        case "required":
            return node.members == nil || (value.elements ?? []).allSatisfy { node[$0.string ?? ""] != nil }
        case "minProperties":
            guard let least = value.number.flatMap({ Int($0) }) else { return true }
            return node.members == nil || members.count >= least
        case "dependentRequired":
            return (value.members ?? [])
                .allSatisfy { dependency in
                    node[dependency.key] == nil
                        || (dependency.value.elements ?? []).allSatisfy { node[$0.string ?? ""] != nil }
                }
        case "items":
            return try (node.elements ?? []).allSatisfy { try self.accepts($0, by: value) }
        case "anyOf":
            return try (value.elements ?? []).contains { try self.accepts(node, by: $0) }
        case "not":
            return try !self.accepts(node, by: value)
        case "enum":
            return (value.elements ?? []).contains { Self.isEqual($0, node) }
        case "const":
            return Self.isEqual(value, node)
        case "pattern":
            guard let text = node.string, let pattern = value.string else { return true }
            return try text.firstMatch(of: Regex(pattern)) != nil
        case "minimum", "maximum":
            guard let number = node.number.flatMap(Double.init), let bound = value.number.flatMap(Double.init) else {
                return true
            }
            return keyword == "minimum" ? number >= bound : number <= bound
        default:
            throw UnknownKeyword(name: keyword)
        }
    }

    private static func types(of node: Node) -> Set<String> {
        switch node.value {
        case .null: ["null"]
        case .boolean: ["boolean"]
        case .number(let text): Int(text) == nil ? ["number"] : ["number", "integer"]
        case .string: ["string"]
        case .array: ["array"]
        case .object: ["object"]
        case .variable, .unread: []
        }
    }

    private static func isEqual(_ one: Node, _ other: Node) -> Bool {
        switch (one.value, other.value) {
        case (.string(let one), .string(let other)): one == other
        case (.number(let one), .number(let other)): one == other
        case (.boolean(let one), .boolean(let other)): one == other
        default: false
        }
    }
}
