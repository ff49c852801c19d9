// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

/// What other programs' files restrict is kept, or the file is refused (contract U20).
@Suite("Restrictions of other programs") struct RestrictionTests {
    private static let url = #""url": "https://h/""#

    @Test(
        "A server that its client has switched off is left out, and one line says so",
        arguments: [
            #""disabled": true"#, #""enabled": false"#, #""isActive": false"#, #""disable": true"#,
            #""options": {"enabled": false}"#, #""disabled": true, "options": {"disabled": false}"#,
            #""enabled": true, "disabled": true"#,
        ]
    )
    func leftOut(members: String) {
        let result = load(document(server: "\(Self.url), \(members)"))
        #expect(result.snapshot?.upstreams.first?.isDisabled == true)
        #expect(result.codes == ["foreign-key"])
    }

    @Test("In other letters it is the same, with a word about the letters", arguments: ["Disabled", "DISABLED"])
    func letters(key: String) {
        let result = load(document(server: "\(Self.url), \"\(key)\": true"))
        #expect(result.snapshot?.upstreams.first?.isDisabled == true)
        #expect(result.codes == ["key-case", "foreign-key"])
    }

    @Test(
        "What switches nothing off, and what hides nothing, is no word worth",
        arguments: [
            #""disabled": false"#, #""enabled": true"#, #""isActive": true"#, #""excludeTools": []"#,
            #""disabledTools": [], "options": {"disabled": false}"#, #""disabled": null"#, #""enabled": null"#,
        ]
    )
    func nothing(members: String) {
        let result = load(document(server: "\(Self.url), \(members)"))
        #expect(result.snapshot?.upstreams.first?.isDisabled == false)
        #expect(result.one?.toolFilter == nil)
        #expect(result.codes == [])
    }

    @Test(
        "The lists of tools of clients are tool filters",
        arguments: [
            (#""includeTools": ["a", "b_*"]"#, .allow, ["a", "b_*"]), (#""tools": ["*"]"#, .allow, ["*"]),
            (#""enabled_tools": ["a"]"#, .allow, ["a"]), (#""allowedTools": "a, b""#, .allow, ["a", "b"]),
            (#""excludeTools": ["a"]"#, .block, ["a"]), (#""disabledTools": ["a"]"#, .block, ["a"]),
            (#""disabled_tools": ["a"]"#, .block, ["a"]),
            (#""includeTools": ["a"], "excludeTools": []"#, .allow, ["a"]),
            (#""options": {"disabledTools": ["a"]}"#, .block, ["a"]),
        ] as [(String, ToolFilter.Mode, [String])]
    )
    func tools(members: String, mode: ToolFilter.Mode, names: [String]) {
        let result = load(document(server: "\(Self.url), \(members)"))
        #expect(result.snapshot?.upstreams.first?.toolFilter == ToolFilter(mode: mode, names: names))
        #expect(result.codes == ["foreign-key"])
    }

    @Test("An empty list of what is shown shows nothing, as clients take it, with a warning")
    func showsNothing() {
        let result = load(document(server: "\(Self.url), \"includeTools\": []"))
        #expect(result.snapshot?.upstreams.first?.toolFilter == ToolFilter(mode: .allow, names: []))
        #expect(result.codes == ["foreign-key", "empty-tool-filter"])
    }

    @Test("The first version of the file keeps them, too, beside its config and in it")
    func firstVersion() {
        let result = load(
            #"""
            {"server": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1"}, "clients": {
            "a": {"disabled": true, "config": {"url": "https://h/"}},
            "b": {"config": {"url": "https://h/", "enabled": false}},
            "c": {"config": {"url": "https://h/"}, "excludeTools": ["t"]}}}
            """#
        )
        #expect(result.snapshot?.upstreams.map(\.isDisabled) == [true, true, false])
        #expect(result.snapshot?.upstreams.last?.toolFilter == ToolFilter(mode: .block, names: ["t"]))
    }

    @Test(
        "Options of the second version that guard something have no place in the first",
        arguments: [
            #""options": {"authTokens": ["t"]}"#, #""options": {"toolFilter": {"mode": "block", "list": ["a"]}}"#,
            #""toolFilter": {"mode": "block", "list": ["a"]}"#, #""sandboxEnabled": true"#,
        ]
    )
    func optionsOfFirstVersion(member: String) {
        for place in [#""config": {"url": "https://h/"}, \#(member)"#, #""config": {"url": "https://h/", \#(member)}"#]
        {
            let result = load(
                #"""
                {"server": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1"},
                "clients": {"a": {\#(place)}}}
                """#
            )
            #expect(result.findings.filter { $0.severity == .error }.map(\.code) == [.restrictionIgnored])
        }
    }

    @Test("What only makes a client more comfortable is one line for the whole file")
    func conveniences() {
        let result = load(
            #"""
            {"mcpProxy": {"baseURL": "http://h", "addr": "localhost:1", "name": "n", "version": "1"}, "mcpServers": {
            "a": {"url": "https://h/", "alwaysAllow": ["x"], "description": "d"},
            "b": {"command": "c", "autoApprove": [], "AlwaysAllow": ["y"], "trust": true}}}
            """#
        )
        #expect(result.codes == ["client-key"])
        #expect(result.findings.first?.path == "mcpServers.a.alwaysAllow")
        #expect(result.findings.first?.message.contains("alwaysAllow, description, autoApprove") == true)
    }

    @Test(
        "A restriction that is switched off, or that says nothing, is no error",
        arguments: [
            #""oauth2": {"enabled": false, "users": [1]}"#, #""oauth2": null"#, #""oauth2": {}"#, #""tls": false"#,
            #""apiKey": """#, #""authTokens": []"#, #""disabled": false"#, #""enabled": true"#,
        ]
    )
    func switchedOff(member: String) {
        let result = load(document(server: Self.url, gateway: ", \(member)"))
        #expect(result.snapshot != nil)
        #expect(result.codes == ["unknown-key"])
    }

    @Test("The message about a login that nobody would ask for says what to do instead")
    func message() throws {
        let result = load(document(server: Self.url, gateway: #", "oauth2": {"users": ["CANARY"]}"#))
        let finding = try #require(result.findings.first)
        #expect(finding.message.contains("mcpProxy.options.authTokens") && finding.message.contains("remove this key"))
        #expect(!finding.message.contains("CANARY"))
    }
}
