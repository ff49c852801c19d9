// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Reads a document into a tree that knows the place of every key and value.
///
/// The language is JSON (RFC 8259) with `//` and `/* */` comments, trailing commas and, where a value is expected, an
/// unquoted `${VAR}` or `${VAR:-default}`. Duplicate keys are reported, both places named, and the first one is kept,
/// so that one reading finds them all; any other mistake ends the reading.
struct JSONCReader {
    /// What a document may be.
    struct Bounds: Sendable {
        /// Bytes of the document.
        var bytes = 4 * 1024 * 1024
        /// Arrays and objects inside each other.
        var depth = 64
        /// Whether an unquoted `${VAR}` is a value.
        var admitsVariables = true
    }

    /// Why a document cannot be read.
    struct Failure: Error {
        var code: Finding.Code
        var position: SourcePosition
        var path: DocumentPath
        var message: String
        var suggestion: String?
    }

    let bytes: [UInt8]
    let bounds: Bounds
    var index = 0
    var position = SourcePosition.start
    var path = DocumentPath.root
    /// Duplicate keys.
    private(set) var findings = FindingList()

    init(bytes: [UInt8], bounds: Bounds = Bounds()) {
        self.bytes = bytes
        self.bounds = bounds
    }

    /// Reads the whole document.
    ///
    /// - Throws: `Failure` for the first mistake: `too-large`, `bad-encoding`, `too-deep` or `syntax`.
    mutating func read() throws(Failure) -> Node {
        guard self.bytes.count <= self.bounds.bytes else {
            throw self.failure(.tooLarge, "found \(self.bytes.count) bytes; at most \(self.bounds.bytes) are read")
        }
        try self.checkEncoding()
        if self.bytes.starts(with: [0xef, 0xbb, 0xbf]) { self.index = 3 }
        try self.skipBlanks()
        guard self.peek != nil else { throw self.unexpected("an object in braces") }
        let node = try self.readValue(depth: 0)
        try self.skipBlanks()
        guard self.peek == nil else { throw self.unexpected("the end of the document") }
        return node
    }

    // MARK: Bytes

    var peek: UInt8? { self.index < self.bytes.count ? self.bytes[self.index] : nil }

    func peek(at distance: Int) -> UInt8? {
        let index = self.index + distance
        return index < self.bytes.count ? self.bytes[index] : nil
    }

    /// Moves over the byte here, if there is one.
    mutating func advance() {
        guard let byte = self.peek else { return }
        self.index += 1
        self.position.advance(over: byte, next: self.peek)
    }

    mutating func advance(by count: Int) {
        for _ in 0..<count { self.advance() }
    }

    /// Moves over `byte` if it is here.
    mutating func consume(_ byte: UInt8) -> Bool {
        guard self.peek == byte else { return false }
        self.advance()
        return true
    }

    // MARK: Values

    private mutating func readValue(depth: Int) throws(Failure) -> Node {
        let start = self.position
        let path = self.path
        let value: Node.Value
        switch self.peek {
        case UInt8(ascii: "\""): value = .string(try self.readString())
        case UInt8(ascii: "{"): value = .object(try self.readObject(depth: depth))
        case UInt8(ascii: "["): value = .array(try self.readArray(depth: depth))
        case UInt8(ascii: "$"): value = .variable(try self.readVariable())
        case .some(let byte) where byte == UInt8(ascii: "-") || Self.isDigit(byte):
            value = .number(try self.readNumber())
        default: value = try self.readWord()
        }
        return Node(value: value, position: start, path: path)
    }

    private mutating func readArray(depth: Int) throws(Failure) -> [Node] {
        try self.enter(depth)
        let path = self.path
        defer { self.path = path }
        var elements: [Node] = []
        while true {
            try self.skipBlanks()
            if self.consume(UInt8(ascii: "]")) { return elements }
            self.path = path.appending(index: elements.count)
            elements.append(try self.readValue(depth: depth + 1))
            self.path = path
            try self.skipBlanks()
            if self.consume(UInt8(ascii: ",")) { continue }
            guard self.peek == UInt8(ascii: "]") else { throw self.unexpected("a comma or ]") }
        }
    }

    private mutating func readObject(depth: Int) throws(Failure) -> [Node.Member] {
        try self.enter(depth)
        let path = self.path
        defer { self.path = path }
        var members: [Node.Member] = []
        // Keys are compared as bytes: two spellings of é are two keys, as they are two routes.
        var places: [[UInt8]: SourcePosition] = [:]
        while true {
            try self.skipBlanks()
            if self.consume(UInt8(ascii: "}")) { return members }
            guard self.peek == UInt8(ascii: "\"") else { throw self.unexpected("a key in double quotes or }") }
            let place = self.position
            let key = try self.readString()
            try self.skipBlanks()
            guard self.consume(UInt8(ascii: ":")) else { throw self.unexpected("a colon after the key") }
            try self.skipBlanks()
            self.path = path.appending(key: key)
            let value = try self.readValue(depth: depth + 1)
            if let first = places.updateValue(place, forKey: Array(key.utf8)) {
                places[Array(key.utf8)] = first
                self.findings.add(
                    .duplicateKey,
                    path: self.path,
                    position: place,
                    "this key is already given in line \(first.line), column \(first.column);"
                        + " a key may stand once in an object"
                )
            } else {
                members.append(Node.Member(key: key, position: place, value: value))
            }
            self.path = path
            try self.skipBlanks()
            if self.consume(UInt8(ascii: ",")) { continue }
            guard self.peek == UInt8(ascii: "}") else { throw self.unexpected("a comma or }") }
        }
    }

    private mutating func enter(_ depth: Int) throws(Failure) {
        guard depth < self.bounds.depth else {
            throw self.failure(.tooDeep, "found more than \(self.bounds.depth) arrays and objects inside each other")
        }
        self.advance()
    }
}
