// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayTesting
import GatewayWire
import NIOCore
import Testing

@Suite("A message on its way", .timeLimit(.minutes(1))) struct RelayTests {
    // MARK: Bytes

    @Test(
        "Params and results pass byte for byte",
        arguments: [
            #"{"n":9007199254740993,"f":0.1,"one":1.0,"e":1E+400,"neg":-0}"#,
            #"{ "spaces" :\#t[ 1 , 2 ] ,"unknown":{"_x":null} }"#,
            #"{"text":"\u0041\ud83d\ude00 \/ é 日本","lone":"\ud800"}"#,
            #"{"twice":1,"order":2,"a":3,"B":{"twice":[[],{}]}}"#,
        ]
    )
    func bytes(json: String) async throws {
        let result = #"{"jsonrpc":"2.0","id":1,"result":\#(json)}"#
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.answer(200, result) }) { gateway in
            let call = Message.call(arguments: json)
            let answer = try await gateway.post(call)
            #expect(answer.text == result)
            #expect(gateway.upstream.requests.map(\.text) == [call])
        }
    }

    @Test("The id comes back as it was written", arguments: ["0", "-7", "9007199254740993", #""a\u0062/é""#, #""1""#])
    func ids(id: String) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { $0.answer(503, "", type: nil) }) { gateway in
            let answer = try await gateway.post(Message.call(id: id))
            #expect(answer.text.hasPrefix(#"{"jsonrpc":"2.0","id":\#(id),"error":{"code":-31006,"#))
        }
    }

    @Test(
        "An answer longer than what is held passes as it comes",
        arguments: [64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 3_000_000]
    )
    func long(length: Int) async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            let frame = turn.resultText(#"{"t":""}"#).utf8.count
            turn.answer(200, turn.resultText(#"{"t":"\#(String(repeating: "x", count: length - frame))"}"#))
        }) { gateway in
            let answer = try await gateway.post(Message.call())
            #expect(answer.body.count == length)
            #expect(answer["content-length"] == "\(length)")
            #expect(answer.json["result"] != nil)
            try await gateway.metric("mcp_proxy_buffered_bytes", is: "0")
        }
    }

    // MARK: Headers

    @Test("Of a caller's headers only those on the list go up")
    func headersUp() async throws {
        try await withGateway {
            $0.headers = [.init(name: "X-Configured", value: Secret("configured-value"))]
            $0.upstream.forwardHeaders = ["x-tenant"]
        } _: { gateway in
            let fields = [
                "Authorization: Bearer of-the-caller", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=x",
                "Proxy-Authorization: Basic eA==", "Connection: keep-alive, X-Hop", "X-Hop: 1", "TE: trailers",
                "Origin: http://localhost", "X-Tenant: blue", "X-Other: 1", "MCP-Protocol-Version: 2025-11-25",
                "Accept-Encoding: gzip", "User-Agent: caller/1", "Mcp-Param-Region: =?base64?w6k=?=",
            ]
            _ = try await gateway.post(Message.call(), fields: fields)
            let names = gateway.upstream.requests[0].fields.map(\.name).sorted()
            #expect(
                names == [
                    "accept", "accept-encoding", "content-length", "content-type", "host", "mcp-param-region",
                    "mcp-protocol-version", "user-agent", "x-configured", "x-tenant",
                ]
            )
            let arrived = gateway.upstream.requests[0]
            #expect(arrived["x-tenant"] == "blue")
            #expect(arrived["user-agent"] == "test/1")
            #expect(arrived["accept-encoding"] == "identity")
            #expect(arrived["mcp-param-region"] == "=?base64?w6k=?=")
        }
    }

    @Test("Of an upstream's headers only those that concern the message come down")
    func headersDown() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            turn.result(
                fields: [
                    "Set-Cookie: a=b", "WWW-Authenticate: Bearer", "Access-Control-Allow-Origin: *", "Server: u",
                    "Strict-Transport-Security: max-age=1", "Mcp-Session-Id: upstream-id", "Cache-Control: no-store",
                    "MCP-Protocol-Version: 2025-11-25", "X-Powered-By: x", "Connection: keep-alive, X-Hop", "X-Hop: 1",
                ]
            )
        }) { gateway in
            let answer = try await gateway.post(Message.call())
            #expect(
                answer.fields.map(\.name).sorted() == [
                    "cache-control", "content-length", "content-type", "date", "mcp-protocol-version",
                ]
            )
        }
    }

    // MARK: Tools

    @Test(
        "The tool filter hides tools from a list, in JSON and in events, and refuses to call them",
        arguments: [false, true]
    )
    func toolFilter(asEvents: Bool) async throws {
        try await withGateway {
            $0.upstream.toolFilter = ToolFilter(mode: .block, names: ["secret"])
        } script: { turn in
            let list = turn.resultText(
                #"{"tools":[{"name":"open"},{"name":"s\u0065cret","x":1},{"name":"z"}],"nextCursor":"c"}"#
            )
            guard asEvents else { return turn.answer(200, list) }
            turn.beginEvents()
            turn.event(list)
            turn.endChunks()
        } _: { gateway in
            let answer = try await gateway.post(Message.list)
            let expected =
                #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"open"},{"name":"z"}],"nextCursor":"c"}}"#
            #expect(answer.text == (asEvents ? "event: message\ndata: \(expected)\n\n" : expected))
            let refused = try await gateway.post(Message.call(#"s\u0065cret"#))
            #expect(refused.status == 200)
            #expect(refused.code == -32_602)
            #expect(refused.error["message"] as? String == "Unknown tool: secret")
            #expect(gateway.upstream.requests.count == 1)
        }
    }

    @Test("An entry of the filter that matches no tool is in the log once, and in the status")
    func unmatchedEntries() async throws {
        try await withGateway {
            $0.upstream.toolFilter = ToolFilter(mode: .block, names: ["delete_*", "secret"])
        } script: { turn in
            turn.answer(200, turn.resultText(#"{"tools":[{"name":"open"},{"name":"secret"}]}"#))
        } _: { gateway in
            let before = try await gateway.request("GET /_status").text
            #expect(before.contains(#""patterns":1,"unmatched":null}"#))
            for _ in 0..<2 {
                let answer = try await gateway.post(Message.list)
                #expect(answer.text.contains(#""tools":[{"name":"open"}]"#))
            }
            let lines = gateway.log.lines.filter { $0.contains("toolFilter entries match no tool") }
            #expect(lines.count == 1)
            #expect(lines.first?.contains(#""entries":"delete_*""#) == true)
            let after = try await gateway.request("GET /_status").text
            #expect(after.contains(#""unmatched":["delete_*"]}"#))
        }
    }

    // MARK: Eras

    @Test("A request of the stateless era at a handshake-only upstream is answered by us")
    func statelessAtHandshake() async throws {
        try await withGateway { gateway in
            let (body, fields) = Message.stateless("tools/call", name: "work", id: #""x""#)
            let answer = try await gateway.post(body, fields: fields)
            #expect(answer.status == 400)
            #expect(answer.code == -32_022)
            #expect(answer.data["requested"] as? String == "2026-07-28")
            #expect(answer.json["id"] as? String == "x")
            #expect(gateway.upstream.requests.isEmpty)
        }
    }

    @Test("An initialize at a stateless-only upstream is answered by us")
    func handshakeAtStateless() async throws {
        try await withGateway {
            $0.upstream.protocolPin = .stateless
        } _: { gateway in
            let answer = try await gateway.post(Message.initialize)
            #expect(answer.status == 200)
            #expect(answer.code == -32_022)
            #expect(answer.data["requested"] as? String == "2025-11-25")
            #expect(gateway.upstream.requests.isEmpty)
            let get = try await gateway.request("GET /echo/mcp", fields: ["Accept: text/event-stream"])
            #expect(get.status == 405)
            #expect(get["allow"] == "POST")
        }
    }

    @Test("In both eras the request reaches an upstream that speaks them, untouched", arguments: [true, false])
    func passes(isStateless: Bool) async throws {
        try await withGateway {
            $0.upstream.protocolPin = isStateless ? .stateless : .handshake
        } _: { gateway in
            let (body, fields) = isStateless ? Message.stateless("tools/call", name: "work") : (Message.call(), [])
            let answer = try await gateway.post(body, fields: fields)
            #expect(answer.status == 200)
            #expect(gateway.upstream.requests.map(\.text) == [body])
            #expect(gateway.upstream.requests[0]["mcp-name"] == (isStateless ? "work" : nil))
        }
    }

    // MARK: Who leaves

    @Test(
        "A long answer whose caller has gone is not read to its end, and gives its place back",
        arguments: [true, false]
    )
    func longAnswerForNobody(hasBegun: Bool) async throws {
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call()))
            let turn = try await gateway.upstream.turn()
            if !hasBegun {
                client.reset()
                try await gateway.hasNoCallers()
            }
            let part = "{" + String(repeating: "x", count: 200_000)
            turn.send("HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n" + part)
            if hasBegun {
                _ = try await client.read(until: "xxx")
                client.reset()
            }
            try await gateway.upstream.closed(turn.request.connection)
            try await gateway.metric(
                #"mcp_proxy_requests_total{server="echo",method="tools/call",outcome="client_gone"}"#,
                is: "1"
            )
        }
    }

    @Test("An answer that breaks off leaves its caller the whole answer before, which was not read yet")
    func breaksOffBehindAnother() async throws {
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect(isReading: false, receiveBuffer: 4096)
            client.send(TestGateway.post(Message.call(id: "1")) + TestGateway.post(Message.call(id: "2")))
            let head = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: "
            let first = try await gateway.upstream.turn()
            let body = "{" + String(repeating: "x", count: 60_000) + "}"
            first.send(head + "\(body.utf8.count)\r\n\r\n" + body)
            let second = try await gateway.upstream.turn()
            second.send(head + "1000000\r\n\r\n{" + String(repeating: "y", count: 100_000))
            second.close()
            try await gateway.metric(
                #"mcp_proxy_requests_total{server="echo",method="tools/call",outcome="upstream_closed"}"#,
                is: "1"
            )
            client.startReading()
            let answer = try await client.answer()
            #expect(answer.text == body)
            let rest = try await client.readToEnd()
            #expect(rest.text.hasSuffix("yyy"))
        }
    }

    @Test("A stateless caller that leaves ends its call upstream at once")
    func statelessLeaves() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway({ $0.upstream.protocolPin = .stateless }, script: nil) { gateway in
            let (body, fields) = Message.stateless("tools/call", name: "work")
            let client = try await gateway.connect()
            client.send(TestGateway.post(body, fields: fields))
            let turn = try await gateway.upstream.turn()
            let left = ContinuousClock.now
            client.close()
            try await gateway.upstream.closed(turn.request.connection)
            #expect(ContinuousClock.now - left < .seconds(1))
            try await gateway.metric(
                #"mcp_proxy_requests_total{server="echo",method="tools/call",outcome="client_gone"}"#,
                is: "1"
            )
        }
    }

    @Test("A handshake caller that leaves does not: its answer is read and dropped, and the connection used again")
    func handshakeLeaves() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call()))
            let turn = try await gateway.upstream.turn()
            client.reset()
            while gateway.listener.connectionCount > 0 { try await Task.sleep(for: .milliseconds(5)) }
            turn.result()
            try await gateway.metric(
                #"mcp_proxy_requests_total{server="echo",method="tools/call",outcome="ok"}"#,
                is: "1"
            )
            try await gateway.metric("mcp_proxy_buffered_bytes", is: "0")
            let next = try await gateway.connect()
            next.send(TestGateway.post(Message.call(id: "2")))
            let second = try await gateway.upstream.turn()
            #expect(second.request.connection == turn.request.connection)
            second.result()
            expect(try await next.answer().json["id"] as? Int, is: 2)
        }
    }

    @Test("Two callers with the same ids and tokens each get their own answers, in any order")
    func sameIDs() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: nil) { gateway in
            let (one, two) = (try await gateway.connect(), try await gateway.connect())
            one.send(TestGateway.post(Message.call(arguments: #"{"who":1}"#)))
            let first = try await gateway.upstream.turn()
            two.send(TestGateway.post(Message.call(arguments: #"{"who":2}"#)))
            let second = try await gateway.upstream.turn()
            second.result(#"{"who":2}"#)
            first.result(#"{"who":1}"#)
            #expect(try await one.answer().text.hasSuffix(#"{"who":1}}"#))
            #expect(try await two.answer().text.hasSuffix(#"{"who":2}}"#))
        }
    }
}
