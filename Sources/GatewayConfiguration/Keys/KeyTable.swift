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
        /// Whether it keeps callers or tools out, or says which way a connection goes: one that is misspelt, or stands where
        /// nobody reads it, is an error and no warning.
        var isRestriction: Bool
        /// What to write where somebody wrote a list; nil: nobody does, or a list is right.
        var insteadOfList: String?
        /// What the key means, in one sentence.
        var summary: String

        init(
            _ name: String,
            _ shape: Shape,
            required: Bool = false,
            fallback: String? = nil,
            restriction: Bool = false,
            insteadOfList: String? = nil,
            _ summary: String
        ) {
            self.name = name
            self.shape = shape
            self.isRequired = required
            self.fallback = fallback
            self.isRestriction = restriction
            self.insteadOfList = insteadOfList
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
    /// What other programs call keys of this table; lower case.
    var aliases: [String: String] = [:]
    /// What other programs write for keys of this table, in the files that are read as theirs; lower case.
    var spellings: [String: Spelling] = [:]
    /// Keys of other programs that restrict something which nobody here restricts, and what to do about it; lower case.
    var restrictions: [String: String] = [:]
    /// Keys of other programs that mean nothing to a gateway; lower case.
    var conveniences: Set<String> = []
    /// Whether every key that is not known belongs to another program, and means nothing to a gateway.
    var isShared = false

    /// How another program writes a key.
    struct Spelling: Sendable {
        /// The key that it is here.
        var key: String
        /// What its values are here, in lower case, in the order in which a message names them; empty: as they stand.
        var values: [(written: String, meaning: Meaning)] = []

        /// What a value of another program is here.
        enum Meaning: Sendable {
            case value(String)
            /// As if the key were not there.
            case absent
        }
    }

    /// What holds between keys of one object.
    enum Constraint: Sendable {
        /// At least one of them is given; those of `filled` count only if they have a member.
        case anyOf([String], filled: [String] = [])
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

    /// What a key that is not known may have been meant to be.
    struct Suggestion {
        /// As a path from the object that the key stands in.
        var path: String
        var isRestriction: Bool
    }

    /// What `name` may have been meant to be; nil if nothing is near.
    func suggestion(for name: String) -> Suggestion? {
        if let meant = self.misspellings[name] {
            return Suggestion(path: meant, isRestriction: self.isRestriction(meant))
        }
        for key in self.keys {
            guard case .object(let table) = key.shape else { continue }
            if let nested = table.key(ignoringCaseOf: name) {
                return Suggestion(path: "\(key.name).\(nested.name)", isRestriction: nested.isRestriction)
            }
        }
        guard let near = NearestText.choose(for: name, among: self.keys.map(\.name)) else { return nil }
        return Suggestion(path: near, isRestriction: self.isRestriction(near))
    }

    private func isRestriction(_ path: String) -> Bool {
        var table: KeyTable? = self
        var key: Key?
        for name in path.split(separator: ".") {
            key = table?[String(name)]
            if case .object(let nested)? = key?.shape { table = nested } else { table = nil }
        }
        return key?.isRestriction == true
    }
}
