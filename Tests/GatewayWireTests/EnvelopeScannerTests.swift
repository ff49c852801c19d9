// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Envelope scanner")
struct EnvelopeScannerTests {
    private func failure(_ text: String, from source: EnvelopeScanner.Source = .downstream) -> EnvelopeError? {
        do {
            _ = try Envelope(text, from: source)
            return nil
        } catch {
            return error as? EnvelopeError
        }
    }

    @Test("A request has its kind, id, method, params and name")
    func scansRequest() throws {
        let text =
            ##" {"jsonrpc":"2.0","id":"a\u0062","method":"tools/call","params":{"name":"add","arguments":{"a":[1.0]}}} "##
        let envelope = try Envelope(text)
        #expect(envelope.kind == .request)
        #expect(!envelope.isResponse)
        #expect(envelope.range == 1..<text.utf8.count - 1)
        #expect(envelope.id.map { text[utf8: $0.range] } == ##""a\u0062""##)
        #expect(envelope.method == .toolsCall)
        #expect(envelope.methodName.map { text[utf8: $0.content] } == "tools/call")
        #expect(envelope.params.map { text[utf8: $0] } == ##"{"name":"add","arguments":{"a":[1.0]}}"##)
        #expect(envelope.name.map { text[utf8: $0.content] } == "add")
        #expect(envelope.result == nil)
        #expect(envelope.error == nil)
        #expect(envelope.progressToken == nil)
        #expect(!envelope.hasStatelessEnvelope)
    }

    @Test("The members may stand in any order")
    func scansAnyOrder() throws {
        let text =
            #"{"params":{"uri":"file:///a","name":"n"},"extra":[],"method":"resources/read","id":-7,"jsonrpc":"2.0"}"#
        let envelope = try Envelope(text)
        #expect(envelope.method == .resourcesRead)
        #expect(envelope.name.map { text[utf8: $0.content] } == "file:///a")
        #expect(envelope.id.map { text[utf8: $0.range] } == "-7")
    }

    @Test(
        "The name of a message is the member that its method says",
        arguments: [
            ("tools/call", "N"), ("prompts/get", "N"), ("resources/read", "U"), ("resources/subscribe", "U"),
            ("resources/unsubscribe", "U"), ("tasks/get", "T"), ("tasks/update", "T"), ("tasks/cancel", "T"),
            ("tasks/result", "T"), ("tools/list", nil), ("completion/complete", nil), ("vendor/thing", nil),
        ]
    )
    func findsName(_ method: String, _ name: String?) throws {
        let text = #"{"jsonrpc":"2.0","id":1,"method":"\#(method)","params":{"name":"N","uri":"U","taskId":"T"}}"#
        #expect(try Envelope(text).name.map { text[utf8: $0.content] } == name)
        let other = #"{"jsonrpc":"2.0","id":1,"method":"\#(method)","params":{"name":1,"uri":null,"taskId":["T"]}}"#
        #expect(try Envelope(other).name == nil)
    }

    @Test("What params and _meta say is found")
    func scansParams() throws {
        let text = """
            {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","requestState":"S",\
            "_meta":{"progressToken":7,"io.modelcontextprotocol/protocolVersion":"V","traceparent":"00",\
            "io.modelcontextprotocol/clientCapabilities":{"a":1},"io.modelcontextprotocol/subscriptionId":"L"}}}
            """
        let envelope = try Envelope(text)
        #expect(envelope.initializeVersion.map { text[utf8: $0.content] } == "2025-06-18")
        #expect(envelope.requestState.map { text[utf8: $0.content] } == "S")
        #expect(envelope.progressToken.map { text[utf8: $0.range] } == "7")
        #expect(envelope.hasStatelessEnvelope)
        #expect(envelope.statelessVersion.map { text[utf8: $0.content] } == "V")
        #expect(envelope.hasClientCapabilities)
        #expect(envelope.subscriptionID.map { text[utf8: $0.range] } == "\"L\"")
    }

    @Test("A version or capabilities of the wrong type are seen as such")
    func scansMalformedMeta() throws {
        let text = """
            {"jsonrpc":"2.0","id":1,"method":"ping","params":{"protocolVersion":"x","_meta":{\
            "io.modelcontextprotocol/protocolVersion":1,"io.modelcontextprotocol/clientCapabilities":[]}}}
            """
        let envelope = try Envelope(text)
        #expect(envelope.hasStatelessEnvelope)
        #expect(envelope.statelessVersion == nil)
        #expect(!envelope.hasClientCapabilities)
        #expect(envelope.initializeVersion == nil)
    }

    @Test("Slashes that PHP escapes are slashes, in keys and in values")
    func readsEscapedSlashes() throws {
        let text = #"""
            {"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"a\/b","_meta":{\#
            "io.modelcontextprotocol\/protocolVersion":"2026-07-28","io.modelcontextprotocol\/clientCapabilities":{}}}}
            """#
        let envelope = try Envelope(text)
        #expect(envelope.method == .toolsCall)
        #expect(envelope.name?.decoded(in: Array(text.utf8)) == "a/b")
        #expect(envelope.statelessVersion.map { text[utf8: $0.content] } == "2026-07-28")
        #expect(envelope.hasClientCapabilities)
    }

    @Test(
        "A notification has no id, and the token or request that it is about",
        arguments: [
            (
                #"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#,
                "\"t\"", nil
            ),
            (#"{"params":{"requestId":12},"jsonrpc":"2.0","method":"notifications/cancelled"}"#, nil, "12"),
            (#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"reason":"x"}}"#, nil, nil),
            (
                #"{"jsonrpc":"2.0","method":"notifications/initialized","params":{"requestId":{},"progressToken":{}}}"#,
                nil, nil
            ),
            (#"{"jsonrpc":"2.0","method":"notifications/message","params":{"_meta":{"progressToken":5}}}"#, "5", nil),
            (#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"_meta":{"progressToken":5}}}"#, nil, nil),
            (#"{"jsonrpc":"2.0","method":"x","params":null}"#, nil, nil),
            (#"{"jsonrpc":"2.0","method":"x","params":{"_meta":null}}"#, nil, nil),
            (#"{"jsonrpc":"2.0","method":"x","params":{"_meta":{"progressToken":null}}}"#, nil, nil),
        ] as [(String, String?, String?)]
    )
    func scansNotification(_ text: String, _ token: String?, _ cancelled: String?) throws {
        let envelope = try Envelope(text)
        #expect(envelope.kind == .notification)
        #expect(envelope.id == nil)
        #expect(envelope.progressToken.map { text[utf8: $0.range] } == token)
        #expect(envelope.cancelledID.map { text[utf8: $0.range] } == cancelled)
    }

    @Test(
        "A response is a result or an error, with or without an id",
        arguments: [
            (#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#, .result, "1", #"{"a":1}"#, nil),
            (#"{"jsonrpc":"2.0","id":"x","result":null}"#, .result, "\"x\"", "null", nil),
            (
                #"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"m"}}"#, .error, "1",
                #"{"code":-32601,"message":"m"}"#, -32601
            ),
            (#"{"jsonrpc":"2.0","id":null,"error":{"message":"m"}}"#, .error, nil, #"{"message":"m"}"#, nil),
            (#"{"jsonrpc":"2.0","error":{"code":"x"}}"#, .error, nil, #"{"code":"x"}"#, nil),
            (#"{"jsonrpc":"2.0","error":"text"}"#, .error, nil, #""text""#, nil),
        ] as [(String, Envelope.Kind, String?, String, Int?)],
        [EnvelopeScanner.Source.downstream, .upstream]
    )
    func scansResponse(
        _ expected: (text: String, kind: Envelope.Kind, id: String?, payload: String, code: Int?),
        _ source: EnvelopeScanner.Source
    ) throws {
        let envelope = try Envelope(expected.text, from: source)
        #expect(envelope.kind == expected.kind)
        #expect(envelope.isResponse)
        #expect(envelope.method == nil)
        #expect(envelope.methodName == nil)
        #expect(envelope.params == nil)
        #expect(envelope.id.map { expected.text[utf8: $0.range] } == expected.id)
        #expect((envelope.result ?? envelope.error).map { expected.text[utf8: $0] } == expected.payload)
        #expect((envelope.result != nil) == (expected.kind == .result))
        #expect(envelope.errorCode == expected.code)
    }

    @Test(
        "A null beside a result or an error is let pass from upstreams only",
        arguments: [
            (#"{"jsonrpc":"2.0","id":1,"result":{},"error":null}"#, .result, "{}"),
            (#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":7}}"#, .error, #"{"code":7}"#),
            (#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#, .result, "null"),
        ] as [(String, Envelope.Kind, String)]
    )
    func toleratesNullBesideResult(_ text: String, _ kind: Envelope.Kind, _ payload: String) throws {
        let envelope = try Envelope(text, from: .upstream)
        #expect(envelope.kind == kind)
        #expect((envelope.result ?? envelope.error).map { text[utf8: $0] } == payload)
        #expect(self.failure(text)?.code == .invalidRequest)
    }

    @Test(
        "JSON that is no message is an invalid request, answered to its id",
        arguments: [
            ("1", nil), ("\"x\"", nil), ("null", nil), ("{}", nil), (#"{"jsonrpc":"2.0"}"#, nil),
            (#"{"jsonrpc":"2.0","id":1}"#, "1"), (#"{"id":1,"method":"ping"}"#, "1"),
            (#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, "1"), (#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":5}"#, "1"), (#"{"jsonrpc":"2.0","id":1,"method":null}"#, "1"),
            (#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, nil),
            (#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#, nil),
            (#"{"jsonrpc":"2.0","id":1e3,"method":"ping"}"#, nil),
            (#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, nil),
            (#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, nil), (#"{"jsonrpc":"2.0","id":[],"result":1}"#, nil),
            (#"{"jsonrpc":"2.0","id":9223372036854775808,"method":"ping"}"#, nil),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":[]}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":1.5}}}"#, "1"),
            (#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":true}}"#, nil),
            (#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1.0}}"#, nil),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","error":null}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"code":2}}"#, "1"),
        ] as [(String, String?)],
        [EnvelopeScanner.Source.downstream, .upstream]
    )
    func refusesInvalid(_ input: (text: String, id: String?), _ source: EnvelopeScanner.Source) {
        let error = self.failure(input.text, from: source)
        #expect(error?.code == .invalidRequest)
        #expect(error?.id.map { input.text[utf8: $0.range] } == input.id)
        #expect(error?.reason.isEmpty == false)
    }

    @Test(
        "No key comes twice in a message, in its params or in _meta, and none is written with escapes",
        arguments: [
            (#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","id":2}"#, nil),
            (#"{"jsonrpc":"2.0","id":1,"method":"ping","id":1}"#, nil),
            (#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"x","params":{},"params":{}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"result":{},"result":{}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"x","a":1,"a":1}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"x","":1,"":1}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{},"name":"b"}}"#, "1"),
            (
                #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{},"arguments":{}}}"#,
                "1"
            ),
            (#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{},"_meta":{}}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":1,"progressToken":1}}}"#, "1"),
            (#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a/b":1,"a\/b":1}}}"#, "1"),
            (##"{"jsonrpc":"2.0","id":1,"\u006dethod":"ping"}"##, "1"),
            (##"{"jsonrpc":"2.0","id":1,"method":"ping","\u0078":1}"##, "1"),
            (##"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"n\u0061me":"a"}}"##, "1"),
            (##"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progress\u0054oken":1}}}"##, "1"),
            (##"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a\\b":1}}}"##, "1"),
        ] as [(String, String?)],
        [EnvelopeScanner.Source.downstream, .upstream]
    )
    func refusesDuplicateAndEscapedKeys(_ input: (text: String, id: String?), _ source: EnvelopeScanner.Source) {
        let error = self.failure(input.text, from: source)
        #expect(error?.code == .invalidRequest)
        #expect(error?.id.map { input.text[utf8: $0.range] } == input.id)
    }

    // MARK: Keys that differ by case

    /// A key like a member that decides: the message with it, and whether it is a key of the message itself.
    struct LikeKey: CustomTestStringConvertible {
        var key: String
        var text: String
        var isOfMessage = false
        var testDescription: String { self.text }

        static func message(_ keys: String...) -> [LikeKey] {
            keys.map {
                LikeKey(key: $0, text: #"{"jsonrpc":"2.0","id":1,"method":"x","\#($0)":{}}"#, isOfMessage: true)
            }
        }

        static func params(_ keys: String...) -> [LikeKey] {
            keys.map { LikeKey(key: $0, text: #"{"jsonrpc":"2.0","id":1,"method":"x","params":{"\#($0)":"a"}}"#) }
        }

        static func meta(_ keys: String...) -> [LikeKey] {
            keys.map {
                LikeKey(key: $0, text: #"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"\#($0)":"a"}}}"#)
            }
        }

        static let all: [LikeKey] =
            Self.message(
                "Id",
                "ID",
                "iD",
                "ıd",
                "İd",
                "Method",
                "METHOD",
                "methoD",
                "Params",
                "PARAMS",
                "paramſ",
                "PARAMſ",
                "Result",
                "reſult",
                "Error",
                "ERROR",
                "JSONRPC",
                "jſonrpc",
                "jsonRPC"
            )
            + Self.params(
                "Name",
                "NAME",
                "nAmE",
                "_Meta",
                "_META",
                "Uri",
                "URI",
                "urı",
                "taskid",
                "TaskId",
                "taſkId",
                "tas\u{212a}Id",
                "ta\u{17f}\u{212a}ID",
                "requestid",
                "requeſtId",
                "RequestId",
                "requestſtate",
                "REQUESTſTATE",
                "protocolversion",
                "ProtocolVersion",
                "protocolVerſion",
                "progresstoken",
                "progreſſToken",
                "progressTo\u{212a}en",
                "Level",
                "LEVEL",
                "Capabilities",
                "capabilitieſ",
                "Cursor",
                "curſor"
            )
            + Self.meta(
                "ProgressToken",
                "progressto\u{212a}en",
                "io.modelcontextprotocol/protocolversion",
                "IO.ModelContextProtocol/protocolVersion",
                #"io.modelcontextprotocol\/ProtocolVersion"#,
                "io.modelcontextprotocol/clientcapabilitieſ",
                "io.modelcontextprotocol/ſubscriptionId"
            )
    }

    @Test("A caller's key that differs only by case from one that decides is refused", arguments: LikeKey.all)
    func refusesLikeKeys(_ like: LikeKey) {
        let error = self.failure(like.text)
        #expect(error?.code == .invalidRequest)
        #expect(error?.reason == "a key differs only by case from one that decides")
        #expect(error?.id.map { like.text[utf8: $0.range] } == "1")
        let offset = error.map { like.text[utf8: $0.offset..<like.text.utf8.count] }
        #expect(offset?.hasPrefix("\"\(like.key)\"") == true)
    }

    @Test("So is one beside the member that it is like, before it or after it, alone or in a batch")
    func refusesLikeKeysBesideTheirMembers() throws {
        for call in [
            #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","Name":"danger"}}"#,
            #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"NAME":"danger","name":"echo"}}"#,
            #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"Params":{"name":"danger"}}"#,
            #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo"},"paramſ":{"name":"danger"}}"#,
            #"{"jsonrpc":"2.0","id":1,"method":"tools/list","METHOD":"tools/call","params":{"name":"danger"}}"#,
        ] {
            #expect(self.failure(call)?.code == .invalidRequest)
            let batch = Array(#"[{"jsonrpc":"2.0","id":7,"method":"ping"},\#(call)]"#.utf8)
            let elements = try EnvelopeScanner().scanBatch(batch.span, maximumCount: 2)
            #expect(elements.map { (try? $0.message.get()) != nil } == [true, false])
        }
    }

    @Test("Of an upstream, only keys of the message itself must not be like one that decides", arguments: LikeKey.all)
    func refusesLikeKeysOfUpstreams(_ like: LikeKey) {
        let error = self.failure(like.text, from: .upstream)
        #expect(error?.code == (like.isOfMessage ? .invalidRequest : nil))
    }

    @Test("The code of a caller's error is not written in another case, that of an upstream may be")
    func refusesLikeCode() {
        let text = #"{"jsonrpc":"2.0","id":1,"error":{"code":1,"Code":2,"message":"m"}}"#
        #expect(self.failure(text)?.code == .invalidRequest)
        #expect(self.failure(text, from: .upstream) == nil)
    }

    @Test(
        "A key that is like none of those passes, wherever it is",
        arguments: LikeKey.message(
            "",
            "i",
            "idd",
            "ids",
            "Name",
            "methods",
            "parameters",
            "paramss",
            "para\u{17e}s",
            "result2",
            "erroŕ",
            "ſ",
            "\u{212a}",
            "_meta",
            "日本",
            "ïd",
            "rpc"
        )
            + LikeKey.params(
                "",
                "Method",
                "ID",
                "arguments",
                "Arguments",
                "name2",
                "nam",
                "n\u{430}me",
                "meta",
                "Meta",
                "__meta",
                "url",
                "task",
                "task_id",
                "ſſſſſſ",
                "taskIds",
                "progress",
                "reason",
                "content",
                "total"
            )
            + LikeKey.meta(
                "name",
                "Name",
                "TraceParent",
                "traceparent",
                "protocolVersion",
                "io.modelcontextprotocol/clientInfo",
                "com.example/ProgressToken",
                "io.modelcontextprotocol.protocolVersion"
            )
    )
    func passesOtherKeys(_ like: LikeKey) {
        #expect(self.failure(like.text) == nil)
        #expect(self.failure(like.text, from: .upstream) == nil)
    }

    @Test("Below that, keys may repeat and be escaped")
    func leavesInnerObjectsAlone() throws {
        let text =
            ##"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":{"b":1,"b":2,"\u0062":3,"Name":4},"##
            + #""_meta":{"x":{"y":1,"y":1}}}}"#
        #expect(try Envelope(text).kind == .request)
        let result = ##"{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2,"\u0061":3}}"##
        #expect(try Envelope(result).kind == .result)
    }

    @Test("A key that comes twice is found among any number of keys", arguments: [1, 7, 8, 9, 10, 200, 5_000])
    func findsDuplicatesAmongMany(_ count: Int) throws {
        func message(_ keys: [String]) -> String {
            let members = keys.map { "\"\($0)\":0" }.joined(separator: ",")
            return #"{"jsonrpc":"2.0","id":1,"method":"x","params":{\#(members)}}"#
        }
        let keys = (0..<count).map { "key\($0)" }
        #expect(self.failure(message(keys)) == nil)
        for repeated in Set([0, count / 2, count - 1]) {
            #expect(self.failure(message(keys + ["key\(repeated)"]))?.reason == "a key comes twice")
        }
    }

    @Test("An id may have 256 bytes and not one more", arguments: [255, 256, 257])
    func limitsIDs(_ count: Int) {
        let text = #"{"jsonrpc":"2.0","id":"\#(String(repeating: "x", count: count))","method":"ping"}"#
        #expect((self.failure(text) == nil) == (count <= 256))
    }

    @Test(
        "Integers that no double can hold, and fractions anywhere else, survive",
        arguments: ["9007199254740993", "-9223372036854775807", "9223372036854775807"]
    )
    func keepsNumbers(_ id: String) throws {
        let text =
            #"{"jsonrpc":"2.0","id":\#(id),"method":"x","params":{"a":[0.1,1.0,1e999999,-0],"s":"\ud800 \#u{2028}"}}"#
        let envelope = try Envelope(text)
        #expect(envelope.id.map { text[utf8: $0.range] } == id)
        #expect(envelope.id?.integer(in: Array(text.utf8)) == Int64(id))
    }

    @Test(
        "What is not JSON is a parse error, even where a rule is broken before",
        arguments: [
            "", " ", "{", #"{"jsonrpc":"2.0","id":1,"method":"ping""#, #"{"jsonrpc":"2.0","id":1,"method":"ping"}}"#,
            #"{"jsonrpc":"1.0","id":1,"id":2,"method":"ping",}"#, "nul", "{\"jsonrpc\":\"2.0\",\"id\":\"\u{1}\"}",
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
        ]
    )
    func refusesWhatIsNotJSON(_ text: String) {
        #expect(self.failure(text)?.code == .parse)
    }

    @Test("A parse error has the id if it was read before, and none if there were two")
    func keepsIDOfParseError() {
        let text = #"{"jsonrpc":"2.0","id":"x","method":ping}"#
        #expect(self.failure(text)?.id.map { text[utf8: $0.range] } == "\"x\"")
        #expect(self.failure(text)?.offset == 35)
        #expect(self.failure(#"{"jsonrpc":"2.0","id":"x","id":"y","method":ping}"#)?.id == nil)
    }

    @Test("The message itself counts as one level of nesting", arguments: [63, 64, 65])
    func limitsNesting(_ depth: Int) {
        let inner = String(repeating: "[", count: depth - 2) + String(repeating: "]", count: depth - 2)
        let error = self.failure(#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":\#(inner)}}"#)
        #expect(error?.code == (depth <= 64 ? nil : .parse))
    }

    @Test("A hundred thousand levels are refused", arguments: ["[", "{\"a\":"])
    func survivesDeepNesting(_ opening: String) {
        let deep = String(repeating: opening, count: 100_000)
        #expect(self.failure(#"{"jsonrpc":"2.0","id":1,"result":"# + deep)?.code == .parse)
        let batch = Array(String(repeating: "[", count: 100_000).utf8)
        #expect(throws: EnvelopeError.self) {
            try EnvelopeScanner().scanBatch(batch.span, maximumCount: 50)
        }
    }

    @Test("A response belongs to the request of the same id and type")
    func matchesResponses() throws {
        let cases: [(String, String, Bool)] = [
            ("1", "1", true), ("1", "2", false), ("1", "\"1\"", false), ("\"1\"", "1", false),
            ("\"a\"", #""\u0061""#, true),
            (#""\/""#, "\"/\"", true), ("0", "-0", true), ("\"a\"", "\"A\"", false), ("1", "null", false),
        ]
        for (requestID, responseID, expected) in cases {
            let request = Array(#"{"jsonrpc":"2.0","id":\#(requestID),"method":"ping"}"#.utf8)
            let response = Array(#"{"id":\#(responseID),"jsonrpc":"2.0","result":{}}"#.utf8)
            let id = try #require(Envelope(String(decoding: request, as: UTF8.self)).id)
            let envelope = try Envelope(String(decoding: response, as: UTF8.self), from: .upstream)
            #expect(envelope.isResponse(to: id, in: request, own: response) == expected, "\(requestID) \(responseID)")
        }
    }

    @Test("A request of an upstream with the same id is not the response")
    func doesNotTakeRequestForResponse() throws {
        let text = #"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#
        let envelope = try Envelope(text, from: .upstream)
        let id = try #require(envelope.id)
        #expect(!envelope.isResponse(to: id, in: Array(text.utf8), own: Array(text.utf8)))
    }
}
