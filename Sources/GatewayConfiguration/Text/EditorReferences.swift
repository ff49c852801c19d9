// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What editors and other clients write in braces in their files, besides the name of a variable.
struct EditorReferences: Sendable {
    /// What one of them is here.
    enum Meaning: Sendable {
        /// What follows is the name of a variable.
        case variable
        /// The variable of this name.
        case named(String)
        case text(String)
        /// What follows is the name of something that the editor asks its user for.
        case input
        /// Nothing; what to write instead.
        case nothing(String)
    }

    /// How they begin, or what they are where nothing follows.
    ///
    /// The first that fits counts.
    static let forms: [(beginning: String, meaning: Meaning)] = [
        ("env:", .variable), ("userHome", .named("HOME")), ("pathSeparator", .text("/")), ("/", .text("/")),
        ("input:", .input), ("workspaceFolder", .nothing(Self.workspaceAdvice)),
        ("workspaceRoot", .nothing(Self.workspaceAdvice)), ("config:", .nothing(Self.settingAdvice)),
        ("command:", .nothing(Self.settingAdvice)), ("{", .nothing(Self.variableAdvice)),
    ]

    private static let workspaceAdvice =
        "there is no workspace of an editor here; write the directory itself, such as ${HOME}/project"
    private static let settingAdvice =
        "there are no settings or commands of an editor here; write the value, or ${VAR} for a variable"
    private static let variableAdvice = "this is another program's way to name a variable; write ${VAR}"

    /// What the editor asks for, by name: its own words.
    private let descriptions: [String: String]

    /// Reads what the editor asks for out of a whole document (`inputs` of VS Code).
    init(of root: Node) {
        var descriptions: [String: String] = [:]
        for input in root["inputs"]?.elements ?? [] {
            guard let name = input["id"]?.string, let text = input["description"]?.string else { continue }
            descriptions[name] = text
        }
        self.descriptions = descriptions
    }

    /// What a reference is here, and what stands behind its beginning; nil if it is none of theirs.
    static func meaning(of reference: ArraySlice<UInt8>) -> (Meaning, rest: ArraySlice<UInt8>)? {
        for (beginning, meaning) in Self.forms where reference.starts(with: beginning.utf8) {
            let rest = reference.dropFirst(beginning.utf8.count)
            switch meaning {
            case .named, .text:
                guard rest.isEmpty else { continue }
            case .variable, .input, .nothing: break
            }
            return (meaning, rest)
        }
        return nil
    }

    /// The name of the variable in `env:NAME`, or in `{ … NAME }` of other programs; nil if it is neither.
    static func variable(in reference: ArraySlice<UInt8>) -> String? {
        let name: ArraySlice<UInt8>
        if reference.starts(with: "env:".utf8) {
            name = reference.dropFirst(4)
        } else if reference.first == UInt8(ascii: "{") {
            // `{ secrets.NAME `, since the reference ends at the first brace.
            let text = reference.dropFirst().drop { $0 == UInt8(ascii: " ") }
            let end = text.lastIndex { $0 != UInt8(ascii: " ") }.map { text.index(after: $0) } ?? text.startIndex
            let words = text[..<end]
            name = words.lastIndex(of: UInt8(ascii: ".")).map { words[words.index(after: $0)...] } ?? words
        } else {
            return nil
        }
        return VariableName.isValid(name) ? String(decoding: name, as: UTF8.self) : nil
    }

    /// What to write instead of a `{env:NAME}` that begins here; nil if none does.
    func adviceInBraces(_ bytes: ArraySlice<UInt8>) -> String? {
        guard bytes.starts(with: "{env:".utf8) else { return nil }
        let name = bytes.dropFirst(5).prefix { JSONCReader.isWordByte($0) }
        let shown = VariableName.isValid(name) ? String(decoding: name, as: UTF8.self) : "VAR"
        return "this is another program's way to name a variable; write ${\(shown)}"
    }

    /// The variable that stands for what an editor asks for: `api-key` is `API_KEY`.
    static func variable(ofInput name: String) -> String {
        let text = String(
            name.uppercased().unicodeScalars
                .map { scalar in
                    scalar.isASCII && JSONCReader.isWordByte(UInt8(truncatingIfNeeded: scalar.value))
                        ? Character(scalar) : "_"
                }
        )
        return text.utf8.first.map(JSONCReader.isDigit) == true ? "_\(text)" : text
    }

    /// What the editor says when it asks; nil where it does not say it in this file.
    func question(of name: String) -> String? {
        self.descriptions[name].map { ConfigurationSummary.shown(String($0.prefix(200))) }
    }
}

extension EnvironmentExpansion {
    /// Expands the servers of a client's file; the rest of it is the client's.
    mutating func expandServers(of root: Node) -> Node {
        var root = root
        root.value = .object(
            (root.members ?? [])
                .map { member in
                    guard ["mcpservers", "servers"].contains(member.key.lowercased()) else { return member }
                    var member = member
                    member.value = self.expand(member.value, depth: 1)
                    return member
                }
        )
        return root
    }

    /// Why a reference of an editor has no value; the finding is made.
    struct NoValue: Error {}

    /// The value of a reference as editors write them; nil if it is none.
    mutating func editorValue(of reference: ArraySlice<UInt8>, at node: Node) throws(NoValue) -> String? {
        guard let editor, let (meaning, rest) = EditorReferences.meaning(of: reference) else { return nil }
        // Whoever sets a variable of that name has said what it is.
        let name = String(decoding: reference, as: UTF8.self)
        if VariableName.isValid(reference), self.environment[name] != nil { return nil }
        switch meaning {
        case .variable:
            self.tell("${env:VAR} is read as ${VAR}", at: node)
            guard let value = self.value(of: rest, at: node) else { throw NoValue() }
            return value
        case .named(let variable):
            self.tell("${\(name)} is read as ${\(variable)}", at: node)
            guard let value = self.variable(variable, node), !value.isEmpty else {
                self.findings.add(.badExpansion, at: node, "the environment variable \(variable) is not set")
                throw NoValue()
            }
            return value
        case .text(let text):
            self.tell("${\(name)} is read as \(text)", at: node)
            return text
        case .input:
            return try self.input(String(decoding: rest, as: UTF8.self), of: editor, at: node)
        case .nothing(let advice):
            let variable = EditorReferences.variable(in: reference)
            self.findings.add(.badExpansion, at: node, advice, suggestion: variable.map { "\"${\($0)}\"" })
            throw NoValue()
        }
    }

    private mutating func input(_ id: String, of editor: EditorReferences, at node: Node) throws(NoValue) -> String {
        let variable = EditorReferences.variable(ofInput: id)
        guard VariableName.isValid(variable.utf8) else {
            self.findings.add(.badExpansion, at: node, "this names nothing that an editor asks for; write ${VAR}")
            throw NoValue()
        }
        guard let value = self.variable(variable, node), !value.isEmpty else {
            let question = editor.question(of: id).map { ", for which its editor asks: \($0)" } ?? ""
            self.findings.add(
                .inputUnset,
                at: node,
                "nobody is asked here, and the environment variable \(variable) is not set\(question); set it"
            )
            throw NoValue()
        }
        self.tell("${input:…} is read as the variable \(variable)", at: node)
        return value
    }

    private mutating func tell(_ message: String, at node: Node) {
        self.findings.note(.foreignKey, path: node.path, position: node.position, message)
    }
}
