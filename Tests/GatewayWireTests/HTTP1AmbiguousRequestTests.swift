// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayWire
import Testing

/// One line of `Tests/Fixtures/http1-ambiguous-requests.jsonl`.
struct AmbiguousRequest: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    /// The bytes as Latin-1.
    let raw: String
    /// The status of the answer; 0: accepted.
    let status: Int
    let note: String

    var bytes: [UInt8] { latin1(self.raw) }
    var testDescription: String { "\(self.name): \(self.note)" }

    static let all: [AmbiguousRequest] = {
        let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let file = tests.appending(path: "Fixtures/http1-ambiguous-requests.jsonl")
        let lines = (try? String(contentsOf: file, encoding: .utf8))?.split(separator: "\n") ?? []
        return lines.compactMap { try? JSONDecoder().decode(AmbiguousRequest.self, from: Data($0.utf8)) }
    }()
}

@Suite("Ambiguous HTTP/1.1 requests") struct HTTP1AmbiguousRequestTests {
    static let guardian = RequestGuard(
        baseOrigin: WebOrigin(scheme: .http, host: "gateway.example", isIPv6Literal: false, port: 80),
        allowedHosts: [],
        allowedOrigins: []
    )

    /// The status that parser, guard and routes give to a request on a loopback address, with the bytes arriving as
    /// `cuts` says; 0 if nothing is wrong with it.
    static func status(_ bytes: [UInt8], cuts: some Sequence<Int>) -> Int {
        var parser = HTTP1RequestParser()
        var headLength: Int?
        do throws(HTTP1Error) {
            for cut in cuts where headLength == nil { headLength = try parser.parse(bytes.span.extracting(0..<cut)) }
            guard let headLength else { return 0 }
            if let status = self.refusal(bytes, parser) { return status }
            if parser.framing == .chunked { _ = try decodeChunks(Array(bytes[headLength...])) }
            return 0
        } catch {
            return error.status
        }
    }

    /// What guard and routes say.
    static func refusal(_ bytes: [UInt8], _ parser: borrowing HTTP1RequestParser) -> Int? {
        let span = bytes.span
        let host =
            if let range = parser.host {
                self.guardian.admitsHost(span.extracting(range), isLocalAddressLoopback: true)
            } else {
                self.guardian.admitsMissingHost(isLocalAddressLoopback: true)
            }
        if let status = host.status { return status }
        if let range = parser.value(of: .origin) {
            let verdict = self.guardian.admitsOrigin(
                span.extracting(range),
                count: parser.count(of: .origin),
                isLocalAddressLoopback: true
            )
            if let status = verdict.status { return status }
        }
        guard parser.targetForm != .asterisk,
            let routes = try? RouteTable(basePath: "", servers: [(index: 0, route: "echo")])
        else { return nil }
        return routes.route(span.extracting(parser.path)) == nil ? 404 : nil
    }

    @Test("The table has at least 80 hostile requests and 15 that are odd but legal, and no name twice")
    func tableIsComplete() {
        #expect(AmbiguousRequest.all.count { $0.status != 0 } >= 80)
        #expect(AmbiguousRequest.all.count { $0.status == 0 } >= 15)
        #expect(Set(AmbiguousRequest.all.map(\.name)).count == AmbiguousRequest.all.count)
        #expect(AmbiguousRequest.all.allSatisfy { $0.raw.unicodeScalars.allSatisfy { $0.value < 256 } })
    }

    @Test("Each request gets its status, whole, byte by byte, and cut in two anywhere", arguments: AmbiguousRequest.all)
    func status(request: AmbiguousRequest) {
        let bytes = request.bytes
        #expect(Self.status(bytes, cuts: [bytes.count]) == request.status)
        #expect(Self.status(bytes, cuts: 1...bytes.count) == request.status)
        for cut in bytes.indices {
            let status = Self.status(bytes, cuts: [cut, bytes.count])
            #expect(status == request.status, "cut at \(cut)")
        }
    }

    @Test(
        "Everything that is said about an accepted head is the same however it is cut",
        arguments: AmbiguousRequest.all
    )
    func summary(request: AmbiguousRequest) {
        let bytes = request.bytes
        let whole = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count]) }
        let dripped = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: 1...bytes.count) }
        #expect(whole == dripped)
    }

    @Test("Every request of the table that is refused before its body leaves no complete head behind it")
    func refusedHeadsAreNotComplete() {
        for request in AmbiguousRequest.all where request.status == 400 && !request.name.hasPrefix("chunk-") {
            let bytes = request.bytes
            let whole = outcome { () throws(HTTP1Error) in try parseRequest(bytes, cuts: [bytes.count]) }
            #expect(whole.reason != nil, "\(request.name)")
        }
    }
}
