// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTesting
import Logging
import Testing

@testable import GatewayStdio

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("Process guard", .timeLimit(.minutes(1))) struct ProcessGuardTests {
    /// The program, which is built into the directory of the tests.
    private static var executable: String {
        let own = SystemView.link("/proc/self/exe")
        return own.prefix(through: own.lastIndex(of: "/") ?? own.startIndex) + "mcp-proxy"
    }

    private let records = Inbox<[LogRecord]>([])

    private func makeGuard() -> ProcessGuard {
        let records = self.records
        let logger = Logger(label: "test") { _ in RecordingLogHandler(records) }
        return ProcessGuard(executable: Self.executable, logger: logger)
    }

    /// A guard that runs, and its process.
    private func startedGuard() async throws -> (guardian: ProcessGuard, processID: Int32) {
        let guardian = self.makeGuard()
        guardian.start()
        try await SystemView.wait("the guard") { guardian.processID != nil }
        return (guardian, try #require(guardian.processID))
    }

    private func child(_ guardian: ProcessGuard) async throws -> TestChild {
        let child = try await TestChild("sh", ["-c", "sleep 60 & echo; sleep 60"], guardian: guardian)
        try await child.start()
        _ = try await child.processID()
        return child
    }

    @Test("When its pipe ends it kills the groups that are left, with the grandchildren, and goes")
    func kills() async throws {
        let (guardian, processID) = try await self.startedGuard()
        var children: [TestChild] = []
        for _ in 0..<5 { children.append(try await self.child(guardian)) }
        let ended = try await self.child(guardian)
        try await ended.on { $0.kill() }
        #expect(try await ended.ending() == .stopped)
        let groups = try await children.map { $0 }.asyncMap { try await $0.processID() }
        guardian.stop()
        for child in children { #expect(try await child.ending() == .signalled(9)) }
        for group in groups {
            try await SystemView.wait("the end of the group", seconds: 2) { !SystemView.exists(-group) }
        }
        try await SystemView.wait("the end of the guard") { !SystemView.exists(processID) }
        #expect(self.records.now.isEmpty)
    }

    @Test("One that nobody started begins with the first child")
    func begins() async throws {
        let guardian = self.makeGuard()
        let child = try await self.child(guardian)
        try await SystemView.wait("the guard") { guardian.processID != nil }
        guardian.stop()
        #expect(try await child.ending() == .signalled(9))
    }

    @Test("It has a session of its own and only the standard descriptors, and what asks it to end does nothing")
    func isOutOfReach() async throws {
        let (guardian, processID) = try await self.startedGuard()
        let child = try await self.child(guardian)
        #expect(SystemView.fields(of: processID).dropFirst(2).prefix(2) == ["\(processID)", "\(processID)"])
        // It ignores signals a moment after its start.
        try await SystemView.wait("the guard to be up") {
            SystemView.content(of: "/proc/\(processID)/status").split(separator: "\n")
                .contains { $0.hasPrefix("SigIgn:") && $0.hasSuffix("5007") }
        }
        #expect(Set(SystemView.entries(of: "/proc/\(processID)/fd")) == [".", "..", "0", "1", "2"])
        for number in [SIGTERM, SIGINT, SIGHUP] { kill(processID, number) }
        guardian.stop()
        #expect(try await child.ending() == .signalled(9))
        #expect(self.records.now.isEmpty)
    }

    @Test("If it dies it is started again once, and knows the groups that live")
    func restarts() async throws {
        let (guardian, processID) = try await self.startedGuard()
        let before = try await self.child(guardian)
        kill(processID, SIGKILL)
        try await SystemView.wait("a second guard") { ![nil, processID].contains(guardian.processID) }
        let second = try #require(guardian.processID)
        #expect(self.records.now.map(\.message) == ["process guard ended and is started again"])
        let after = try await self.child(guardian)
        guardian.stop()
        #expect(try await before.ending() == .signalled(9))
        #expect(try await after.ending() == .signalled(9))
        try await SystemView.wait("the end of the guard") { !SystemView.exists(second) }
    }

    @Test("If it dies again, or cannot be started, children run without it and the log says so once")
    func doesWithout() async throws {
        let logger = Logger(label: "test") { [records] _ in RecordingLogHandler(records) }
        let guardian = ProcessGuard(executable: "/nowhere/mcp-proxy", logger: logger)
        guardian.start()
        _ = try await self.records.wait("that it is given up") { records in
            records.contains { $0.level == .error } ? true : nil
        }
        let child = try await self.child(guardian)
        try await child.on { $0.kill() }
        #expect(try await child.ending() == .stopped)
        #expect(
            self.records.now.map(\.message) == [
                "process guard ended and is started again", "process guard ended; children may outlive a crash",
            ]
        )
        #expect(self.records.now.allSatisfy { $0.metadata == ["reason": "the command was not found"] })
    }

    @Test("The guard reads its lines in any pieces and takes no number that is not one of a group")
    func readsLines() {
        let stream = Array("+10\n+20\n-10\n+0\n+1\n+-5\n+x\n\n*30\n+40\n-50\n+99999999999\n+60".utf8)
        for size in 1...stream.count {
            var groups = GuardedGroups()
            for start in stride(from: 0, to: stream.count, by: size) {
                groups.take(Array(stream[start..<min(start + size, stream.count)]))
            }
            #expect(groups.groups == [20, 40], "pieces of \(size)")
        }
    }
}

extension Array {
    fileprivate func asyncMap<Value>(_ body: (Element) async throws -> Value) async rethrows -> [Value] {
        var values: [Value] = []
        for element in self { values.append(try await body(element)) }
        return values
    }
}
