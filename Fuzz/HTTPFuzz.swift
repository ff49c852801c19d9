// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Feeds arbitrary bytes to the HTTP/1.1 codec and to the checks of what it reads.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzHTTP(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = HTTPInvariants.violation(of: bytes) { fatalError(violation) }
    return 0
}
