// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Feeds arbitrary bytes to the envelope scanner, the era classifier and the tool filter.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzEnvelope(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = EnvelopeInvariants.violation(of: bytes) { fatalError(violation) }
    return 0
}
