// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("The value of --watch") struct WatchSettingTests {
    @Test(
        "It is auto, off, or a duration from a second to a day",
        arguments: [
            ("auto", .automatic), ("off", .off), ("60s", .every(.seconds(60))), ("1s", .every(.seconds(1))),
            ("1500ms", .every(.milliseconds(1_500))), ("24h", .every(.seconds(86_400))),
            ("1h30m", .every(.seconds(5_400))), ("1000000000ns", .every(.seconds(1))),
        ] as [(String, WatchSetting)]
    )
    func accepted(text: String, expected: WatchSetting) { #expect(WatchSetting(text) == expected) }

    @Test(
        "Everything else is nothing, and the message can say what is accepted",
        arguments: [
            "", "on", "Auto", "AUTO", " off", "60", "0", "-60s", "999ms", "999999999ns", "24h1ns", "25h", "1y", "60s ",
            "999999999999999999h", "1e3s",
        ]
    )
    func refused(text: String) {
        #expect(WatchSetting(text) == nil)
        #expect(WatchSetting.accepted.contains("auto, off"))
    }
}
