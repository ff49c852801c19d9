// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import GatewayConfiguration

@Suite("Secret files on the disk") final class SecretFilesOnDiskTests {
    private let directory = FileManager.default.temporaryDirectory.appending(path: "secrets-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: self.directory, withIntermediateDirectories: false)
    }

    deinit { try? FileManager.default.removeItem(at: self.directory) }

    private func path(_ name: String) -> String { self.directory.appending(path: name).path(percentEncoded: false) }

    private func write(_ name: String, _ bytes: [UInt8], mode: Int = 0o600) throws {
        try Data(bytes).write(to: self.directory.appending(path: name))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: self.path(name))
    }

    /// The fault of a file; nil if it gives something.
    private func fault(_ name: String) -> SecretFileFault? {
        switch SecretFilesOnDisk().read(self.path(name)) {
        case .fault(let fault): return fault
        case .bytes(let bytes, _):
            do {
                _ = try SecretFileText.read(bytes)
                return nil
            } catch {
                return error
            }
        }
    }

    @Test("What is no secret has its own fault")
    func faults() throws {
        try self.write("empty", [])
        try self.write("blank", Array(" \n\t\r\n".utf8))
        try self.write("long", Array(repeating: 0x61, count: 65 * 1024))
        try self.write("latin", [0x61, 0xe9])
        try self.write("nul", [0x61, 0, 0x61])
        try FileManager.default.createDirectory(
            at: self.directory.appending(path: "inner"),
            withIntermediateDirectories: false
        )
        try FileManager.default.createSymbolicLink(atPath: self.path("loop"), withDestinationPath: self.path("loop"))
        #expect(mkfifo(self.path("pipe"), 0o600) == 0)
        let expected: [String: SecretFileFault] = [
            "gone": .missing, "gone/deeper": .missing, "empty/deeper": .missing, "empty": .empty, "blank": .empty,
            "long": .tooLarge, "latin": .notUTF8, "nul": .holdsNUL, "inner": .directory, "pipe": .noRegularFile,
        ]
        for (name, fault) in expected { #expect(self.fault(name) == fault, "\(name)") }
        guard case .unreadable = self.fault("loop") else {
            Issue.record("a link to itself cannot be read")
            return
        }
    }

    @Test("A file without rights cannot be read, but by root")
    func locked() throws {
        try self.write("locked", [0x61], mode: 0)
        guard getuid() != 0 else { return }
        #expect(self.fault("locked") == .unreadable("Permission denied"))
    }

    @Test("A whole file is read, also through a link, with who may read it", arguments: [0o600, 0o640, 0o644])
    func whole(mode: Int) throws {
        let bytes = [UInt8](repeating: 0x61, count: 64 * 1024)
        try self.write("largest", bytes, mode: mode)
        try FileManager.default.createSymbolicLink(atPath: self.path("link"), withDestinationPath: "largest")
        for name in ["largest", "link"] {
            guard case .bytes(let read, let isReadableByOthers) = SecretFilesOnDisk().read(self.path(name)) else {
                Issue.record("\(name) can be read")
                return
            }
            #expect(read == bytes && isReadableByOthers == (mode == 0o644))
        }
    }

    @Test(
        "Relative paths count from where the configuration is",
        arguments: [
            ("config.json", "a", "a"), ("etc/config.json", "a", "etc/a"), ("/config.json", "a", "/a"),
            ("/etc/x/config.json", "../a", "/etc/x/../a"), ("etc/config.json", "/a", "/a"),
        ]
    )
    func relative(configuration: String, path: String, expected: String) {
        let files = SecretFiles(directory: SecretFiles.directory(ofFileAt: configuration), reader: SecretFilesOnDisk())
        #expect(files.resolve(path) == expected)
    }
}
