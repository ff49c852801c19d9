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
    /// Finds what to remove from the JSON-RPC message `message` so that only admitted tools remain.
    ///
    /// A tool without a name that is a string is not admitted, since nobody can call it.
    ///
    /// - Parameters:
    ///   - maximumDepth: how many objects and arrays may be open inside one another.
    ///   - isAdmitted: asked once for each tool, in order, with its decoded name. Names come as Swift strings, which
    ///     compare by canonical equivalence.
    /// - Returns: ranges of `message`, ascending and apart, commas included; nil if nothing is to be removed, also for a
    ///   message without a `result`.
    /// - Throws: ``ToolCatalogueError`` if the text is no JSON object, if it has a `result` without a readable `tools`
    ///   array, or if one of the keys that decide (`result`, `tools`, `name`) comes twice: the caller answers an error
    ///   then, and forwards nothing.
    package static func removals(
        in message: Span<UInt8>,
        maximumDepth: Int = 64,
        isAdmitted: (String) -> Bool
    ) throws(ToolCatalogueError) -> [Range<Int>]? {
        nil
    }

    /// The message without `removals`, which must be ascending and apart.
    package static func removing(_ removals: [Range<Int>], from message: Span<UInt8>) -> [UInt8] {
        []
    }
}
