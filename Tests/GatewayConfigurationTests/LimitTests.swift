// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Limits") struct LimitTests {
    private func limits(_ members: String) -> LoadResult {
        load(document(server: #""url": "https://h/""#, gateway: ", \"limits\": {\(members)}"))
    }

    @Test("Without limits, all have the defaults of the contract")
    func defaults() throws {
        #expect(try #require(self.limits("").snapshot).listener.limits == Limits())
    }

    @Test("The table's defaults are those of the model", arguments: KeyTable.limits.keys.map(\.name))
    func tableDefaults(key: String) throws {
        let fallback = try #require(KeyTable.limits[key]?.fallback)
        let result = self.limits("\"\(key)\": \(fallback)")
        #expect(result.codes == [])
        #expect(try #require(result.snapshot).listener.limits == Limits())
    }

    @Test("Every limit can be set, and sets only itself", arguments: KeyTable.limits.keys.map(\.name))
    func each(key: String) throws {
        let shape = try #require(KeyTable.limits[key]).shape
        let value: String
        switch shape {
        case .size: value = "\"128KiB\""
        case .duration: value = "\"77s\""
        default: value = "77"
        }
        let result = self.limits("\"\(key)\": \(value)")
        #expect(result.codes == [])
        #expect(
            try #require(result.snapshot).listener.limits.differences == [
                "\(key)=\(value.filter { $0 != "\"" })".readable
            ]
        )
    }

    @Test(
        "Every counted limit is accepted at its ends and refused beyond them",
        arguments: KeyTable.limits.keys.map(\.name)
    )
    func ends(key: String) throws {
        let range: ClosedRange<Int>
        switch try #require(KeyTable.limits[key]).shape {
        case .size(let bounds), .integer(let bounds): range = bounds
        default: return
        }
        for value in [range.lowerBound, range.upperBound] { #expect(self.limits("\"\(key)\": \(value)").codes == []) }
        for value in [range.lowerBound - 1, range.upperBound + 1] {
            #expect(self.limits("\"\(key)\": \(value)").codes == ["out-of-range"])
        }
    }

    @Test("No limit on connections from one address is written 0 or null", arguments: ["0", "null"])
    func addressLimit(value: String) throws {
        let result = self.limits("\"connectionsPerAddress\": \(value)")
        #expect(try #require(result.snapshot).listener.limits.connectionsPerAddress == nil)
    }
}

extension String {
    /// A duration as a summary writes it.
    fileprivate var readable: String { self.replacing("77s", with: "1m17s") }
}
