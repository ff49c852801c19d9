// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

/// Expects two values to be equal.
///
/// A function, since the macro cannot take an operator beside `try await` in a closure.
func expect<Value: Equatable>(
    _ value: Value,
    is expected: Value,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(value == expected, sourceLocation: sourceLocation)
}
