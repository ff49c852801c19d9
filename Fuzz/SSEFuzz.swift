// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Feeds arbitrary bytes to the event stream decoder, whole and in pieces, and what comes out to the encoder.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzSSE(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = SSEInvariants.violation(of: bytes) { fatalError(violation) }
    return 0
}
