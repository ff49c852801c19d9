// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import Testing

@testable import GatewayConfiguration

@Suite("Environment expansion") struct EnvironmentExpansionTests {
    private static let environment = [
        "A": "alpha", "EMPTY": "", "DOLLAR": "${A} $A $$", "QUOTE": "\"}", "LIST": #"["x", "y"]"#, "NUMBER": "7",
        "TEXT": "plain", "_u1": "under", "AB": "both",
    ]

    /// What becomes of a string value, seen in the model; nil if the configuration does not load.
    private func expand(_ json: String, expandsEnvironment: Bool = true) -> (text: String?, codes: [String]) {
        let result = load(
            document(server: "\"command\": \"c\", \"args\": [\(json)]"),
            environment: Self.environment,
            expandsEnvironment: expandsEnvironment
        )
        guard case .stdio(let stdio) = result.one?.transport else { return (nil, result.codes) }
        return (stdio.arguments.first, result.codes)
    }

    @Test(
        "References in strings are replaced once, and everything else stays as it is",
        arguments: [
            ("${A}", "alpha"), ("<${A}/${_u1}>", "<alpha/under>"), ("$A", "alpha"), ("$AB!", "both!"),
            ("$A.B", "alpha.B"), ("$UNSET", "$UNSET"), ("$UNSET_A", "$UNSET_A"), ("$", "$"), ("a$", "a$"), ("$1", "$1"),
            ("$ A", "$ A"), ("$$", "$"), ("$$A", "$A"), ("$${A}", "${A}"), ("$$$A", "$alpha"),
            ("${DOLLAR}", "${A} $A $$"),
            ("${UNSET:-d}", "d"), ("${UNSET:-}", ""), ("${EMPTY:-d}", "d"), ("${A:-d}", "alpha"), ("${EMPTY}", ""),
            ("$EMPTY", ""), ("${UNSET:-a:-b}", "a:-b"), ("${UNSET:-$$5}", "$5"), ("é${A}é", "éalphaé"), ("}{", "}{"),
            ("${UNSET:-${}", nil), ("${UNSET:-$A}", nil), ("${", nil), ("${A", nil), ("${}", nil), ("${A }", nil),
            ("${A:d}", nil), ("${A-d}", nil), ("${9}", nil),
        ] as [(String, String?)]
    )
    func strings(text: String, expected: String?) {
        let (result, codes) = self.expand("\"\(text)\"")
        #expect(result == expected)
        #expect(codes == (expected == nil ? ["bad-expansion"] : []))
    }

    @Test("An unset variable becomes empty, with a warning that names path and variable")
    func unset() throws {
        let result = load(document(server: #""command": "c", "args": ["x${UNSET}y"]"#))
        let finding = try #require(result.findings.first)
        #expect(result.findings.count == 1)
        #expect(finding.code == .variableUnset)
        #expect(finding.path == "mcpServers.one.args[0]")
        #expect(finding.message.contains("UNSET"))
        guard case .stdio(let stdio) = try #require(result.snapshot).upstreams[0].transport else { return }
        #expect(stdio.arguments == ["xy"])
    }

    @Test("With expansion switched off, text stays as it is and an unquoted variable is an error")
    func switchedOff() {
        #expect(self.expand(#""${A} $$ $A""#, expandsEnvironment: false).text == "${A} $$ $A")
        #expect(self.expand("${TEXT}", expandsEnvironment: false).codes == ["syntax"])
    }

    @Test("A quote in a variable does not end the string that it is put into")
    func quotes() {
        #expect(self.expand(#""<${QUOTE}>""#).text == "<\"}>")
    }

    @Test("Keys are not expanded")
    func keys() throws {
        let result = load(document(server: #""command": "c", "env": {"${A}": "${A}"}"#), environment: Self.environment)
        guard case .stdio(let stdio) = try #require(result.snapshot).upstreams[0].transport else { return }
        #expect(stdio.environment.map(\.name) == ["${A}"])
        #expect(stdio.environment.map { $0.value.reveal() } == ["alpha"])
    }

    @Test("An unquoted variable stands for its JSON text, which is not expanded again")
    func unquoted() throws {
        let environment = [
            "ARGS": #"["${ARGS}", "$$"]"#, "MODE": "true", "TIMEOUT": "\"45s\"", "ODD": " // c\n 3, ",
            "DEEP": String(repeating: "[", count: 63) + String(repeating: "]", count: 63),
        ]
        let result = load(
            document(
                server: #""command": "c", "args": ${ARGS}, "timeout": ${TIMEOUT}, "options": {"disabled": ${MODE}}"#
            ),
            environment: environment
        )
        let one = try #require(result.snapshot?.upstreams.first)
        guard case .stdio(let stdio) = one.transport else { return }
        #expect(stdio.arguments == ["${ARGS}", "$$"])
        #expect(one.isDisabled)
        #expect(one.timeout == .seconds(45))
        for variable in ["ODD", "DEEP"] {
            let result = load(document(server: "\"command\": ${\(variable)}"), environment: environment)
            #expect(result.codes == ["variable-not-json"])
        }
    }

    @Test(
        "An unquoted variable has its default where it is unset or empty",
        arguments: [("${UNSET:-2}", 2), ("${EMPTY:-3}", 3), ("${NUMBER:-4}", 7), ("${NUMBER}", 7)]
    )
    func unquotedDefault(reference: String, expected: Int) {
        let result = load(
            document(server: #""command": "c""#, gateway: ", \"limits\": {\"connections\": \(reference)}"),
            environment: Self.environment
        )
        #expect(result.snapshot?.listener.limits.connections == expected)
    }

    @Test("What is in a variable that is no JSON is not shown")
    func silence() {
        let result = load(document(server: #""command": ${A}"#), environment: ["A": "CANARY-a"])
        #expect(result.codes == ["variable-not-json"])
        #expect(result.findings.allSatisfy { !"\($0)".contains("CANARY") })
    }

    @Test(
        "A security setting that a variable leaves empty is an error, not a weaker setting",
        arguments: [
            (#""options": {"authTokens": ["${UNSET}"]}"#, "mcpServers.one.options.authTokens[0]"),
            (#""options": {"authTokens": ["t", "${EMPTY}"]}"#, "mcpServers.one.options.authTokens[1]"),
            (#""options": {"proxy": "${UNSET}"}"#, "mcpServers.one.options.proxy"),
            (#""options": {"proxy": {"url": "${UNSET}"}}"#, "mcpServers.one.options.proxy.url"),
            (
                #""options": {"proxy": {"url": "h:1", "auth": {"username": "$EMPTY"}}}"#,
                "mcpServers.one.options.proxy.auth.username"
            ),
            (
                #""options": {"toolFilter": {"mode": "block", "list": "${UNSET}"}}"#,
                "mcpServers.one.options.toolFilter.list"
            ),
            (#""tls": {"caFile": "${UNSET}"}"#, "mcpServers.one.tls.caFile"),
            (#""tls": {"certFile": "${UNSET}", "keyFile": "k"}"#, "mcpServers.one.tls.certFile"),
            (#""tls": {"certFile": "c", "keyFile": "${UNSET}"}"#, "mcpServers.one.tls.keyFile"),
        ]
    )
    func emptySecuritySettings(members: String, path: String) {
        let result = load(document(server: "\"url\": \"https://h/\", \(members)"), environment: Self.environment)
        #expect(result.snapshot == nil)
        #expect(result.findings.contains { $0.code == .emptySecuritySetting && $0.path == path })
    }

    @Test("Variables bring in 16 MiB together and no more", arguments: [(16, true), (17, false)])
    func bounded(count: Int, loads: Bool) {
        let environment = ["BIG": String(repeating: "x", count: 1024 * 1024)]
        let references = Array(repeating: "\"${BIG}\"", count: count).joined(separator: ",")
        let result = load(document(server: "\"command\": \"c\", \"args\": [\(references)]"), environment: environment)
        #expect((result.snapshot != nil) == loads)
        #expect(result.codes == (loads ? [] : ["too-large"]))
    }

    @Test(
        "A variable in a key stays as it is, and a line says so",
        arguments: [
            (#""headers": {"X-${A}": "1"}"#, ["key-not-expanded", "invalid-header"]),
            (#""headers": {"X-$A": "1"}"#, ["key-not-expanded"]), (#""headers": {"X-$UNSET": "1"}"#, []),
            (#""headers": {"$": "1", "a$$b": "2"}"#, []),
        ]
    )
    func keys(members: String, codes: [String]) {
        let result = load(document(server: "\"url\": \"https://h/\", \(members)"), environment: Self.environment)
        #expect(result.codes == codes)
    }

    @Test("A name of a server with a variable in it makes no route, and the message says why")
    func serverName() throws {
        let text = document(server: #""url": "https://h/""#).replacing("\"one\"", with: "\"fetch/${A}\"")
        let result = load(text, environment: Self.environment)
        let finding = try #require(result.findings.first)
        #expect(result.codes == ["invalid-name"])
        #expect(finding.message.contains("variables are not expanded in keys"))
        let plain = load(text.replacing("${A}", with: "$A"), environment: Self.environment)
        #expect(plain.codes == ["key-not-expanded"] && plain.snapshot?.upstreams.first?.name == "fetch/$A")
    }
}
