// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Asking for another version only") struct HTTPValidatorsTests {
    private func makeValidators(_ entityTag: String?, _ lastModified: String?) -> HTTPValidators {
        var validators = HTTPValidators()
        validators.entityTag = entityTag
        validators.lastModified = lastModified
        return validators
    }

    @Test(
        "A request has a condition for each validator that the server gave, with the value as it came",
        arguments: [
            (nil, nil, ""), (#""1""#, nil, "If-None-Match: \"1\"\r\n"),
            (#"W/"a b""#, nil, "If-None-Match: W/\"a b\"\r\n"),
            (nil, "Sun, 06 Nov 1994 08:49:37 GMT", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
            (nil, "yesterday", "If-Modified-Since: yesterday\r\n"),
            (
                #""1""#, "Sun, 06 Nov 1994 08:49:37 GMT",
                "If-None-Match: \"1\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
            ),
        ] as [(String?, String?, String)]
    )
    func conditions(entityTag: String?, lastModified: String?, lines: String) {
        #expect(self.makeValidators(entityTag, lastModified).conditions == lines)
    }

    @Test("Without validators a request has no condition, and validators are the same if both values are")
    func equality() {
        #expect(HTTPValidators().conditions.isEmpty)
        let all = [
            HTTPValidators(), self.makeValidators("1", nil), self.makeValidators("2", nil),
            self.makeValidators(nil, "1"), self.makeValidators("1", "1"),
        ]
        #expect(Set(all).count == all.count)
        #expect(self.makeValidators(nil, nil) == HTTPValidators())
    }
}
