// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The keys of one kind of object in the configuration.
struct KeyTable: Sendable {
    /// One key.
    struct Key: Sendable {
        var name: String
        var shape: Shape
        var isRequired: Bool
        /// What holds where the key is absent, as JSON or in words; nil: nothing.
        var fallback: String?
        /// What the key means, in one sentence.
        var summary: String

        init(_ name: String, _ shape: Shape, required: Bool = false, fallback: String? = nil, _ summary: String) {
            self.name = name
            self.shape = shape
            self.isRequired = required
            self.fallback = fallback
            self.summary = summary
        }
    }

    /// What the object is, for the schema.
    var title: String
    var keys: [Key]
    /// Spellings of other programs, with the key that they mean here.
    var misspellings: [String: String] = [:]
    /// What holds between keys, for the schema.
    var constraints: [Constraint] = []

    /// What holds between keys of one object.
    enum Constraint: Sendable {
        /// At least one of them is given.
        case anyOf([String])
        /// They are not all given.
        case notTogether([String])
        /// All of them are given, or none.
        case allOrNone([String])
    }

    subscript(name: String) -> Key? { self.keys.first { $0.name == name } }

    /// The key that `name` is, up to the case of its letters, as the Go program reads keys.
    func key(ignoringCaseOf name: String) -> Key? {
        let folded = name.lowercased()
        return self.keys.first { $0.name.lowercased() == folded }
    }

    /// What `name` may have been meant to be, as a path from this object; nil if nothing is near.
    func suggestion(for name: String) -> String? {
        if let meant = self.misspellings[name] { return meant }
        for key in self.keys {
            guard case .object(let table) = key.shape else { continue }
            if let nested = table.key(ignoringCaseOf: name) { return "\(key.name).\(nested.name)" }
        }
        return NearestText.choose(for: name, among: self.keys.map(\.name))
    }
}
