// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayWire
import Testing

/// One file of `Fuzz/Corpus/http`.
struct CorpusFile: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]

    var testDescription: String { self.name }

    static let all: [CorpusFile] = {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let folder = tests.deletingLastPathComponent().appending(path: "Fuzz/Corpus/http")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.sorted()
            .compactMap { name in
                (try? Data(contentsOf: folder.appending(path: name))).map { CorpusFile(name: name, bytes: Array($0)) }
            }
    }()
}

@Suite("Fuzz corpus of the HTTP/1.1 codec") struct HTTP1CorpusTests {
    @Test("The corpus is there")
    func isComplete() {
        #expect(CorpusFile.all.count >= 40)
    }

    @Test(
        "Each file is read the same as a request, a response and a chunked body however it is cut",
        arguments: CorpusFile.all
    )
    func replays(file: CorpusFile) {
        let bytes = file.bytes
        let request = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count]) }
        let response = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: [bytes.count]) }
        let body = outcome { () throws(HTTP1Error) in try decodeChunks(bytes) }
        for cuts in [Array(0...bytes.count)] + bytes.indices.map({ [$0, bytes.count] }) {
            let cutRequest = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: cuts) }
            let cutResponse = outcome { () throws(HTTP1Error) in try parseResponse(bytes, cuts: cuts) }
            #expect(cutRequest == request)
            #expect(cutResponse == response)
        }
        for step in [1, 2, 3, 5] {
            let cutBody = outcome { () throws(HTTP1Error) in try decodeChunks(bytes, step: step) }
            #expect(cutBody == body)
        }
    }

    @Test(
        "Each file is taken or refused as a URL, a host and an origin without a trap, and the same a second time",
        arguments: CorpusFile.all
    )
    func texts(file: CorpusFile) {
        let text = String(decoding: file.bytes, as: UTF8.self)
        if let url = HTTPURL(text) {
            #expect(HTTPURL("\(url.origin)\(url.target)")?.origin == url.origin)
        }
        if let host = HostPort(text) {
            #expect(HostPort(host.authority) == host)
        }
        if let origin = WebOrigin(text) {
            #expect(WebOrigin(origin.description) == origin)
        }
    }
}
