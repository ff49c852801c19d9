// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayObservability

@Suite("Process metrics") struct ProcessMetricsTests {
    #if os(Linux)
    @Test("The process is measured at each scrape")
    func register() throws {
        let registry = MetricsRegistry()
        ProcessMetrics.register(in: registry)
        var output: [UInt8] = []
        registry.render(into: &output)
        var values: [String: Double] = [:]
        for line in String(decoding: output, as: UTF8.self).split(separator: "\n") where !line.hasPrefix("#") {
            let parts = line.split(separator: " ")
            values[String(parts[0])] = Double(parts[1])
        }
        let now = Double(Platform.wallClock()) / 1e9
        #expect((1_000_000...100_000_000_000).contains(values["mcp_proxy_process_resident_memory_bytes"] ?? 0))
        #expect((3...100_000).contains(values["mcp_proxy_process_open_fds"] ?? 0))
        #expect((0.0001...100_000).contains(values["mcp_proxy_process_cpu_seconds_total"] ?? 0))
        #expect((now - 86_400...now + 5).contains(values["mcp_proxy_process_start_time_seconds"] ?? 0))
        #expect(values.count == 4)
    }
    #endif

    @Test(
        "The start is field 22, whatever the name of the program is",
        arguments: [
            ("1 (mcp-proxy) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21\n", 4711),
            ("1 (a b) (c) ) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711", 4711),
            ("1 (mcp-proxy) S 1 2 3", nil), ("", nil), ("no parenthesis", nil), ("1 (x)", nil),
        ] as [(String, Int?)]
    )
    func startTicks(text: String, expected: Int?) {
        #expect(ProcessText.startTicks(Array(text.utf8)) == expected)
    }

    @Test(
        "Resident pages are the second number",
        arguments: [("100 20 3 4 5 6 7\n", 20), ("100", nil), ("", nil), ("a b", nil)] as [(String, Int?)]
    )
    func residentPages(text: String, expected: Int?) {
        #expect(ProcessText.residentPages(Array(text.utf8)) == expected)
    }

    @Test(
        "The boot time is on its line",
        arguments: [
            ("cpu 1 2\nbtime 1700000000\nprocesses 1\n", 1_700_000_000), ("cpu 1\n", nil), ("btime x", nil), ("", nil),
        ] as [(String, Int?)]
    )
    func bootTime(text: String, expected: Int?) {
        #expect(ProcessText.bootTime(Array(text.utf8)) == expected)
    }
}
