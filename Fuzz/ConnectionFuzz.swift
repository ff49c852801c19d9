// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Leads the machine of a caller's connection through a script of events, and compares it with a model.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzConnection(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = ConnectionInvariants.violation(of: bytes) { fatalError(violation) }
    return 0
}
