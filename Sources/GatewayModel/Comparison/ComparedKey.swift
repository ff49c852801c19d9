// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What another value of a key means.
enum ComparedWeight {
    /// What works with it goes on with the new value. In `mcpProxy`: it is applied at once.
    case tuned
    /// What works with it has to be made anew. In `mcpProxy`: at the next start.
    case replaced
}

/// A stored property of a part of the configuration: the key that it comes from, and what another value of it means.
struct ComparedKey<Part> {
    /// The name of the property, by which a test finds those that nobody thought of.
    let property: String
    /// The key as an operator writes it.
    let name: String
    let weight: ComparedWeight
    let isSame: (Part, Part) -> Bool

    init(_ property: String, _ name: String, _ weight: ComparedWeight, isSame: @escaping (Part, Part) -> Bool) {
        self.property = property
        self.name = name
        self.weight = weight
        self.isSame = isSame
    }

    init(_ property: String, _ name: String, _ weight: ComparedWeight, _ path: KeyPath<Part, some Equatable>) {
        self.init(property, name, weight) { $0[keyPath: path] == $1[keyPath: path] }
    }
}

extension Array {
    /// The keys whose values differ.
    func changed<Part>(
        from old: Part,
        to new: Part
    ) -> [(name: String, weight: ComparedWeight)] where Element == ComparedKey<Part> {
        self.filter { !$0.isSame(old, new) }.map { ($0.name, $0.weight) }
    }
}
