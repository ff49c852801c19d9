// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What a tool wants said of its arguments in `Mcp-Param-*` headers (2026-07-28, Streamable HTTP; SEP-2243).
///
/// Whatever stands between a client and a server may go by these headers, so they must say what the body says. Whoever is
/// the HTTP server for a tool checks that.
package struct ParameterHeaders: Hashable, Sendable {
    /// One argument that a header repeats.
    struct Parameter: Hashable, Sendable {
        /// What stands behind `Mcp-Param-`, in lower case.
        let token: [UInt8]
        /// The keys that lead to it from `arguments` on, decoded.
        let path: [[UInt8]]
        let isInteger: Bool
    }

    let parameters: [Parameter]

    /// More headers of one tool than these, and deeper ones, are not looked at.
    private static let parameterLimit = 64
    private static let pathLimit = 8
    /// A longer list of tools is not read: each level of a schema is looked through several times.
    private static let listLimit = 1 << 20

    // MARK: Schemas

    /// What the tools of the `tools/list` response `message` want, by their decoded names; nil for one that wants nothing, or
    /// whose annotations are not valid, so that no client calls it.
    ///
    /// Empty if there is no list that can be read.
    package static func read(_ message: Span<UInt8>) -> [(tool: [UInt8], headers: ParameterHeaders?)] {
        var tools: [(tool: [UInt8], headers: ParameterHeaders?)] = []
        do {
            guard message.count <= Self.listLimit,
                let result = try Self.member("result", of: 0, in: message), result.kind == .object,
                let list = try Self.member("tools", of: result.range.lowerBound, in: message), list.kind == .array
            else { return [] }
            var scanner = JSONScanner(at: list.range.lowerBound, depthLimit: .max)
            var hasTool = try scanner.beginArray(in: message)
            while hasTool {
                let tool = try scanner.value(in: message)
                if tool.kind == .object,
                    let name = try Self.member("name", of: tool.range.lowerBound, in: message)?.string
                {
                    var headers: ParameterHeaders?
                    if let schema = try Self.member("inputSchema", of: tool.range.lowerBound, in: message) {
                        headers = try Self(schema: schema, message)
                    }
                    tools.append((name.decodedBytes(in: message), headers))
                }
                hasTool = try scanner.nextElement(in: message)
            }
        } catch {
            return tools
        }
        return tools
    }

    private init?(schema: JSONValue, _ message: Span<UInt8>) throws(JSONError) {
        var parameters: [Parameter] = []
        guard try Self.collect(schema, path: [], message, into: &parameters), !parameters.isEmpty,
            Set(parameters.map(\.token)).count == parameters.count
        else { return nil }
        self.parameters = parameters
    }

    /// Collects what is annotated at the end of a pure chain of `properties`; false if an annotation is not valid.
    private static func collect(
        _ schema: JSONValue,
        path: [[UInt8]],
        _ message: Span<UInt8>,
        into parameters: inout [Parameter]
    ) throws(JSONError) -> Bool {
        guard schema.kind == .object, path.count <= Self.pathLimit else { return true }
        let start = schema.range.lowerBound
        if !path.isEmpty, let annotation = try self.member("x-mcp-header", of: start, in: message) {
            guard let token = annotation.string?.decodedBytes(in: message), !token.isEmpty,
                token.allSatisfy(HTTP1Bytes.isToken), parameters.count < Self.parameterLimit,
                let type = try self.member("type", of: start, in: message)?.string?.decoded(in: message),
                ["string", "integer", "boolean"].contains(type)
            else { return false }
            parameters.append(
                Parameter(token: token.map(Self.lowercased), path: path, isInteger: type == "integer")
            )
        }
        guard let properties = try self.member("properties", of: start, in: message), properties.kind == .object else {
            return true
        }
        var scanner = JSONScanner(at: properties.range.lowerBound, depthLimit: .max)
        var hasMember = try scanner.beginObject(in: message)
        while hasMember {
            let key = try scanner.key(in: message).decodedBytes(in: message)
            let value = try scanner.value(in: message)
            guard try self.collect(value, path: path + [key], message, into: &parameters) else { return false }
            hasMember = try scanner.nextMember(in: message)
        }
        return true
    }

    // MARK: Calls

    /// The headers of a request, by what stands behind `Mcp-Param-`, in lower case.
    package typealias Headers = [[UInt8]: HeaderField]

    /// Adds the header `name`, with its value, to those of a request.
    package static func add(_ name: Span<UInt8>, value: Range<Int>, to headers: inout Headers) {
        let prefix = 10
        guard name.count > prefix else { return }
        var token: [UInt8] = []
        for index in prefix..<name.count { token.append(Self.lowercased(name[index])) }
        headers[token] = headers[token] == nil ? .one(value) : .repeated
    }

    /// What is wrong with the headers of a `tools/call`; nil if nothing is.
    ///
    /// `arguments` is where the arguments stand in `body`, nil if there are none; `headers` stand in `head`.
    package func rejection(
        arguments: Int?,
        in body: Span<UInt8>,
        headers: Headers,
        in head: Span<UInt8>
    ) -> EraRejection? {
        for parameter in self.parameters {
            let value = arguments.flatMap { Self.value(at: parameter.path, from: $0, in: body) }
            let field: Range<Int>
            switch headers[parameter.token] ?? .absent {
            case .repeated:
                return EraRejection(.headerMismatch, "a Mcp-Param header came more than once")
            case .absent:
                if let value, value.isSaid {
                    return EraRejection(.headerMismatch, "a Mcp-Param header is missing for an argument of the body")
                }
                continue
            case .one(let range):
                field = range
            }
            guard let value, value.isSaid, Self.says(field, in: head, value, isInteger: parameter.isInteger, in: body)
            else { return EraRejection(.headerMismatch, "a Mcp-Param header is not the argument of the body") }
        }
        return nil
    }

    private static func value(at path: [[UInt8]], from start: Int, in body: Span<UInt8>) -> JSONValue? {
        var start = start
        var found: JSONValue?
        for key in path {
            if let found {
                guard found.kind == .object else { return nil }
                start = found.range.lowerBound
            }
            guard let value = try? self.member(key.span, of: start, in: body) else { return nil }
            found = value
        }
        return found
    }

    /// Whether a header value stands for a string, number or boolean of the body.
    private static func says(
        _ field: Range<Int>,
        in head: Span<UInt8>,
        _ value: JSONValue,
        isInteger: Bool,
        in body: Span<UInt8>
    ) -> Bool {
        if let string = value.string { return HeaderNameValue.stands(field, in: head, for: string, in: body) }
        let literal = JSONString(content: value.range, isEscaped: false)
        if HeaderNameValue.stands(field, in: head, for: literal, in: body) { return true }
        guard isInteger || value.kind == .fraction else { return false }
        // 42 and 42.0 are the same; how a number with an exponent is written out is the client's affair.
        let said = HeaderNameValue.trimmed(field, in: head)
        guard let own = DecimalText(body.extracting(value.range)) else { return value.kind == .fraction }
        return DecimalText(head.extracting(said)) == own
    }

    private static func member(
        _ name: StaticString,
        of start: Int,
        in bytes: Span<UInt8>
    ) throws(JSONError) -> JSONValue? {
        let text = UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        return try self.member(text.span, of: start, in: bytes)
    }

    /// The member of the object at `start` that has this name.
    private static func member(
        _ name: Span<UInt8>,
        of start: Int,
        in bytes: Span<UInt8>
    ) throws(JSONError) -> JSONValue? {
        var scanner = JSONScanner(at: start, depthLimit: .max)
        scanner.skipWhiteSpace(in: bytes)
        guard scanner.peek(in: bytes) == UInt8(ascii: "{") else { return nil }
        var hasMember = try scanner.beginObject(in: bytes)
        while hasMember {
            let isMeant = try scanner.key(in: bytes).equals(name, in: bytes)
            let value = try scanner.value(in: bytes)
            if isMeant { return value }
            hasMember = try scanner.nextMember(in: bytes)
        }
        return nil
    }

    private static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}

extension JSONValue {
    /// Whether a header can say it: not null, no object, no array.
    fileprivate var isSaid: Bool {
        switch self.kind {
        case .string, .escapedString, .integer, .fraction, .boolean: true
        case .object, .array, .null: false
        }
    }
}

/// A decimal number without an exponent, however many zeros it is written with.
private struct DecimalText: Hashable {
    private let isNegative: Bool
    private let whole: [UInt8]
    private let fraction: [UInt8]

    /// nil for what is no such number.
    init?(_ text: Span<UInt8>) {
        var whole: [UInt8] = []
        var fraction: [UInt8] = []
        var hasPoint = false
        for index in 0..<text.count {
            switch text[index] {
            case UInt8(ascii: "-") where index == 0: break
            case UInt8(ascii: ".") where !hasPoint: hasPoint = true
            case let digit where (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit):
                if hasPoint { fraction.append(digit) } else { whole.append(digit) }
            default: return nil
            }
        }
        guard !whole.isEmpty, !hasPoint || !fraction.isEmpty else { return nil }
        self.whole = Array(whole.drop { $0 == UInt8(ascii: "0") })
        while fraction.last == UInt8(ascii: "0") { fraction.removeLast() }
        self.fraction = fraction
        let isZero = self.whole.isEmpty && fraction.isEmpty
        self.isNegative = !isZero && text[0] == UInt8(ascii: "-")
    }
}
