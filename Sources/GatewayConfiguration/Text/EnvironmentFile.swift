// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// The variables of a file that `--env-file` names: lines of `NAME=VALUE`, as Docker Compose and systemd have them.
///
/// Blank lines and lines that begin with `#` say nothing, and neither does `export ` before a name. White space around name and
/// value is cut. In single quotes everything is literal; in double quotes `\n`, `\"`, `\\` and `\$` are escapes; without
/// quotes a `#` behind white space begins a comment. A value ends with its line, and nothing in it is expanded
/// (decision 0038).
package struct EnvironmentFile: Sendable {
    /// Bytes that a file may have.
    package static let sizeLimit = 1024 * 1024

    /// The first thing in a file that means nothing; it shows nothing of what stands there.
    package struct Fault: Error, Hashable, Sendable {
        /// The line, counted from 1.
        package let line: Int
        /// The column, counted from 1 in Unicode scalars.
        package let column: Int
        /// What is wrong and what is accepted.
        package let message: String

        /// The fault as one line of text, in the shape of a finding.
        package func rendered(sourceName: String) -> String {
            "\(sourceName):\(self.line):\(self.column): error: \(self.message)"
        }
    }

    /// The values by their names; of a name that is given twice, the last one.
    package private(set) var variables: [String: Secret] = [:]

    /// Reads a whole file, which is UTF-8 text with or without a byte order mark.
    ///
    /// - Throws: `Fault` for the first mistake; no bytes of any kind trap.
    package init(_ bytes: [UInt8]) throws(Fault) {
        var reader = Reader(bytes)
        try reader.checkText()
        while let variable = try reader.next() { self.variables[variable.name] = variable.value }
    }

    /// The environment of a process with these variables below it: what it has already wins, also if it is empty.
    package func merged(below environment: [String: String]) -> [String: String] {
        var merged = environment
        for (name, value) in self.variables where environment[name] == nil { merged[name] = value.reveal() }
        return merged
    }
}

extension EnvironmentFile {
    private struct Reader {
        private static let singleQuote = UInt8(ascii: "'")
        private static let doubleQuote = UInt8(ascii: "\"")
        private static let backslash = UInt8(ascii: "\\")
        private static let hash = UInt8(ascii: "#")

        private let bytes: [UInt8]
        private var index = 0
        private var position = SourcePosition.start

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        /// Looks at the file as a whole, before anything is read out of it.
        mutating func checkText() throws(Fault) {
            guard self.bytes.count <= EnvironmentFile.sizeLimit else { throw self.fault("larger than 1 MiB") }
            var text = JSONCReader(bytes: self.bytes)
            do {
                try text.checkEncoding()
            } catch {
                self.position = error.position
                throw self.fault(error.message)
            }
            if self.bytes.starts(with: [0xef, 0xbb, 0xbf]) { self.index = 3 }
        }

        /// The next variable, over lines that have none; nil at the end.
        mutating func next() throws(Fault) -> (name: String, value: Secret)? {
            self.skipBlanks()
            while let byte = self.peek {
                if byte == Self.hash {
                    self.skipLine()
                } else if Self.isLineEnd(byte) {
                    self.advance()
                } else {
                    let name = try self.readName()
                    return (name, Secret(String(decoding: try self.readValue(), as: UTF8.self)))
                }
                self.skipBlanks()
            }
            return nil
        }

        /// Reads over the name and the equals sign.
        private mutating func readName() throws(Fault) -> String {
            var start = self.position
            var name = self.takeWord()
            let isSeparated = self.skipBlanks()
            // `export=1` and `export = 1` are variables of that name.
            if name.elementsEqual("export".utf8), isSeparated, let byte = self.peek, JSONCReader.isWordByte(byte) {
                start = self.position
                name = self.takeWord()
                self.skipBlanks()
            }
            guard VariableName.isValid(name) else {
                self.position = start
                throw self.fault(
                    "no name of a variable begins here; expected NAME=VALUE, or # before a comment;"
                        + " a name is letters, digits and _, not beginning with a digit"
                )
            }
            guard self.peek == UInt8(ascii: "=") else {
                throw self.fault("expected = behind the name; a line is NAME=VALUE, and # begins a comment")
            }
            self.advance()
            return String(decoding: name, as: UTF8.self)
        }

        private mutating func readValue() throws(Fault) -> [UInt8] {
            let isSeparated = self.skipBlanks()
            switch self.peek {
            case Self.singleQuote: return try self.readQuoted(Self.singleQuote)
            case Self.doubleQuote: return try self.readQuoted(Self.doubleQuote)
            default: return try self.readPlain(isSeparated: isSeparated)
            }
        }

        /// Without quotes: up to the end of the line, or to a `#` behind white space.
        private mutating func readPlain(isSeparated: Bool) throws(Fault) -> [UInt8] {
            var value: [UInt8] = []
            var isBehindBlank = isSeparated
            while let byte = self.peek, !Self.isLineEnd(byte), !(byte == Self.hash && isBehindBlank) {
                value.append(try self.take(byte))
                isBehindBlank = Self.isBlank(byte)
            }
            self.skipLine()
            while let last = value.last, Self.isBlank(last) { value.removeLast() }
            return value
        }

        private mutating func readQuoted(_ quote: UInt8) throws(Fault) -> [UInt8] {
            let start = self.position
            var value: [UInt8] = []
            self.advance()
            while let byte = self.peek, !Self.isLineEnd(byte) {
                if byte == quote {
                    self.advance()
                    try self.readEndOfLine()
                    return value
                }
                if byte == Self.backslash, quote == Self.doubleQuote {
                    value.append(try self.readEscape())
                } else {
                    value.append(try self.take(byte))
                }
            }
            self.position = start
            throw self.fault("this quote has no end; a value in quotes ends in the line in which it begins")
        }

        private mutating func readEscape() throws(Fault) -> UInt8 {
            let start = self.position
            self.advance()
            let byte = self.peek
            switch byte {
            case UInt8(ascii: "n"):
                self.advance()
                return UInt8(ascii: "\n")
            case .some(let byte) where [Self.doubleQuote, Self.backslash, UInt8(ascii: "$")].contains(byte):
                self.advance()
                return byte
            default:
                self.position = start
                throw self.fault(
                    #"in double quotes a backslash begins \n, \", \\ or \$; in single quotes everything is literal"#
                )
            }
        }

        /// Behind a value in quotes: nothing, or a comment behind white space.
        private mutating func readEndOfLine() throws(Fault) {
            let isSeparated = self.skipBlanks()
            guard let byte = self.peek, !Self.isLineEnd(byte) else { return }
            guard byte == Self.hash, isSeparated else {
                throw self.fault(
                    "expected the end of the line behind the closing quote, or white space and # for a comment"
                )
            }
            self.skipLine()
        }

        // MARK: Bytes

        private var peek: UInt8? { self.index < self.bytes.count ? self.bytes[self.index] : nil }

        private mutating func advance() {
            if let byte = self.peek {
                self.index += 1
                self.position.advance(over: byte, next: self.peek)
            }
        }

        /// Moves over a byte of a value.
        private mutating func take(_ byte: UInt8) throws(Fault) -> UInt8 {
            guard byte != 0 else { throw self.fault("found a NUL byte, which no variable can hold") }
            self.advance()
            return byte
        }

        private mutating func takeWord() -> [UInt8] {
            let start = self.index
            while let byte = self.peek, JSONCReader.isWordByte(byte) { self.advance() }
            return Array(self.bytes[start..<self.index])
        }

        /// Moves over white space within the line, and says whether there was any.
        @discardableResult private mutating func skipBlanks() -> Bool {
            let start = self.index
            while let byte = self.peek, Self.isBlank(byte) { self.advance() }
            return self.index > start
        }

        /// Moves to the end of the line.
        private mutating func skipLine() {
            while let byte = self.peek, !Self.isLineEnd(byte) { self.advance() }
        }

        private func fault(_ message: String) -> Fault {
            Fault(line: self.position.line, column: self.position.column, message: message)
        }

        private static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

        private static func isLineEnd(_ byte: UInt8) -> Bool {
            byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
        }
    }
}
