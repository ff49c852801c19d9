// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

/// Expects two values to be equal.
///
/// A function, since the macro takes neither a call that changes a value nor one of a value that cannot be copied.
func expect<Value: Equatable>(
    _ value: Value,
    is expected: Value,
    _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(value == expected, comment, sourceLocation: sourceLocation)
}
