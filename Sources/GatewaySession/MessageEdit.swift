// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A piece of a message that is written anew; everything else of it stays as it came.
package struct MessageEdit: Hashable, Sendable {
    /// The bytes that go, counted from the start of the message.
    package let range: Range<Int>
    /// What takes their place, as JSON text.
    package let text: [UInt8]

    package init(_ range: Range<Int>, _ text: [UInt8]) {
        self.range = range
        self.text = text
    }

    package init(_ range: Range<Int>, _ number: Int64) { self.init(range, Array(String(number).utf8)) }
}
