// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension JSONCReader {
    /// Skips white space and comments.
    mutating func skipBlanks() throws(Failure) {
        while let byte = self.peek {
            switch byte {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\n"), UInt8(ascii: "\r"):
                self.advance()
            case UInt8(ascii: "/") where self.peek(at: 1) == UInt8(ascii: "/"):
                while let byte = self.peek, byte != UInt8(ascii: "\n"), byte != UInt8(ascii: "\r") { self.advance() }
            case UInt8(ascii: "/") where self.peek(at: 1) == UInt8(ascii: "*"):
                try self.skipBlockComment()
            default:
                return
            }
        }
    }

    private mutating func skipBlockComment() throws(Failure) {
        let start = self.position
        self.advance(by: 2)
        while self.peek != nil {
            if self.peek == UInt8(ascii: "*"), self.peek(at: 1) == UInt8(ascii: "/") {
                self.advance(by: 2)
                return
            }
            self.advance()
        }
        self.position = start
        throw self.failure(.syntax, "this comment has no end; expected */")
    }

    /// Reads an unquoted `${VAR}` or `${VAR:-default}`; the dollar is here.
    ///
    /// The default is JSON, so braces and strings inside it are skipped over in pairs.
    mutating func readVariable() throws(Failure) -> Node.Variable {
        let start = self.position
        guard self.bounds.admitsVariables else {
            throw self.failure(.syntax, "found an unquoted variable; they are not expanded here")
        }
        self.advance()
        guard self.consume(UInt8(ascii: "{")) else { throw self.unexpected("{ after the dollar, as in ${VAR}") }
        guard !SecretFileReference.begins(self.bytes[self.index...]) else {
            self.position = start
            throw self.failure(.badExpansion, "a ${file:PATH} is text; put double quotes around it")
        }
        let nameStart = self.index
        while let byte = self.peek, Self.isWordByte(byte) { self.advance() }
        let name = self.bytes[nameStart..<self.index]
        guard VariableName.isValid(name) else {
            self.position = start
            throw self.failure(.badExpansion, VariableName.rule)
        }
        let variable = String(decoding: name, as: UTF8.self)
        if self.consume(UInt8(ascii: "}")) { return Node.Variable(name: variable, fallback: nil) }
        guard self.consume(UInt8(ascii: ":")), self.consume(UInt8(ascii: "-")) else {
            self.position = start
            throw self.failure(.badExpansion, VariableName.rule)
        }
        return Node.Variable(name: variable, fallback: try self.readFallback(start: start))
    }

    private mutating func readFallback(start: SourcePosition) throws(Failure) -> String {
        let first = self.index
        var open = 0
        while let byte = self.peek {
            switch byte {
            case UInt8(ascii: "\""):
                _ = try self.readString()
                continue
            case UInt8(ascii: "{"):
                open += 1
            case UInt8(ascii: "}"):
                if open == 0 {
                    let text = String(decoding: self.bytes[first..<self.index], as: UTF8.self)
                    self.advance()
                    return text
                }
                open -= 1
            default:
                break
            }
            self.advance()
        }
        self.position = start
        throw self.failure(.badExpansion, "this ${ has no end; expected }")
    }
}
