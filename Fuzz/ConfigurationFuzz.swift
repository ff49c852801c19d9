// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Feeds arbitrary bytes to the reader of configuration files.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzConfiguration(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    if let violation = ConfigurationInvariants.violation(of: bytes) { fatalError(violation) }
    return 0
}
