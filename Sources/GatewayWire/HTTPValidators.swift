// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What a server said of the version of what it sent, so that it sends another one only (RFC 9110 §8.8).
package struct HTTPValidators: Hashable, Sendable {
    /// The value of `ETag` as it came; nil without one.
    package var entityTag: String?
    /// The value of `Last-Modified` as it came; nil without one.
    package var lastModified: String?

    /// None: whatever there is, is sent.
    package init() {}

    /// The field lines of a request that wants another version only (RFC 9110 §13.1.2, §13.1.3).
    package var conditions: String {
        (self.entityTag.map { "If-None-Match: \($0)\r\n" } ?? "")
            + (self.lastModified.map { "If-Modified-Since: \($0)\r\n" } ?? "")
    }
}
