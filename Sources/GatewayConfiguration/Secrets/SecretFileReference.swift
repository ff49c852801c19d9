// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A `${file:PATH}` as it is written: text, `$$` for a dollar, and `${VAR}`, which stands nowhere else inside another `${`.
struct SecretFileReference {
    /// What a path is made of.
    enum Part {
        case text([UInt8])
        case variable(String)
    }

    /// Why a reference means nothing.
    struct Malformed: Error {
        let message: String
    }

    private static let start = Array("file:".utf8)

    private(set) var parts: [Part] = []
    /// The path as it stands in the document.
    let written: String
    /// The index behind its closing brace.
    let end: Int

    /// Whether what stands behind a `${` is the beginning of one.
    ///
    /// `${file:-x}` is the variable `file` with a default; a path that begins with a dash is written `./-x`.
    static func begins(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.starts(with: Self.start) && bytes.dropFirst(Self.start.count).first != UInt8(ascii: "-")
    }

    /// The index behind the closing brace of what begins here, behind its `${`; nil if it has no end.
    static func end(of bytes: ArraySlice<UInt8>) -> Int? {
        var open = 1
        var last: UInt8?
        for (index, byte) in zip(bytes.indices, bytes) {
            if byte == UInt8(ascii: "{"), last == UInt8(ascii: "$") { open += 1 }
            if byte == UInt8(ascii: "}") { open -= 1 }
            if open == 0 { return index + 1 }
            last = byte
        }
        return nil
    }

    /// Reads the reference whose bytes behind `${` these begin with.
    ///
    /// - Throws: `Malformed` with what is accepted.
    init(_ bytes: ArraySlice<UInt8>) throws(Malformed) {
        guard let end = Self.end(of: bytes) else {
            throw Malformed(message: "this ${file: has no end; expected }; a dollar itself is written $$")
        }
        let path = bytes[..<(end - 1)].dropFirst(Self.start.count)
        self.end = end
        self.written = String(decoding: path, as: UTF8.self)
        guard !path.isEmpty, !path.contains(0) else {
            throw Malformed(message: "this ${file:…} names no file; expected ${file:PATH}")
        }
        guard !self.written.contains(":-") else {
            throw Malformed(
                message: "a ${file:PATH} has no default, since a secret that is missing must not become something else;"
                    + " remove the :- and what follows"
            )
        }
        var rest = path
        var text: [UInt8] = []
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "$") else {
                text.append(byte)
                continue
            }
            if rest.first == UInt8(ascii: "$") {
                text.append(byte)
                rest.removeFirst()
                continue
            }
            guard rest.first == UInt8(ascii: "{"), let close = rest.firstIndex(of: UInt8(ascii: "}")),
                VariableName.isValid(rest[..<close].dropFirst())
            else {
                throw Malformed(
                    message: "in the path of a ${file:PATH} only ${VAR} is replaced, without a default; $$ is a dollar"
                )
            }
            self.parts.append(.text(text))
            self.parts.append(.variable(String(decoding: rest[..<close].dropFirst(), as: UTF8.self)))
            text = []
            rest = rest[close...].dropFirst()
        }
        self.parts.append(.text(text))
    }
}
