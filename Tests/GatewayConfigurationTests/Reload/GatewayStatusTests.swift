// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import GatewayConfiguration

@Suite("The status of a running gateway") struct GatewayStatusTests {
    /// A status as `/_status` writes it; `last` is the value of `lastReload`.
    private func status(last: String) -> GatewayStatus? {
        GatewayStatus(
            Array(
                """
                {"version":"1.2.3","pid":4711,"configuration":{"source":"/c/config.json","generation":2,\
                "since":"2026-11-24T13:19:59Z","reloads":3,"lastReload":\(last)},"upstreams":{"a":{}}}
                """
                .utf8
            )
        )
    }

    @Test("It says which process it is, where its configuration is from, and how often it was read")
    func process() throws {
        let status = try #require(self.status(last: "null"))
        #expect(status.processID == 4_711)
        #expect(status.source == "/c/config.json")
        #expect(status.generation == 2)
        #expect(status.reloads == 3)
        #expect(status.last == nil)
    }

    @Test("It says what became of the last reload: its result, the servers that changed, and what is wrong")
    func lastReload() throws {
        let status = try #require(
            self.status(
                last: """
                    {"result":"applied","at":"2026-11-24T13:19:59Z","trigger":"signal","added":["a","b"],"removed":["c"],\
                    "replaced":["d \\"é\\""],"tuned":["e"],"same":5,"problems":["config.json:1:2: mcpProxy.addr: later"]}
                    """
            )
        )
        let last = try #require(status.last)
        #expect(last.result == "applied")
        #expect(last.servers == ["added": ["a", "b"], "removed": ["c"], "replaced": ["d \"é\""], "tuned": ["e"]])
        #expect(last.same == 5)
        #expect(last.problems == ["config.json:1:2: mcpProxy.addr: later"])
    }

    @Test(
        "Of a reload only its result has to be there, and what is no name or no problem is left out",
        arguments: [
            #"{"result":"rejected"}"#,
            #"{"result":"rejected","added":[],"removed":[],"replaced":[],"tuned":[],"same":0,"problems":[]}"#,
            #"{"result":"rejected","added":"a","removed":{"a":1},"tuned":[1,null],"same":"3","problems":[true]}"#,
            #"{"result":"rejected","renamed":["a"],"same":1.5,"problems":null}"#,
        ]
    )
    func partial(last: String) throws {
        let reload = try #require(self.status(last: last)?.last)
        #expect(reload.result == "rejected")
        #expect(reload.servers == [:])
        #expect(reload.same == 0)
        #expect(reload.problems == [])
    }

    @Test(
        "Without a result there was no reload",
        arguments: ["null", "{}", #"{"result":null,"same":3}"#, #"{"result":1}"#, #""applied""#, #"["applied"]"#]
    )
    func noReload(last: String) throws {
        let status = try #require(self.status(last: last))
        #expect(status.last == nil)
    }

    /// What `/_status` says of the configuration.
    private static let configuration = #""configuration":{"source":"c","generation":1,"reloads":0}"#

    @Test("The least that is a status is a process and a configuration")
    func least() throws {
        let status = try #require(GatewayStatus(Array("{\"pid\":1,\(Self.configuration)}".utf8)))
        #expect(status.processID == 1 && status.source == "c" && status.last == nil)
        #expect(GatewayStatus(Array("{\"pid\":2147483647,\(Self.configuration)}".utf8))?.processID == .max)
    }

    @Test(
        "What another server answers, or an older gateway, is no status",
        arguments: [
            "", " ", "null", "1", "[]", "{}", "<html></html>", "ok", "{\"pid\":1", "{\"pid\":1,\(Self.configuration)",
            "{\"pid\":1,\(Self.configuration)} x", "[{\"pid\":1,\(Self.configuration)}]",
            "{\(Self.configuration)}", "{\"pid\":0,\(Self.configuration)}", "{\"pid\":-1,\(Self.configuration)}",
            "{\"pid\":1.5,\(Self.configuration)}", "{\"pid\":\"1\",\(Self.configuration)}",
            "{\"pid\":null,\(Self.configuration)}", "{\"pid\":2147483648,\(Self.configuration)}",
            #"{"version":"1","pid":1}"#, #"{"pid":1,"configuration":null}"#, #"{"pid":1,"configuration":"c"}"#,
            #"{"pid":1,"configuration":{}}"#, #"{"pid":1,"configuration":{"generation":1,"reloads":0}}"#,
            #"{"pid":1,"configuration":{"source":1,"generation":1,"reloads":0}}"#,
            #"{"pid":1,"configuration":{"source":"c","reloads":0}}"#,
            #"{"pid":1,"configuration":{"source":"c","generation":"1","reloads":0}}"#,
            #"{"pid":1,"configuration":{"source":"c","generation":99999999999999999999,"reloads":0}}"#,
            #"{"pid":1,"configuration":{"source":"c","generation":1}}"#,
            #"{"pid":1,"configuration":{"source":"c","generation":1,"reloads":true}}"#,
        ]
    )
    func noStatus(text: String) {
        #expect(GatewayStatus(Array(text.utf8)) == nil)
    }

    @Test("Bytes that are no text are no status")
    func noText() {
        for byte: UInt8 in [0x00, 0x80, 0xFF] { #expect(GatewayStatus([byte, byte]) == nil) }
    }

    @Test(
        "One line says what the last reload came to: only what changed, in a fixed order, and how much did not",
        arguments: [
            ("null", "/c/config.json (generation 2) was not read again yet"),
            (
                #"{"result":"unchanged","same":4}"#,
                "/c/config.json means the same as before (generation 2): 4 unchanged"
            ),
            (#"{"result":"rejected"}"#, "/c/config.json was refused; what ran goes on (generation 2)"),
            (#"{"result":"applied","same":4}"#, "reloaded /c/config.json (generation 2): 4 unchanged"),
            (
                #"{"result":"applied","tuned":["t"],"same":0}"#,
                "reloaded /c/config.json (generation 2): tuned t · 0 unchanged"
            ),
            (
                #"{"result":"applied","tuned":["e"],"replaced":["d"],"removed":["c"],"added":["b","a"],"same":1}"#,
                "reloaded /c/config.json (generation 2): added b, a · removed c · replaced d · tuned e · 1 unchanged"
            ),
        ]
    )
    func text(last: String, line: String) throws {
        let status = try #require(self.status(last: last))
        #expect(status.text == line)
    }
}
