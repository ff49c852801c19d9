// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The JSON Schema (draft 2020-12) of the configuration file, made from the tables that the reader uses.
///
/// It is for editors: what a schema can see of the rules is in it, what only the reader can (routes that meet, the
/// content of variables) is not. A string with a dollar in it passes wherever a variable could make it right. Unknown
/// keys fail, although the reader only warns of them: an editor should point at them.
package enum ConfigurationSchema {
    /// The schema as indented JSON with a newline at the end.
    package static let text: String = {
        var root: [(String, JSONText)] = [
            ("$schema", .string("https://json-schema.org/draft/2020-12/schema")),
            ("title", .string(KeyTable.root.title)),
        ]
        root += Self.members(of: .root)
        return JSONText.object(root).indented() + "\n"
    }()

    /// A string that a variable may yet make right.
    private static let variable = #"\$"#

    private static func members(of table: KeyTable) -> [(String, JSONText)] {
        var members: [(String, JSONText)] = [
            ("type", .string("object")),
            ("properties", .object(table.keys.map { ($0.name, .object(Self.members(of: $0))) })),
        ]
        let required = table.keys.filter(\.isRequired).map { JSONText.string($0.name) }
        if !required.isEmpty { members.append(("required", .array(required))) }
        members.append(("additionalProperties", .boolean(false)))
        for constraint in table.constraints { members.append(Self.member(of: constraint)) }
        return members
    }

    private static func members(of key: KeyTable.Key) -> [(String, JSONText)] {
        let fallback = key.fallback.map { " Default: \($0)." } ?? ""
        var members: [(String, JSONText)] = [("description", .string(key.summary + fallback))]
        switch key.shape {
        case .anything: break
        case .never: members += Self.members(of: key.shape)
        default: members += key.isRequired ? Self.members(of: key.shape) : Self.nullable(Self.members(of: key.shape))
        }
        return members
    }

    /// The same schema with null, which stands for an absent key.
    ///
    /// What follows a type speaks of that type only, so that it lets null pass.
    private static func nullable(_ members: [(String, JSONText)]) -> [(String, JSONText)] {
        guard let first = members.first else { return members }
        let null = JSONText.string("null")
        if first.0 == "type" { return [("type", .array([first.1, null]))] + members.dropFirst() }
        if first.0 == "anyOf", case .array(let schemas) = first.1 {
            return [("anyOf", .array(schemas + [.object([("type", null)])]))]
        }
        return [("anyOf", .array([.object(members), .object([("type", null)])]))]
    }

    private static func members(of shape: Shape) -> [(String, JSONText)] {
        switch shape {
        case .text, .secret: [Self.type("string")]
        case .written: [Self.anyOf(["string", "number", "boolean"].map { [Self.type($0)] })]
        case .filledText, .filledSecret: [Self.type("string"), Self.pattern(#"\S"#)]
        case .webURL:
            [Self.type("string"), Self.pattern(#"^[hH][tT][tT][pP][sS]?://[^/?#@\s]+([/?#]\S*)?$|"# + Self.variable)]
        case .flag: [Self.type("boolean")]
        case .integer(let range): Self.integer(range)
        case .oneOf(let values): [("enum", .array(values.map { .integer($0) }))]
        case .duration:
            [
                Self.anyOf([
                    [
                        Self.type("string"),
                        Self.pattern(
                            #"^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$|"# + Self.variable
                        ),
                    ],
                    Self.integer(0...Int.max),
                ])
            ]
        case .size(let range):
            [
                Self.anyOf([
                    [Self.type("string"), Self.pattern(#"^[0-9]+( ?(B|KiB|MiB|GiB))?$|"# + Self.variable)],
                    Self.integer(range),
                ])
            ]
        case .choice(let values, let ignoringCase):
            [
                Self.type("string"),
                Self.anyOf([
                    [("enum", .array(values.map { .string($0) }))],
                    [Self.pattern((ignoringCase ? Self.anyCase(values) + "|" : "") + Self.variable)],
                ]),
            ]
        case .list(let element): [Self.type("array"), ("items", .object(Self.members(of: element)))]
        case .map(let element, let names):
            [Self.type("object"), ("additionalProperties", .object(Self.members(of: element)))]
                + (names.map { [("propertyNames", .object([Self.pattern($0)]))] } ?? [])
        case .object(let table): Self.members(of: table)
        case .either(let shapes): [Self.anyOf(shapes.map { Self.members(of: $0) })]
        case .off: [("const", .boolean(false))]
        case .anything: []
        case .never: [("not", .object([]))]
        }
    }

    private static func member(of constraint: KeyTable.Constraint) -> (String, JSONText) {
        switch constraint {
        case .anyOf(let keys, let filled):
            Self.anyOf(
                keys.map { [Self.required([$0])] }
                    + filled.map { (key) -> [(String, JSONText)] in
                        let some = JSONText.object([("minProperties", .integer(1))])
                        return [Self.required([key]), ("properties", .object([(key, some)]))]
                    }
            )
        case .notTogether(let keys):
            ("not", .object([Self.required(keys)]))
        case .allOrNone(let keys):
            (
                "dependentRequired",
                .object(keys.map { key in (key, .array(keys.filter { $0 != key }.map { .string($0) })) })
            )
        }
    }

    private static func required(_ keys: [String]) -> (String, JSONText) {
        ("required", .array(keys.map { .string($0) }))
    }

    private static func type(_ name: String) -> (String, JSONText) { ("type", .string(name)) }

    private static func pattern(_ text: String) -> (String, JSONText) { ("pattern", .string(text)) }

    private static func anyOf(_ schemas: [[(String, JSONText)]]) -> (String, JSONText) {
        ("anyOf", .array(schemas.map { .object($0) }))
    }

    private static func integer(_ range: ClosedRange<Int>) -> [(String, JSONText)] {
        [Self.type("integer"), ("minimum", .integer(range.lowerBound))]
            + (range.upperBound == Int.max ? [] : [("maximum", .integer(range.upperBound))])
    }

    /// A pattern for these words in any case: JSON Schema has no flag for it.
    private static func anyCase(_ values: [String]) -> String {
        let words = values.map { word in
            word.map { $0.isLetter ? "[\($0.lowercased())\($0.uppercased())]" : "\($0)" }.joined()
        }
        return "^(\(words.joined(separator: "|")))$"
    }
}
