// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Holds a document against the tables of keys and keeps what fits.
///
/// What comes out has only known keys, in their own spelling, with values of the right type; `null` is as absent. A
/// value that does not fit is `.unread` and has a finding, so that whoever reads on need not say it again.
struct DocumentCheck {
    var findings: FindingList
    /// The keys of other programs that mean nothing here, in the order of the document.
    private var conveniences: [Node.Member] = []
    /// How many of them are named.
    private static let namesShown = 20

    init(findings: FindingList) {
        self.findings = findings
    }

    /// The part of a whole document that has this shape.
    mutating func fitDocument(_ root: Node, to shape: Shape) -> Node {
        defer { self.reportConveniences() }
        return self.fit(root, to: shape)
    }

    /// The part of `node` that has this shape.
    mutating func fit(_ node: Node, to shape: Shape) -> Node {
        self.fitting(node, to: shape) ?? Node(value: .unread, position: node.position, path: node.path)
    }

    private mutating func fitting(_ node: Node, to shape: Shape) -> Node? {
        if case .unread = node.value { return nil }
        if case .never(let reason) = shape {
            self.findings.add(.notInheritable, at: node, "this cannot stand here: \(reason)")
            return nil
        }
        guard let kind = Shape.Kind(node.value), shape.kinds.contains(kind) else {
            self.findings.add(.wrongType, at: node, "found \(node.kind), accepted is \(shape.expectation)")
            return nil
        }
        switch shape {
        case .text, .filledText, .secret, .filledSecret, .webURL, .flag, .duration, .size, .anything, .never:
            return node
        case .written:
            return self.fitWritten(node)
        case .off:
            return self.fitOff(node)
        case .integer(let range):
            return self.fitInteger(node, to: range, expectation: shape.expectation)
        case .oneOf(let values):
            return self.fitOneOf(node, values: values, expectation: shape.expectation)
        case .choice(let values, let ignoringCase):
            return self.fitChoice(node, values: values, ignoringCase: ignoringCase, expectation: shape.expectation)
        case .list(let element):
            var node = node
            node.value = .array((node.elements ?? []).map { self.fit($0, to: element) })
            return node
        case .map(let element, _):
            return self.fitMap(node, to: element)
        case .object(let table):
            return self.fitObject(node, to: table)
        case .either(let shapes):
            guard let chosen = shapes.first(where: { $0.kinds.contains(kind) }) else { return nil }
            return self.fitting(node, to: chosen)
        }
    }

    // MARK: Single values

    /// A number keeps the digits that it was written with.
    private mutating func fitWritten(_ node: Node) -> Node {
        let text: String
        switch node.value {
        case .number(let digits): text = digits
        case .boolean(let value): text = value ? "true" : "false"
        default: return node
        }
        self.findings.note(
            .foreignKey,
            path: node.path,
            position: node.position,
            "a number, true or false is read as its text here"
        )
        var node = node
        node.value = .string(text)
        return node
    }

    private mutating func fitOff(_ node: Node) -> Node? {
        if node.boolean == false { return node }
        self.findings.add(.wrongType, at: node, "found true, which says nothing; accepted is false, a URL or an object")
        return nil
    }

    private mutating func fitInteger(_ node: Node, to range: ClosedRange<Int>, expectation: String) -> Node? {
        guard let text = node.number, let value = Int(text) else {
            self.findings.add(
                .wrongType,
                at: node,
                "found a number that is not whole or too large, accepted is \(expectation)"
            )
            return nil
        }
        guard range.contains(value) else {
            self.findings.add(.outOfRange, at: node, "found \(value), accepted is \(expectation)")
            return nil
        }
        return node
    }

    private mutating func fitOneOf(_ node: Node, values: [Int], expectation: String) -> Node? {
        if let text = node.number, let value = Int(text), values.contains(value) { return node }
        self.findings.add(.invalidValue, at: node, "found another number, accepted is \(expectation)")
        return nil
    }

    private mutating func fitChoice(
        _ node: Node,
        values: [String],
        ignoringCase: Bool,
        expectation: String
    ) -> Node? {
        guard let text = node.string else { return nil }
        if values.contains(ignoringCase ? text.lowercased() : text) { return node }
        // Only a plain word is repeated: anything else could be a secret in the wrong place.
        let isPlain =
            (1...24).contains(text.utf8.count) && text.utf8.allSatisfy { $0 == 0x2d || (0x61...0x7a).contains($0) }
        self.findings.add(
            .invalidValue,
            at: node,
            "found \(isPlain ? "\"\(text)\"" : "something else"), accepted is \(expectation)",
            suggestion: NearestText.choose(for: text, among: values).map { "\"\($0)\"" }
        )
        return nil
    }

    // MARK: Objects

    private mutating func fitMap(_ node: Node, to element: Shape) -> Node {
        var node = node
        node.value = .object(
            (node.members ?? [])
                .map { member in
                    let value = self.fit(member.value, to: element)
                    return Node.Member(key: member.key, position: member.position, value: value)
                }
        )
        return node
    }

    private mutating func fitObject(_ node: Node, to table: KeyTable) -> Node {
        var seen: [String: (position: SourcePosition, written: String, isForeign: Bool)] = [:]
        var kept: [Node.Member] = []
        var unknown: [String] = []
        for member in node.members ?? [] {
            guard let (key, spelling) = self.key(of: member, in: table) else {
                unknown.append(member.key)
                continue
            }
            if let first = seen[key.name] {
                guard first.isForeign || spelling != nil else {
                    self.findings.add(
                        .duplicateKey,
                        at: member,
                        "this is \(key.name) again, which is already given in line \(first.position.line), column"
                            + " \(first.position.column)"
                    )
                    continue
                }
                if member.value.isNull { continue }
                self.findings.add(
                    .conflictingKeys,
                    at: member,
                    "\(DocumentPath.root.appending(key: first.written)) says the same in line \(first.position.line),"
                        + " column \(first.position.column); write one, as \(key.name)"
                )
                continue
            }
            if member.value.isNull { continue }
            seen[key.name] = (member.position, member.key, spelling != nil)
            guard let value = self.value(of: member, key, spelling) else { continue }
            kept.append(Node.Member(key: key.name, position: member.position, value: value))
        }
        for key in table.keys where key.isRequired && seen[key.name] == nil {
            self.findings.add(
                .missingKey,
                path: node.path.appending(key: key.name),
                position: node.position,
                "this key is required and missing; accepted is \(key.shape.expectation)"
            )
        }
        var node = node
        node.value = .object(kept)
        node.unknownKeys = unknown
        return node
    }

    /// What a member says as this key; nil if that is the same as nothing.
    private mutating func value(of member: Node.Member, _ key: KeyTable.Key, _ spelling: KeyTable.Spelling?) -> Node? {
        if let advice = key.insteadOfList, member.value.elements != nil {
            self.findings.add(.wrongType, at: member.value, "found an array, accepted is \(advice)")
            return Node(value: .unread, position: member.value.position, path: member.value.path)
        }
        guard let spelling else { return self.fit(member.value, to: key.shape) }
        guard !spelling.values.isEmpty, let text = member.value.string else {
            self.tell(member, "this is read as \(key.name)")
            return self.fit(member.value, to: key.shape)
        }
        switch spelling.values.first(where: { $0.written == text.lowercased() })?.meaning {
        case .value(let meant):
            self.tell(member, "this is read as \(key.name) \"\(meant)\"")
            var value = member.value
            value.value = .string(meant)
            return value
        case .absent:
            self.tell(member, "this says no more than a url does: which transport it is, is found out")
            return nil
        case nil:
            let accepted = Shape.choice(spelling.values.map(\.written), ignoringCase: true)
            return self.fit(member.value, to: accepted)
        }
    }

    private mutating func tell(_ member: Node.Member, _ message: String) {
        self.findings.note(.foreignKey, path: member.value.path, position: member.position, message)
    }

    /// The known key that a member is, and how another program spelt it; nil and a finding if it is none.
    private mutating func key(
        of member: Node.Member,
        in table: KeyTable
    ) -> (KeyTable.Key, KeyTable.Spelling?)? {
        if let key = table[member.key] { return (key, nil) }
        let folded = member.key.lowercased()
        if let spelling = table.spellings[folded], let key = table[spelling.key] { return (key, spelling) }
        if let key = table.key(ignoringCaseOf: member.key) {
            self.findings.add(.keyCase, at: member, "this is read as \(key.name)", suggestion: "\"\(key.name)\"")
            return (key, nil)
        }
        if let name = table.aliases[folded], let key = table[name] { return (key, nil) }
        if table.conveniences.contains(folded) {
            self.conveniences.append(member)
            return nil
        }
        let suggestion = table.suggestion(for: member.key)
        if let advice = table.restrictions[folded], member.restricts {
            self.findings.add(.restrictionIgnored, at: member, "nobody would keep this restriction: \(advice)")
            return nil
        }
        if let suggestion, suggestion.isRestriction, member.restricts || suggestion.path.hasSuffix("enabled") {
            self.findings.add(
                .restrictionIgnored,
                at: member,
                "this key is unknown, so nobody would keep what it restricts",
                suggestion: "\"\(suggestion.path)\""
            )
            return nil
        }
        if table.isShared, suggestion == nil {
            self.conveniences.append(member)
            return nil
        }
        self.findings.add(
            .unknownKey,
            at: member,
            suggestion == nil
                ? "this key is unknown and has no effect; known are \(table.keys.map(\.name).joined(separator: ", "))"
                : "this key is unknown and has no effect",
            suggestion: suggestion.map { "\"\($0.path)\"" }
        )
        return nil
    }

    /// One line for all keys of a client.
    private mutating func reportConveniences() {
        guard let first = self.conveniences.first else { return }
        var names: [String] = []
        for member in self.conveniences where !names.contains(member.key) && names.count <= Self.namesShown {
            names.append(member.key)
        }
        let shown = names.prefix(Self.namesShown).map { ConfigurationSummary.escaped(String($0.prefix(64))) }
        let more = names.count > Self.namesShown ? " and more" : ""
        self.findings.add(
            .clientKey,
            at: first,
            "keys of an MCP client, which mean nothing to a gateway and are ignored:"
                + " \(shown.joined(separator: ", "))\(more)"
        )
    }
}

extension Node.Member {
    /// Whether a key that restricts something does so with this value.
    fileprivate var restricts: Bool {
        let folded = self.key.lowercased()
        if folded == "enabled" || KeyTable.clientAliases[folded] == "enabled" { return self.value.boolean == false }
        guard folded == "options" else { return self.value.isSaid }
        return self.value.members?.contains { KeyTable.options.key(ignoringCaseOf: $0.key)?.isRestriction == true }
            == true
    }
}

extension Node {
    /// Whether it says something: it is not null, false, empty, or an object that is switched off.
    fileprivate var isSaid: Bool {
        switch self.value {
        case .null, .boolean(false), .unread: false
        case .boolean, .number, .variable: true
        case .string(let text): !text.isEmpty
        case .array(let elements): !elements.isEmpty
        case .object(let members):
            !members.isEmpty && self["enabled"]?.boolean != false && self["disabled"]?.boolean != true
        }
    }
}
