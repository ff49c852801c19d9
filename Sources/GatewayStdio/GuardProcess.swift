// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// One line from us to the guard: `+12345` or `-12345`.
enum GuardLine: Hashable, Sendable {
    case added(Int32)
    case removed(Int32)

    var group: Int32 {
        switch self {
        case .added(let group), .removed(let group): group
        }
    }

    /// The line with its end.
    var text: String {
        switch self {
        case .added(let group): "+\(group)\n"
        case .removed(let group): "-\(group)\n"
        }
    }
}

/// The groups that the guard has been told of, read from bytes that come in any pieces.
struct GuardedGroups {
    private(set) var groups: Set<Int32> = []
    private var line: [UInt8] = []

    mutating func take(_ bytes: [UInt8]) {
        for byte in bytes {
            guard byte == 0x0a else {
                self.line.append(byte)
                continue
            }
            let text = String(decoding: self.line, as: UTF8.self)
            self.line.removeAll(keepingCapacity: true)
            // Group 1 is init's, 0 our own.
            guard let group = Int32(text.dropFirst()), group > 1 else { continue }
            if text.hasPrefix("+") { self.groups.insert(group) }
            if text.hasPrefix("-") { self.groups.remove(group) }
        }
    }
}

/// What the hidden subcommand `guard` does: reads until its input ends, then kills.
package enum GuardProcess {
    /// Never returns.
    package static func run() -> Never {
        SystemCalls.ignoreRequestsToEnd()
        SystemCalls.detach()
        var groups = GuardedGroups()
        while true {
            let bytes = SystemCalls.read(0)
            if bytes.isEmpty { break }
            groups.take(bytes)
        }
        for group in groups.groups { SystemCalls.signal(SystemCalls.sigkill, group: group) }
        SystemCalls.exit(0)
    }
}
