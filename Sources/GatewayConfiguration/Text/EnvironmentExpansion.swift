// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Replaces references to environment variables and secret files in the string values of a document (contract §2).
///
/// `${VAR}`, `${VAR:-default}` (also where VAR is set but empty), `${file:PATH}`, `$$` for a dollar, and `$VAR` where VAR is
/// set. It works on the tree, so a value cannot break out of its string, and looks at each text once: what a variable or a
/// file brings in is not expanded again. Keys stay as they are.
struct EnvironmentExpansion {
    /// Bytes that all variables and files together may bring in.
    static let limit = 16 * 1024 * 1024

    let environment: [String: String]
    let files: SecretFiles
    /// What else editors write in braces; nil in a file that is not one of theirs.
    let editor: EditorReferences?
    var findings: FindingList
    /// What the files gave that were named so far.
    var secretFiles = SecretFileMemory()
    /// The same, with those that gave nothing.
    var outcomes: [String: SecretFileMemory.Outcome] = [:]
    private var brought = 0

    init(
        environment: [String: String],
        files: SecretFiles,
        editor: EditorReferences? = nil,
        findings: FindingList
    ) {
        self.environment = environment
        self.files = files
        self.editor = editor
        self.findings = findings
    }

    /// Gives the tree with every reference replaced; a value that has one that cannot be is `.unread`.
    mutating func expand(_ node: Node, depth: Int = 0) -> Node {
        var node = node
        switch node.value {
        case .null, .boolean, .number, .unread:
            break
        case .string(let text):
            node.value = self.expand(text, at: node).map { .string($0) } ?? .unread
        case .array(let elements):
            node.value = .array(elements.map { self.expand($0, depth: depth + 1) })
        case .object(let members):
            node.value = .object(
                members.map { member in
                    self.warnAboutKey(member, of: node)
                    var member = member
                    member.value = self.expand(member.value, depth: depth + 1)
                    return member
                }
            )
        case .variable(let variable):
            node.value = self.parse(variable, at: node, depth: depth)
        }
        return node
    }

    /// The Go program replaces variables in the whole text, also in keys; here a key stays as it is.
    private mutating func warnAboutKey(_ member: Node.Member, of node: Node) {
        guard member.key.contains("$") else { return }
        let parts = member.key.split(separator: "$", omittingEmptySubsequences: false).dropFirst()
        let isReference = parts.contains { part in
            part.hasPrefix("{")
                || self.environment[String(part.prefix { $0 == "_" || $0.isLetter || $0.isNumber })] != nil
        }
        // A name with braces makes no route, and its own finding says why.
        let isNamed =
            member.key.contains("{") && ["mcpServers", "servers", "clients"].contains(node.path.description)
        guard isReference, !isNamed else { return }
        self.findings.add(.keyNotExpanded, at: member, "variables are not expanded in keys; this one stays as it is")
    }

    // MARK: Strings

    private mutating func expand(_ text: String, at node: Node) -> String? {
        guard text.utf8.contains(where: { $0 == UInt8(ascii: "$") || $0 == UInt8(ascii: "{") }) else { return text }
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            let next = index + 1 < bytes.count ? bytes[index + 1] : nil
            if byte != UInt8(ascii: "$") {
                if let editor, let advice = editor.adviceInBraces(bytes[index...]) {
                    self.findings.add(.badExpansion, at: node, advice)
                    return nil
                }
                result.append(byte)
                index += 1
            } else if next == UInt8(ascii: "$") {
                // A brace behind it is plain, too.
                let isBrace = index + 2 < bytes.count && bytes[index + 2] == UInt8(ascii: "{")
                result.append(contentsOf: isBrace ? [byte, bytes[index + 2]] : [byte])
                index += isBrace ? 3 : 2
            } else if next == UInt8(ascii: "{"), SecretFileReference.begins(bytes[(index + 2)...]) {
                guard let (value, end) = self.secret(behind: bytes[(index + 2)...], at: node) else { return nil }
                result.append(contentsOf: value.utf8)
                index = end
            } else if next == UInt8(ascii: "{") {
                guard let close = bytes[index...].firstIndex(of: UInt8(ascii: "}")) else {
                    self.findings.add(
                        .badExpansion,
                        at: node,
                        "this ${ has no end; expected }; a dollar itself is written $$"
                    )
                    return nil
                }
                let reference = bytes[(index + 2)..<close]
                guard let value = self.resolve(reference, at: node) else { return nil }
                result.append(contentsOf: value.utf8)
                index = close + 1
            } else {
                let end = bytes[(index + 1)...].firstIndex { !JSONCReader.isWordByte($0) } ?? bytes.count
                let name = bytes[(index + 1)..<end]
                if VariableName.isValid(name), let value = self.variable(String(decoding: name, as: UTF8.self), node) {
                    result.append(contentsOf: value.utf8)
                } else {
                    result.append(contentsOf: bytes[index..<end])
                }
                index = end
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The secret of the `${file:PATH}` that begins here, behind its `${`, and where it ends; nil and a finding without one.
    private mutating func secret(behind bytes: ArraySlice<UInt8>, at node: Node) -> (String, end: Int)? {
        do {
            let reference = try SecretFileReference(bytes)
            return self.secret(reference, at: node).map { ($0, reference.end) }
        } catch {
            self.findings.add(.badExpansion, at: node, error.message)
            return nil
        }
    }

    /// The value of what stands in `${…}`; nil and a finding if it has none.
    private mutating func resolve(_ reference: ArraySlice<UInt8>, at node: Node) -> String? {
        do {
            if let value = try self.editorValue(of: reference, at: node) { return value }
        } catch {
            return nil
        }
        return self.value(of: reference, at: node)
    }

    /// The value of `VAR` or `VAR:-default`; nil and a finding if it is neither.
    mutating func value(of reference: ArraySlice<UInt8>, at node: Node) -> String? {
        let end = reference.firstIndex(of: UInt8(ascii: ":")) ?? reference.endIndex
        let rest = reference[end...]
        let fallback = rest.dropFirst(2)
        guard VariableName.isValid(reference[..<end]), rest.isEmpty || rest.starts(with: ":-".utf8) else {
            self.findings.add(
                .badExpansion,
                at: node,
                VariableName.rule,
                suggestion: EditorReferences.variable(in: reference).map { "\"${\($0)}\"" }
            )
            return nil
        }
        guard let plain = Self.unescaped(fallback) else {
            self.findings.add(
                .badExpansion,
                at: node,
                "the default of a ${VAR:-default} refers to another variable; it is plain text, a dollar in it is $$"
            )
            return nil
        }
        let name = String(decoding: reference[..<end], as: UTF8.self)
        let value = self.variable(name, node)
        if !rest.isEmpty, value ?? "" == "" { return plain }
        if value == nil {
            self.findings.add(
                .variableUnset,
                at: node,
                "the environment variable \(name) is not set, so this became empty"
            )
        }
        return value ?? ""
    }

    /// The text of a default, in which only `$$` means something; nil if it looks like a reference.
    private static func unescaped(_ fallback: ArraySlice<UInt8>) -> String? {
        var result: [UInt8] = []
        var rest = fallback
        while let byte = rest.popFirst() {
            result.append(byte)
            guard byte == UInt8(ascii: "$"), let next = rest.first else { continue }
            if next == UInt8(ascii: "$") {
                rest.removeFirst()
            } else if next == UInt8(ascii: "{") || (JSONCReader.isWordByte(next) && !JSONCReader.isDigit(next)) {
                return nil
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    // MARK: Values

    private mutating func parse(_ variable: Node.Variable, at node: Node, depth: Int) -> Node.Value {
        let value = self.variable(variable.name, node)
        guard let text = variable.fallback.map({ value ?? "" == "" ? $0 : value ?? $0 }) ?? value else {
            self.findings.add(
                .variableNotJSON,
                at: node,
                "the environment variable \(variable.name) is not set; an unquoted ${VAR} stands for its JSON text"
            )
            return .unread
        }
        let depthLeft = JSONCReader.Bounds().depth - depth
        var reader = JSONCReader(
            bytes: Array(text.utf8),
            bounds: JSONCReader.Bounds(depth: depthLeft, admitsVariables: false)
        )
        reader.path = node.path
        guard let parsed = try? reader.read() else {
            // What is wrong with it is not said: the text may be a secret.
            self.findings.add(
                .variableNotJSON,
                at: node,
                "the text of the environment variable \(variable.name) is not one JSON value; if it is plain text,"
                    + " put double quotes around the ${…}"
            )
            return .unread
        }
        guard reader.findings.all.isEmpty else {
            self.findings.add(
                .duplicateKey,
                at: node,
                "the text of \(variable.name) has an object with the same key twice"
            )
            return .unread
        }
        return Self.moved(parsed, to: node.position).value
    }

    /// The same tree at one place: what a variable brings in has no lines of its own in the document.
    private static func moved(_ node: Node, to position: SourcePosition) -> Node {
        var node = node
        node.position = position
        switch node.value {
        case .array(let elements):
            node.value = .array(elements.map { Self.moved($0, to: position) })
        case .object(let members):
            node.value = .object(
                members.map { Node.Member(key: $0.key, position: position, value: Self.moved($0.value, to: position)) }
            )
        case .null, .boolean, .number, .string, .variable, .unread:
            break
        }
        return node
    }

    // MARK: Both

    mutating func variable(_ name: String, _ node: Node) -> String? {
        self.environment[name].map { self.bring($0, node) }
    }

    /// What a variable or a file brings in; nothing, and a finding, once that is too much.
    mutating func bring(_ value: String, _ node: Node) -> String {
        let before = self.brought
        self.brought = min(before + value.utf8.count, Self.limit + 1)
        guard self.brought <= Self.limit else {
            if before <= Self.limit {
                self.findings.add(
                    .tooLarge,
                    at: node,
                    "variables and files bring in more than \(Self.limit) bytes here and above"
                )
            }
            return ""
        }
        return value
    }
}
