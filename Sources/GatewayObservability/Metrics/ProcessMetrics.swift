// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the process costs: memory, descriptors, processor time, and since when.
package enum ProcessMetrics {
    /// The memory of the process, in bytes; nil where the system does not say.
    package static var residentBytes: Int? { Platform.Process.residentBytes() }

    /// Adds `mcp_proxy_process_*`, read at each scrape; on systems without `/proc` they stay away.
    package static func register(in registry: MetricsRegistry) {
        guard let start = Platform.Process.startTime() else { return }
        registry.callback(.processStartTime) { start }
        registry.callback(.processResidentMemory) { self.residentBytes.map(Double.init) }
        registry.callback(.processOpenFDs) { Platform.Process.openDescriptors().map(Double.init) }
        registry.callback(.processCPU) { Platform.Process.cpuNanoseconds().map { Double($0) / 1e9 } }
    }
}

/// Reads the files of `/proc` (proc(5)).
enum ProcessText {
    /// The second number of `/proc/PID/statm`: pages in memory.
    static func residentPages(_ text: [UInt8]) -> Int? {
        Self.number(text.split(separator: UInt8(ascii: " ")).dropFirst().first)
    }

    /// Field 22 of `/proc/PID/stat`: when the process started, in ticks since boot.
    ///
    /// The name of the program is in parentheses and may have spaces and parentheses in it, so fields are counted from
    /// the last one, which ends field 2.
    static func startTicks(_ text: [UInt8]) -> Int? {
        guard let end = text.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        return Self.number(text[(end + 1)...].split(separator: UInt8(ascii: " ")).dropFirst(19).first)
    }

    /// The line `btime` of `/proc/stat`: when the system started, in seconds since 1970.
    static func bootTime(_ text: [UInt8]) -> Int? {
        let line = text.split(separator: UInt8(ascii: "\n")).first { $0.starts(with: "btime ".utf8) }
        return Self.number(line?.dropFirst(6))
    }

    private static func number(_ text: ArraySlice<UInt8>?) -> Int? {
        text.flatMap { Int(String(decoding: $0, as: UTF8.self)) }
    }
}
