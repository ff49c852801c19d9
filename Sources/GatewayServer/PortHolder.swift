// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Finds the process that listens on a port, where the system lets us look (Linux, processes of our own user).
enum PortHolder {
    /// How many processes, and descriptors of each, are looked at.
    private static let bound = 20_000

    /// `nginx (pid 811)`; nil if nobody can be found.
    static func describe(port: Int) -> String? {
        var sockets: Set<String> = []
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            sockets.formUnion(Self.listening(on: port, in: Self.text(of: table)))
        }
        guard !sockets.isEmpty else { return nil }
        for process in Self.names(in: "/proc") where process.utf8.allSatisfy({ (0x30...0x39).contains($0) }) {
            let directory = "/proc/\(process)/fd"
            let isHolder = Self.names(in: directory)
                .contains { Self.target(of: "\(directory)/\($0)").map(sockets.contains) == true }
            if isHolder { return "\(Self.name(of: process)) (pid \(process))" }
        }
        return nil
    }

    /// The listening sockets of a port, by the names that descriptors link to; `table` is the text of `/proc/net/tcp` or
    /// `/proc/net/tcp6`.
    static func listening(on port: Int, in table: String) -> Set<String> {
        var sockets: Set<String> = []
        for line in table.split(separator: "\n").dropFirst() {
            // sl, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            guard fields.count > 9, fields[3] == "0A", let colon = fields[1].lastIndex(of: ":"),
                Int(fields[1][fields[1].index(after: colon)...], radix: 16) == port
            else { continue }
            sockets.insert("socket:[\(fields[9])]")
        }
        return sockets
    }

    /// What `ps` calls a process, in visible ASCII.
    private static func name(of process: String) -> String {
        var name = Self.text(of: "/proc/\(process)/comm").split(separator: "\n").first.map(String.init) ?? ""
        // One that was executed through /proc/self/exe has no name of its own.
        if name == "exe", let file = Self.target(of: "/proc/\(process)/exe")?.split(separator: "/").last {
            name = String(file)
        }
        let visible = name.unicodeScalars.filter { (0x21...0x7e).contains($0.value) }
        return visible.isEmpty ? "a process" : String(String.UnicodeScalarView(visible))
    }

    private static func names(in directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while names.count < Self.bound, let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names
    }

    private static func target(of link: String) -> String? {
        let bytes = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
            count = buffer.withMemoryRebound(to: CChar.self) { path in
                path.baseAddress.map { max(readlink(link, $0, path.count), 0) } ?? 0
            }
        }
        return bytes.isEmpty ? nil : String(decoding: bytes, as: UTF8.self)
    }

    private static func text(of file: String) -> String {
        let descriptor = open(file, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        while bytes.count < 16 * 1024 * 1024 {
            let piece = [UInt8](unsafeUninitializedCapacity: 64 * 1024) { buffer, count in
                count = max(read(descriptor, buffer.baseAddress, buffer.count), 0)
            }
            if piece.isEmpty { break }
            bytes += piece
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
