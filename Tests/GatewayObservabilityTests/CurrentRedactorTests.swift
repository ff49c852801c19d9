// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import Testing

@Suite("The redactor of the moment") struct CurrentRedactorTests {
    static let text = "old-secret new-secret"

    @Test("It masks the secrets of the configuration that it was told last")
    func configured() {
        let current = CurrentRedactor([Secret("old-secret")])
        #expect(current.value.redacted(Self.text) == "••• new-secret")
        current.configure([Secret("new-secret")])
        #expect(current.value.redacted(Self.text) == "old-secret •••")
    }

    @Test("A secret that is used is masked from before its first use until after its last, whatever is configured")
    func held() {
        let current = CurrentRedactor([Secret("old-secret")])
        current.hold(Secret("old-secret"))
        current.hold(Secret("old-secret"))
        current.hold(Secret("new-secret"))
        #expect(current.value.redacted(Self.text) == "••• •••")
        current.configure([Secret("new-secret")])
        #expect(current.value.redacted(Self.text) == "••• •••")
        current.release(Secret("old-secret"))
        #expect(current.value.redacted(Self.text) == "••• •••")
        current.release(Secret("old-secret"))
        #expect(current.value.redacted(Self.text) == "old-secret •••")
        current.release(Secret("new-secret"))
        #expect(current.value.redacted(Self.text) == "old-secret •••")
    }

    @Test("What nobody holds cannot be given back")
    func notHeld() {
        let current = CurrentRedactor()
        current.release(Secret("old-secret"))
        current.hold(Secret("old-secret"))
        #expect(current.value.redacted(Self.text) == "••• new-secret")
    }
}
