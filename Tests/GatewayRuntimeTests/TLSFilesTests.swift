// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import GatewayModel
import Testing

@testable import GatewayTransport

@Suite("Files of TLS that cannot be used") struct TLSFilesTests {
    /// Writes a file, says what is wrong with it as `key`, and removes it.
    private func reason(_ content: [UInt8], as key: TLSFileError.Key) throws -> String? {
        let file = "/tmp/mcp-proxy-tls-\(UInt64.random(in: .min ... .max)).pem"
        try Data(content).write(to: URL(fileURLWithPath: file))
        // What is left of it is in a directory for such things.
        defer { try? FileManager.default.removeItem(atPath: file) }
        let fault = try #require(TLSFiles.fault(in: Self.tls(key, file)))
        #expect(fault.key == key && fault.file == file)
        return fault.reason
    }

    private static func tls(_ key: TLSFileError.Key, _ file: String) -> TLSClientConfiguration {
        switch key {
        case .caFile: TLSClientConfiguration(caFile: file)
        case .certFile, .keyFile: TLSClientConfiguration(certFile: file, keyFile: file)
        }
    }

    @Test("A file that is not there is said to be missing", arguments: [TLSFileError.Key.caFile, .certFile])
    func missing(key: TLSFileError.Key) {
        let fault = TLSFiles.fault(in: Self.tls(key, "/nowhere/at-all.pem"))
        #expect(fault?.reason == "does not exist")
        #expect(TLSFiles.fault(in: Self.tls(key, "/tmp"))?.reason.contains("is a directory") == true)
    }

    @Test(
        "What is no PEM is told by what it is",
        arguments: [
            ("", .caFile, "is empty"), ("hello", .caFile, "holds no certificate in PEM form"),
            ("0\u{1}", .caFile, "DER"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", .caFile,
                "cannot be read; it may be cut off"
            ),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", .certFile, "holds no certificate"),
        ] as [(String, TLSFileError.Key, String)]
    )
    func content(text: String, key: TLSFileError.Key, expected: String) throws {
        #expect(try self.reason(Array(text.utf8), as: key)?.contains(expected) == true)
    }

    @Test("A configuration without files has nothing wrong with it")
    func none() {
        #expect(TLSFiles.fault(in: TLSClientConfiguration()) == nil)
        #expect(TLSFiles.fault(in: TLSClientConfiguration(isInsecure: true)) == nil)
    }
}
