// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("Which findings are new") struct FindingHistoryTests {
    private func finding(
        _ code: Finding.Code = .unknownKey,
        path: String = "mcpProxy.x",
        line: Int = 3,
        message: String = "this key is not known"
    ) -> Finding {
        Finding(code: code, path: path, line: line, column: line, message: message)
    }

    @Test("A warning is said once, however often the configuration is read")
    func once() {
        let warning = self.finding()
        var history = FindingHistory()
        #expect(history.new(in: [warning]) == [warning])
        #expect(history.new(in: [warning]) == [])
        #expect(history.new(in: [warning]) == [])
        var started = FindingHistory([warning])
        #expect(started.new(in: [warning]) == [])
    }

    @Test(
        "A finding is another one if its code, its path or its message is; its line is no part of it",
        arguments: [(Finding.Code.keyCase, "p", 3, "m"), (.unknownKey, "q", 3, "m"), (.unknownKey, "p", 3, "n")]
    )
    func identity(code: Finding.Code, path: String, line: Int, message: String) {
        var history = FindingHistory([self.finding(path: "p", message: "m")])
        #expect(history.new(in: [self.finding(path: "p", line: 4, message: "m")]) == [])
        let other = self.finding(code, path: path, line: line, message: message)
        #expect(history.new(in: [self.finding(path: "p", message: "m"), other]) == [other])
    }

    @Test("What went away and comes again is new")
    func again() {
        let warning = self.finding()
        var history = FindingHistory([warning])
        #expect(history.new(in: []) == [])
        #expect(history.new(in: [warning]) == [warning])
    }

    @Test("Notes are said like warnings")
    func notes() {
        let note = self.finding(.foreignKey)
        var history = FindingHistory()
        #expect(history.new(in: [note]) == [note])
        #expect(history.new(in: [note]) == [])
    }

    @Test("All errors of a rejected configuration are said, and its warnings only if they are new")
    func rejected() {
        let known = self.finding(path: "known")
        let warning = self.finding(path: "new")
        let first = self.finding(.wrongType, path: "first")
        let second = self.finding(.wrongType, path: "second")
        var history = FindingHistory([known])
        #expect(history.new(in: [known, first, warning]) == [first, warning])
        #expect(history.new(in: [known, first, second, warning]) == [first, second])
    }

    @Test("A configuration that is rejected again with the very same findings says nothing more")
    func rejectedAgain() {
        let error = self.finding(.wrongType)
        let moved = self.finding(.wrongType, line: 4)
        var history = FindingHistory()
        #expect(history.new(in: [error]) == [error])
        #expect(history.new(in: [error]) == [])
        // Somebody worked on the text: it says where the errors are now.
        #expect(history.new(in: [moved]) == [moved])
        #expect(history.new(in: []) == [])
        #expect(history.new(in: [moved]) == [moved])
    }
}
