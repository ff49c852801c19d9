// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

@Suite("A caller's connection", .timeLimit(.minutes(1))) struct ConnectionTests {
    static let health = "GET /_healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"

    // MARK: One after the other

    @Test("Requests that arrive in one write are all answered, in their order", arguments: [2, 500])
    func pipelining(count: Int) async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            // Answered at once and answered by the upstream, in turn.
            client.send(
                (0..<count).map { $0.isMultiple(of: 2) ? TestGateway.post(Message.call(id: "\($0)")) : Self.health }
                    .joined()
            )
            for index in 0..<count {
                let answer = try await client.answer()
                #expect(answer.status == 200)
                #expect(answer.json["id"] as? Int == (index.isMultiple(of: 2) ? index : nil))
            }
        }
    }

    @Test("Requests that are dripped byte by byte are answered like whole ones")
    func drip() async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let chunked =
                "POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + "Transfer-Encoding: chunked\r\n\r\n5;x=1\r\n{\"jso\r\n23\r\nnrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n0\r\nT: 1\r\n\r\n"
            try await client.drip(Array((TestGateway.post(Message.ping) + chunked + Self.health).utf8))
            expect(try await client.answer().json["id"] as? Int, is: 1)
            expect(try await client.answer().json["id"] as? Int, is: 1)
            expect(try await client.answer().text, is: #"{"status":"ok"}"#)
            #expect(gateway.upstream.requests.map(\.text) == [Message.ping, Message.ping])
        }
    }

    @Test("A connection is kept for the next request, and says so to HTTP/1.0 only")
    func keepAlive() async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let first = try await client.exchange(Self.health)
            #expect(first["connection"] == nil)
            #expect(first.version == "HTTP/1.1")
            let old = "GET /_healthz HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
            let second = try await client.exchange(old)
            #expect(second["connection"] == "keep-alive")
            #expect(second.version == "HTTP/1.1")
            expect(try await client.exchange(TestGateway.post(Message.ping)).status, is: 200)
        }
    }

    @Test(
        "The connection ends behind the answer where the caller says so",
        arguments: [
            "GET /_healthz HTTP/1.0\r\nHost: localhost\r\n\r\n",
            "GET /_healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /_healthz HTTP/1.1\r\nHost: localhost\r\nConnection: x, CLOSE\r\n\r\n",
            TestGateway.post(Message.ping, version: "1.0"),
            TestGateway.post(Message.ping, fields: ["Connection: close"]),
        ]
    )
    func close(request: String) async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            // What comes behind the last request is nobody's.
            let answer = try await client.exchange(request + Self.health)
            #expect(answer.status == 200)
            #expect(answer["connection"] == "close")
            let rest = try await client.readToEnd()
            #expect(rest.bytes.isEmpty)
        }
    }

    @Test("At requestsPerConnection the answer says that the connection closes", arguments: [1, 2, 3])
    func requestLimit(limit: Int) async throws {
        try await withGateway {
            $0.limits.requestsPerConnection = limit
        } _: { gateway in
            let client = try await gateway.connect()
            for index in 1...limit {
                expect(try await client.exchange(Self.health)["connection"], is: (index == limit ? "close" : nil))
            }
            #expect(try await client.readToEnd().bytes.isEmpty)
        }
    }

    @Test("An event stream to an HTTP/1.0 caller has no chunks and ends with the connection")
    func eventsToOldCaller() async throws {
        // swift-format-ignore: OnlyOneTrailingClosureArgument
        try await withGateway(script: { turn in
            turn.beginEvents()
            turn.event(turn.resultText())
            turn.endChunks()
        }) { gateway in
            let client = try await gateway.connect()
            client.send(TestGateway.post(Message.call(), fields: ["Connection: keep-alive"], version: "1.0"))
            let answer = try await client.answer()
            #expect(answer["transfer-encoding"] == nil)
            #expect(answer["connection"] == "close")
            #expect(answer.text == "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n")
        }
    }

    // MARK: Expect

    @Test("A caller that waits for it is told to go on, once, and then answered")
    func expectContinue() async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let request = TestGateway.post(Message.ping, fields: ["Expect: 100-continue"])
            client.send(String(request.dropLast(Message.ping.count)))
            expect(try await client.read(until: "\r\n\r\n"), is: "HTTP/1.1 100 Continue\r\n\r\n")
            client.send(Message.ping)
            expect(try await client.answer().status, is: 200)
            // Who sends the body at once needs no leave.
            expect(try await client.exchange(request).status, is: 200)
        }
    }

    @Test("A caller that is refused is not told to send its body first")
    func expectRefused() async throws {
        try await withGateway {
            $0.limits.bodyBytes = 10
        } _: { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            client.send(
                "POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 11\r\n"
                    + "Expect: 100-continue\r\n\r\n"
            )
            expect(try await client.answer().status, is: 413)
        }
    }

    // MARK: HEAD

    @Test("HEAD gets the fields of GET and no body", arguments: ["/_healthz", "/_readyz", "/metrics", "/_status"])
    func head(path: String) async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let get = try await client.exchange("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.send("HEAD \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n" + Self.health)
            let head = try await client.answer(isHead: true)
            #expect(head.status == get.status)
            #expect(head.fields.map(\.name) == get.fields.map(\.name))
            #expect((head["content-length"].flatMap(Int.init) ?? 0) > 0)
            // A body would stand before the next answer.
            expect(try await client.answer().text, is: #"{"status":"ok"}"#)
        }
    }

    // MARK: Half-close

    @Test("A handshake caller that shuts down its side gets the answers to what it had sent", arguments: [1, 3])
    func halfClose(count: Int) async throws {
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect()
            client.send((0..<count).map { TestGateway.post(Message.call(id: "\($0)")) }.joined())
            let first = try await gateway.upstream.turn()
            client.shutDown()
            // The gateway hears of it while it waits for the upstream.
            try await Task.sleep(for: .milliseconds(20))
            first.result()
            for _ in 1..<max(count, 1) { try await gateway.upstream.turn().result() }
            for index in 0..<count { #expect(try await client.answer().json["id"] as? Int == index) }
            #expect(try await client.readToEnd().bytes.isEmpty)
        }
    }

    @Test(
        "A caller that shuts down its side in the middle of a request gets no answer",
        arguments: ["GET /_healthz HTTP/1.1\r\nHos", String(TestGateway.post(Message.ping).dropLast(1))]
    )
    func halfRequest(bytes: String) async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            client.send(Self.health + bytes)
            client.shutDown()
            expect(try await client.answer().status, is: 200)
            #expect(try await client.readToEnd().bytes.isEmpty)
            #expect(gateway.upstream.requests.isEmpty)
        }
    }

    // MARK: Time

    @Test("A head that is not complete in headTimeout gets 408, however it drips")
    func slowHead() async throws {
        try await withGateway {
            $0.limits.headTimeout = .milliseconds(100)
        } _: { gateway in
            let client = try await gateway.connect()
            client.send("GET /_healthz HTTP/1.1\r\nHost: local")
            let answer = try await client.answer()
            #expect(answer.status == 408)
            #expect(answer["connection"] == "close")
            #expect(try await client.readToEnd().bytes.isEmpty)
            try await gateway.metric("mcp_proxy_inbound_rejected_total{reason=\"slow\"}", is: "1")
        }
    }

    @Test("A connection that never sends a byte is closed without an answer after headTimeout")
    func silent() async throws {
        try await withGateway {
            $0.limits.headTimeout = .milliseconds(100)
        } _: { gateway in
            let client = try await gateway.connect()
            #expect(try await client.readToEnd().bytes.isEmpty)
        }
    }

    @Test("A kept connection without a request is closed without an answer after idleTimeout")
    func idle() async throws {
        try await withGateway {
            $0.limits.idleTimeout = .milliseconds(100)
        } _: { gateway in
            let client = try await gateway.connect()
            expect(try await client.exchange(Self.health).status, is: 200)
            #expect(try await client.readToEnd().bytes.isEmpty)
        }
    }

    @Test("A body that stays away gets 408", arguments: ["Content-Length: 100", "Transfer-Encoding: chunked"])
    func slowBody(framing: String) async throws {
        try await withGateway {
            $0.limits.bodyTimeout = .milliseconds(100)
        } _: { gateway in
            let client = try await gateway.connect()
            client.send(
                "POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\(framing)\r\n\r\n5\r\n{"
            )
            let answer = try await client.answer()
            #expect(answer.status == 408)
            #expect(try await client.readToEnd().bytes.isEmpty)
        }
    }

    @Test("Bytes at bodyRate buy a body more time than bodyTimeout")
    func bodyRate() async throws {
        try await withGateway {
            $0.limits.bodyTimeout = .milliseconds(50)
            $0.limits.bodyRate = 100
        } _: { gateway in
            let client = try await gateway.connect()
            defer { client.close() }
            let body = Message.call(arguments: #"{"text":"\#(String(repeating: "x", count: 500))"}"#)
            let request = TestGateway.post(body)
            // Nearly all of it at once: that buys five seconds, and the rest comes after bodyTimeout.
            client.send(String(request.dropLast(10)))
            try await Task.sleep(for: .milliseconds(600))
            client.send(String(request.suffix(10)))
            expect(try await client.answer().status, is: 200)
        }
    }

    // MARK: Sizes

    @Test("A body one under and at bodyBytes is taken, one over is refused", arguments: [-1, 0, 1], [false, true])
    func bodyLimit(difference: Int, isChunked: Bool) async throws {
        try await withGateway {
            $0.limits.bodyBytes = 200
        } _: { gateway in
            let plain = Message.call(arguments: #"{"text":""}"#)
            let filler = String(repeating: "x", count: 200 + difference - plain.utf8.count)
            let body = Message.call(arguments: #"{"text":"\#(filler)"}"#)
            #expect(body.utf8.count == 200 + difference)
            let client = try await gateway.connect()
            defer { client.close() }
            if isChunked {
                client.send(
                    "POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        + "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n\(String(body.utf8.count - 1, radix: 16))\r\n"
                        + "\(body.dropFirst())\r\n0\r\n\r\n"
                )
            } else {
                client.send(TestGateway.post(body))
            }
            let answer = try await client.answer()
            #expect(answer.status == (difference > 0 ? 413 : 200))
            #expect(gateway.upstream.requests.map(\.text) == (difference > 0 ? [] : [body]))
        }
    }

    @Test("A head one under and at headBytes is taken, one over gets 431", arguments: [-1, 0, 1])
    func headLimit(difference: Int) async throws {
        try await withGateway {
            $0.limits.headBytes = 512
        } _: { gateway in
            let plain = "GET /_healthz HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n"
            let filler = String(repeating: "x", count: 512 + difference - plain.utf8.count)
            let answer = try await gateway.request("GET /_healthz", fields: ["X: \(filler)"])
            #expect(answer.status == (difference > 0 ? 431 : 200))
        }
    }

    @Test("As many fields as headFields are taken, one more gets 431", arguments: [-1, 0, 1])
    func fieldLimit(difference: Int) async throws {
        try await withGateway {
            $0.limits.headFields = 20
        } _: { gateway in
            // Host is one of them.
            let fields = (1..<(20 + difference)).map { "X-\($0): y" }
            let answer = try await gateway.request("GET /_healthz", fields: fields)
            #expect(answer.status == (difference > 0 ? 431 : 200))
        }
    }

    @Test("A target one under and at targetBytes is taken, one over gets 414", arguments: [-1, 0, 1])
    func targetLimit(difference: Int) async throws {
        try await withGateway {
            $0.limits.targetBytes = 100
        } _: { gateway in
            let path = "/_healthz?"
            let answer = try await gateway.request(
                "GET \(path)\(String(repeating: "x", count: 100 + difference - path.count))"
            )
            #expect(answer.status == (difference > 0 ? 414 : 200))
        }
    }

    @Test("A caller that still sends its body can read why it was refused")
    func lingering() async throws {
        try await withGateway {
            $0.limits.bodyBytes = 1_000
        } _: { gateway in
            let client = try await gateway.connect()
            client.send(
                "POST /echo/mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n"
            )
            for _ in 0..<30 { client.send([UInt8](repeating: 120, count: 100_000)) }
            let answer = try await client.answer()
            #expect(answer.status == 413)
            expect(try await client.readToEnd().ending, is: .closed)
        }
    }

    @Test("What is held of bodies and unread requests is given back")
    func bufferedBytes() async throws {
        try await withGateway(script: nil) { gateway in
            let client = try await gateway.connect()
            let body = Message.call(arguments: #"{"text":"\#(String(repeating: "x", count: 100_000))"}"#)
            client.send(TestGateway.post(body))
            let turn = try await gateway.upstream.turn()
            try await gateway.metric("mcp_proxy_buffered_bytes", is: "\(body.utf8.count)")
            turn.result()
            expect(try await client.answer().status, is: 200)
            try await gateway.metric("mcp_proxy_buffered_bytes", is: "0")
            client.send(String(TestGateway.post(body).dropLast(10)))
            try await Task.sleep(for: .milliseconds(20))
            client.close()
            try await gateway.metric("mcp_proxy_buffered_bytes", is: "0")
        }
    }

    // MARK: Connections

    @Test("One connection more than `connections` gets 503 with Retry-After, and its place is free again later")
    func connectionLimit() async throws {
        try await withGateway {
            $0.limits.connections = 2
        } _: { gateway in
            let first = try await gateway.connect()
            let second = try await gateway.connect()
            expect(try await first.exchange(Self.health).status, is: 200)
            expect(try await second.exchange(Self.health).status, is: 200)
            let third = try await gateway.connect()
            third.send(Self.health)
            let answer = try await third.answer()
            #expect(answer.status == 503)
            #expect(answer["retry-after"] != nil)
            #expect(answer["connection"] == "close")
            #expect(try await third.readToEnd().bytes.isEmpty)
            first.close()
            while gateway.listener.connectionCount > 1 { try await Task.sleep(for: .milliseconds(5)) }
            let fourth = try await gateway.connect()
            expect(try await fourth.exchange(Self.health).status, is: 200)
        }
    }

    @Test("connectionsPerAddress counts each address for itself")
    func connectionsPerAddress() async throws {
        try await withGateway {
            $0.limits.connectionsPerAddress = 1
        } _: { gateway in
            let first = try await gateway.connect()
            expect(try await first.exchange(Self.health).status, is: 200)
            let second = try await gateway.connect()
            second.send(Self.health)
            expect(try await second.answer().status, is: 503)
            let other = try await RawClient.connect(gateway.port, from: "127.0.0.2")
            expect(try await other.exchange(Self.health).status, is: 200)
            first.close()
            while gateway.listener.connectionCount > 1 { try await Task.sleep(for: .milliseconds(5)) }
            let third = try await gateway.connect()
            expect(try await third.exchange(Self.health).status, is: 200)
        }
    }

    // MARK: Draining

    @Test("Draining closes idle connections, lets calls finish, and says so in their answers")
    func draining() async throws {
        try await withGateway(script: nil) { gateway in
            let idle = try await gateway.connect()
            expect(try await idle.exchange(Self.health).status, is: 200)
            let busy = try await gateway.connect()
            busy.send(TestGateway.post(Message.call()))
            let turn = try await gateway.upstream.turn()
            gateway.gateway.beginDraining()
            async let drained: Void = gateway.listener.drain(within: .seconds(20))
            #expect(try await idle.readToEnd().bytes.isEmpty)
            turn.result()
            let answer = try await busy.answer()
            #expect(answer.status == 200)
            #expect(answer["connection"] == "close")
            #expect(try await busy.readToEnd().bytes.isEmpty)
            await drained
            #expect(gateway.listener.connectionCount == 0)
        }
    }

    @Test("A call that arrives while the gateway drains is refused as overloaded")
    func drainingRefuses() async throws {
        try await withGateway { gateway in
            let client = try await gateway.connect()
            expect(try await client.exchange(Self.health).status, is: 200)
            client.send("POST /echo/mcp HT")
            try await Task.sleep(for: .milliseconds(20))
            gateway.gateway.beginDraining()
            client.send(String(TestGateway.post(Message.call()).dropFirst(17)))
            let answer = try await client.answer()
            #expect(answer.status == 200)
            #expect(answer.reason == "overloaded")
            #expect(answer["retry-after"] == "1")
            #expect(answer["connection"] == "close")
        }
    }
}
