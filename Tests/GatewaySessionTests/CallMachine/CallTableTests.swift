// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import Testing

@Suite("Calls: every event in every state") struct CallTableTests {
    @Test("What is to be done is decided for every event in every state", arguments: CallStage.allCases)
    func table(stage: CallStage) {
        var done: [String] = []
        for input in CallInput.allCases {
            var call = stage.call()
            let action = input.happen(to: &call)
            if action != "–" { done.append("\(input.rawValue): \(action)") }
        }
        let text = done.joined(separator: "\n")
        #expect(text == CallTable.expected[stage], "\(stage.rawValue)\n\(text)")
    }

    @Test("Nothing is done for a call that is over", arguments: CallInput.allCases)
    func nothingAfterDone(input: CallInput) {
        var call = CallStage.done.call()
        #expect(input.happen(to: &call) == "–")
        let isOver = call.isOver
        #expect(isOver)
    }
}
