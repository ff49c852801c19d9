// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The findings of one load, as they are made.
struct FindingList: Sendable {
    /// How many of one severity are kept: a hostile document could cause millions.
    static let limit = 1_000

    private(set) var all: [Finding] = []
    private var counts: [Finding.Severity: Int] = [:]
    /// What is said once for the whole document, at its first place, with how many more there are.
    private var notes: [(first: Finding, more: Int)] = []
    private var noteIndices: [String: Int] = [:]

    mutating func add(_ finding: Finding) {
        let count = self.counts[finding.severity, default: 0]
        guard count < Self.limit else { return }
        self.counts[finding.severity] = count + 1
        self.all.append(finding)
    }

    /// Adds a finding about a value.
    mutating func add(_ code: Finding.Code, at node: Node, _ message: String, suggestion: String? = nil) {
        self.add(code, path: node.path, position: node.position, message, suggestion: suggestion)
    }

    /// Adds a finding about a key.
    mutating func add(_ code: Finding.Code, at member: Node.Member, _ message: String, suggestion: String? = nil) {
        self.add(code, path: member.value.path, position: member.position, message, suggestion: suggestion)
    }

    mutating func add(
        _ code: Finding.Code,
        path: DocumentPath,
        position: SourcePosition,
        _ message: String,
        suggestion: String? = nil
    ) {
        self.add(
            Finding(
                code: code,
                path: path.description,
                line: position.line,
                column: position.column,
                message: message,
                suggestion: suggestion
            )
        )
    }

    /// Adds a finding that a document can have at many places: it is one line, at the first of them.
    ///
    /// Findings are the same if code and message are. The places come in the order of the document.
    mutating func note(_ code: Finding.Code, path: DocumentPath, position: SourcePosition, _ message: String) {
        let key = "\(code.rawValue) \(message)"
        if let index = self.noteIndices[key] {
            self.notes[index].more += 1
        } else if self.notes.count < Self.limit {
            self.noteIndices[key] = self.notes.count
            let first = Finding(
                code: code,
                path: path.description,
                line: position.line,
                column: position.column,
                message: message
            )
            self.notes.append((first, 0))
        }
    }

    private var settledNotes: [Finding] {
        self.notes.map { note in
            guard note.more > 0 else { return note.first }
            let places = note.more == 1 ? "1 more place" : "\(note.more) more places"
            return Finding(
                code: note.first.code,
                path: note.first.path,
                line: note.first.line,
                column: note.first.column,
                message: "\(note.first.message); so in \(places)"
            )
        }
    }

    /// The findings in the order of the document; those of one place in the order in which they were made.
    var sorted: [Finding] {
        (self.all + self.settledNotes).enumerated()
            .sorted { one, other in
                (one.element.line, one.element.column, one.offset)
                    < (other.element.line, other.element.column, other.offset)
            }
            .map(\.element)
    }
}
