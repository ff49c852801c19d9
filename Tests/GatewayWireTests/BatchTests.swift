// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Testing

@Suite("Batches")
struct BatchTests {
    private func scan(
        _ text: String,
        maximumCount: Int = 50,
        maximumDepth: Int = 64
    ) -> Result<[EnvelopeScanner.BatchElement], EnvelopeError> {
        let bytes = Array(text.utf8)
        do throws(EnvelopeError) {
            let scanner = EnvelopeScanner(maximumDepth: maximumDepth)
            return .success(try scanner.scanBatch(bytes.span, maximumCount: maximumCount))
        } catch {
            return .failure(error)
        }
    }

    @Test("An array is reported as a batch and left unread", arguments: ["[]", " \n[", "[{\"jsonrpc\":\"2.0\"}]"])
    func reportsArrays(_ text: String) throws {
        let bytes = Array(text.utf8)
        let scan = try EnvelopeScanner().scan(bytes.span)
        #expect(scan == .batch)
    }

    @Test("Every element has its place in the batch and its own verdict")
    func scansElements() throws {
        let elements = [
            #"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
            #"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            "5", #"{"jsonrpc":"2.0","id":"x","method":"initialize"}"#, #"{"jsonrpc":"2.0","id":3}"#, "[]",
            #"{"jsonrpc":"2.0","id":4,"result":{}}"#,
        ]
        let text = " [ " + elements.joined(separator: " ,\n") + " ] "
        let scanned = try self.scan(text).get()
        #expect(scanned.map { text[utf8: $0.range] } == elements)
        let kinds = scanned.map { try? $0.message.get().kind }
        #expect(kinds == [.request, .notification, nil, nil, nil, nil, .result])
        for element in scanned {
            switch element.message {
            case .success(let envelope): #expect(envelope.range == element.range)
            case .failure(let error): #expect(error.code == .invalidRequest)
            }
        }
        guard case .failure(let error) = scanned[3].message else {
            Issue.record("initialize passes")
            return
        }
        #expect(error.reason == "initialize in a batch")
        #expect(error.id.map { text[utf8: $0.range] } == "\"x\"")
    }

    @Test("A batch may have as many messages as allowed and not one more", arguments: [49, 50, 51])
    func limitsCount(_ count: Int) {
        let message = #"{"jsonrpc":"2.0","id":1,"method":"ping"}"#
        let text = "[" + [String](repeating: message, count: count).joined(separator: ",") + "]"
        switch self.scan(text) {
        case .success(let elements): #expect(elements.count == count && count <= 50)
        case .failure(let error): #expect(error.code == .invalidRequest && count == 51)
        }
    }

    @Test(
        "What is no batch as a whole is one error",
        arguments: [
            ("[]", .invalidRequest), ("[ ]", .invalidRequest), ("{}", .invalidRequest), ("", .invalidRequest),
            ("[1", .parse), ("[1,]", .parse), ("[1]]", .parse), ("[{\"a\":}]", .parse), ("[,1]", .parse),
            ("[1 2]", .parse),
        ] as [(String, EnvelopeError.Code)]
    )
    func refuses(_ text: String, _ code: EnvelopeError.Code) {
        guard case .failure(let error) = self.scan(text) else {
            Issue.record("\(text) passes")
            return
        }
        #expect(error.code == code)
    }

    @Test("The array counts as a level of nesting", arguments: [3, 4, 5])
    func limitsNesting(_ limit: Int) {
        let text = #"[{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":[]}}]"#
        #expect(((try? self.scan(text, maximumDepth: limit).get()) != nil) == (limit >= 4))
    }
}
