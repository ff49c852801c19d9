// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Why the tools of a `tools/list` response cannot be told.
package struct ToolCatalogueError: Error, Hashable, Sendable {
    /// Where it was noticed, in bytes from the start.
    package let offset: Int
    /// What is wrong, a constant text without anything of the message.
    package let reason: String

    package init(offset: Int, reason: String) {
        self.offset = offset
        self.reason = reason
    }
}

/// Takes tools out of a `tools/list` response without touching any other byte of it (contract §2, `toolFilter`).
package enum ToolCatalogue {
    /// What there is to do with a page of the list, and where the list goes on.
    package struct Page: Sendable {
        /// As ``ToolCatalogue/removals(in:maximumDepth:isAdmitted:)`` gives them.
        package let removals: [Range<Int>]?
        /// `result.nextCursor`; nil if there is none that is a string.
        package let nextCursor: JSONString?
    }

    /// Finds what to remove from the JSON-RPC message `message` so that only admitted tools remain.
    ///
    /// `isAdmitted` is asked once for each tool, in order, with its decoded name; names come as Swift strings, which
    /// compare by canonical equivalence. A tool without a name that is a string is not admitted, since nobody can call
    /// it. `maximumDepth` is how many objects and arrays may be open inside one another (`limits.jsonDepth`), the same as
    /// where the message was scanned: a list that passed there must not fail here, or its caller gets none.
    ///
    /// - Returns: Ranges of `message`, ascending and apart, commas included; nil if nothing is to be removed, also for
    ///   a message without a `result`.
    /// - Throws: ``ToolCatalogueError`` if the text is no JSON object, if it has a `result` without a readable `tools`
    ///   array, or if one of the keys that decide (`result`, `tools`, and `name` of a tool, however they are written)
    ///   comes twice, or comes in another case, which some clients take for the same: the caller answers an error then,
    ///   and forwards nothing.
    package static func removals(
        in message: Span<UInt8>,
        maximumDepth: Int,
        isAdmitted: (String) -> Bool
    ) throws(ToolCatalogueError) -> [Range<Int>]? {
        try self.page(in: message, maximumDepth: maximumDepth, isAdmitted: isAdmitted).removals
    }

    /// The same, together with the cursor of the next page.
    package static func page(
        in message: Span<UInt8>,
        maximumDepth: Int,
        isAdmitted: (String) -> Bool
    ) throws(ToolCatalogueError) -> Page {
        var reader = ToolCatalogueReader(maximumDepth: maximumDepth)
        do {
            try reader.read(message, isAdmitted: isAdmitted)
        } catch {
            throw ToolCatalogueError(offset: error.offset, reason: error.reason.rawValue)
        }
        if let fault = reader.fault { throw fault }
        return Page(removals: reader.removals.isEmpty ? nil : reader.removals, nextCursor: reader.nextCursor)
    }

    /// The message without `removals`, which must be ascending and apart, as ``removals(in:maximumDepth:isAdmitted:)``
    /// gives them.
    package static func removing(_ removals: [Range<Int>], from message: Span<UInt8>) -> [UInt8] {
        var kept: [UInt8] = []
        kept.reserveCapacity(message.count)
        var start = 0
        for removal in removals where removal.lowerBound >= start {
            JSONText.append(raw: start..<removal.lowerBound, of: message, to: &kept)
            start = removal.upperBound
        }
        JSONText.append(raw: start..<message.count, of: message, to: &kept)
        return kept
    }
}

/// Reads a message down to the names of its tools.
private struct ToolCatalogueReader {
    private var scanner: JSONScanner
    private(set) var removals: [Range<Int>] = []
    private(set) var nextCursor: JSONString?
    /// The first broken rule.
    private(set) var fault: ToolCatalogueError?

    init(maximumDepth: Int) {
        self.scanner = JSONScanner(depthLimit: maximumDepth)
    }

    mutating func read(_ message: Span<UInt8>, isAdmitted: (String) -> Bool) throws(JSONError) {
        self.scanner.skipWhiteSpace(in: message)
        var hasResult = false
        var hasMember = try self.scanner.beginObject(in: message)
        while hasMember {
            let key = try self.scanner.key(in: message)
            if key.equals("result", in: message) {
                if hasResult { self.report("result comes twice") }
                hasResult = true
                try self.readResult(message, isAdmitted: isAdmitted)
            } else {
                if key.folds(to: "result", in: message) { self.report("a key differs from result only by case") }
                _ = try self.scanner.value(in: message)
            }
            hasMember = try self.scanner.nextMember(in: message)
        }
        try self.scanner.finish(in: message)
    }

    private mutating func readResult(_ message: Span<UInt8>, isAdmitted: (String) -> Bool) throws(JSONError) {
        guard self.scanner.peek(in: message) == UInt8(ascii: "{") else {
            self.report("result is not an object")
            _ = try self.scanner.value(in: message)
            return
        }
        var hasTools = false
        var hasMember = try self.scanner.beginObject(in: message)
        while hasMember {
            let key = try self.scanner.key(in: message)
            if key.equals("tools", in: message) {
                if hasTools { self.report("tools comes twice") }
                hasTools = true
                try self.readTools(message, isAdmitted: isAdmitted)
            } else {
                if key.folds(to: "tools", in: message) { self.report("a key differs from tools only by case") }
                let isCursor = key.equals("nextCursor", in: message)
                let value = try self.scanner.value(in: message)
                if isCursor { self.nextCursor = value.string }
            }
            hasMember = try self.scanner.nextMember(in: message)
        }
        if !hasTools { self.report("result has no tools") }
    }

    /// Reads the array: tools that go together go with the comma before them, or at its start with the one behind.
    private mutating func readTools(_ message: Span<UInt8>, isAdmitted: (String) -> Bool) throws(JSONError) {
        guard self.scanner.peek(in: message) == UInt8(ascii: "[") else {
            self.report("tools is not an array")
            _ = try self.scanner.value(in: message)
            return
        }
        // Where the tools that go began to go, and where the last one kept or gone ended.
        var removalStart: Int?
        var lastEnd: Int?
        var hasKeptOne = false
        var hasElement = try self.scanner.beginArray(in: message)
        while hasElement {
            let start = self.scanner.index
            let name = try self.readTool(message)
            if let name, isAdmitted(name.decoded(in: message)) {
                if let removal = removalStart {
                    self.removals.append(removal..<(hasKeptOne ? lastEnd ?? start : start))
                }
                removalStart = nil
                hasKeptOne = true
            } else if removalStart == nil {
                removalStart = hasKeptOne ? lastEnd : start
            }
            lastEnd = self.scanner.index
            hasElement = try self.scanner.nextElement(in: message)
        }
        if let removalStart, let lastEnd { self.removals.append(removalStart..<lastEnd) }
    }

    /// Reads one element; nil if it is no tool with a name.
    private mutating func readTool(_ message: Span<UInt8>) throws(JSONError) -> JSONString? {
        guard self.scanner.peek(in: message) == UInt8(ascii: "{") else {
            _ = try self.scanner.value(in: message)
            return nil
        }
        var name: JSONValue?
        var hasMember = try self.scanner.beginObject(in: message)
        while hasMember {
            let key = try self.scanner.key(in: message)
            let value = try self.scanner.value(in: message)
            if key.equals("name", in: message) {
                if name != nil { self.report("the name of a tool comes twice") }
                name = value
            } else if key.folds(to: "name", in: message) {
                self.report("a key of a tool differs from name only by case")
            }
            hasMember = try self.scanner.nextMember(in: message)
        }
        return name?.string
    }

    private mutating func report(_ reason: String) {
        if self.fault == nil { self.fault = ToolCatalogueError(offset: self.scanner.index, reason: reason) }
    }
}
