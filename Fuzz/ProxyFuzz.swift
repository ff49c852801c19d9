// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Feeds arbitrary bytes to the handshakes with outbound proxies, whole and in pieces.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzProxy(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = ProxyInvariants.violation(of: bytes) { fatalError(violation) }
    return 0
}
