// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

#if canImport(System)
import System
#else
import SystemPackage
#endif

/// Every call of this module to the operating system.
enum SystemCalls {
    /// How an attempt to write without waiting ended.
    enum WriteResult: Hashable {
        case written
        /// There is no room now.
        case full
        /// There is no reader.
        case failed
    }

    /// The bytes that a pipe may hold, unless the administrator allows more.
    static let largestPipe = 1024 * 1024
    static let sigkill = SIGKILL
    static let sigterm = SIGTERM

    /// The file that this process was started from.
    static var ownExecutable: String {
        #if os(Linux)
        "/proc/self/exe"
        #else
        CommandLine.arguments.first ?? ""
        #endif
    }

    /// A pipe that no child inherits; nil: no descriptors are left.
    static func makePipe() -> (read: Int32, write: Int32)? {
        #if os(Linux)
        // Whatever fails, there is no pipe then.
        guard let ends = try? FileDescriptor.pipe(options: .closeOnExec) else { return nil }
        #else
        guard let ends = try? FileDescriptor.pipe() else { return nil }
        for end in [ends.readEnd, ends.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        #endif
        return (ends.readEnd.rawValue, ends.writeEnd.rawValue)
    }

    /// `/dev/null`, which takes everything; nil: no descriptors are left.
    static func openNull() -> Int32? {
        let descriptor = open("/dev/null", O_WRONLY | O_CLOEXEC)
        return descriptor < 0 ? nil : descriptor
    }

    /// What this program needs of its environment to be started: where its shared libraries are, if that is set.
    static var libraryPath: [String: String] {
        let name = "LD_LIBRARY_PATH"
        return getenv(name).map { [name: String(cString: $0)] } ?? [:]
    }

    static func close(_ descriptor: Int32) {
        #if canImport(Glibc)
        _ = Glibc.close(descriptor)
        #elseif canImport(Musl)
        _ = Musl.close(descriptor)
        #else
        _ = Darwin.close(descriptor)
        #endif
    }

    static func setNonBlocking(_ descriptor: Int32) {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
    }

    /// Writes a few bytes, all or none of them, to a pipe that does not block.
    static func write(_ text: String, to descriptor: Int32) -> WriteResult {
        var text = text
        let count = text.withUTF8 { bytes in
            while true {
                #if canImport(Glibc)
                let count = Glibc.write(descriptor, bytes.baseAddress, bytes.count)
                #elseif canImport(Musl)
                let count = Musl.write(descriptor, bytes.baseAddress, bytes.count)
                #else
                let count = Darwin.write(descriptor, bytes.baseAddress, bytes.count)
                #endif
                if count >= 0 || errno != EINTR { return count }
            }
        }
        if count >= 0 { return .written }
        return errno == EAGAIN || errno == EWOULDBLOCK ? .full : .failed
    }

    /// Reads what is there, waiting for something if the descriptor does; empty: there is nothing, or an error.
    static func read(_ descriptor: Int32) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
            while true {
                #if canImport(Glibc)
                let result = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                #elseif canImport(Musl)
                let result = Musl.read(descriptor, buffer.baseAddress, buffer.count)
                #else
                let result = Darwin.read(descriptor, buffer.baseAddress, buffer.count)
                #endif
                if result < 0 && errno == EINTR { continue }
                count = max(result, 0)
                return
            }
        }
    }

    /// Sends a signal to every process of a group; a group without processes is none.
    static func signal(_ signal: Int32, group: Int32) {
        // Group 0 is our own, and -1 is everybody.
        guard group > 1 else { return }
        _ = kill(-group, signal)
    }

    /// A write to a pipe without a reader is an error then, and no signal.
    static func ignoreBrokenPipes() {
        Self.ignore(SIGPIPE)
    }

    /// From now on no signal that asks this process to end has an effect; only SIGKILL ends it.
    static func ignoreRequestsToEnd() {
        for number in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE] { Self.ignore(number) }
    }

    private static func ignore(_ number: Int32) {
        #if canImport(Glibc)
        _ = Glibc.signal(number, SIG_IGN)
        #elseif canImport(Musl)
        _ = Musl.signal(number, SIG_IGN)
        #else
        _ = Darwin.signal(number, SIG_IGN)
        #endif
    }

    /// Leaves the session, the terminal and the directory that this process was started in.
    static func detach() {
        _ = setsid()
        _ = chdir("/")
    }

    static func exit(_ code: Int32) -> Never {
        #if canImport(Glibc)
        Glibc._exit(code)
        #elseif canImport(Musl)
        Musl._exit(code)
        #else
        Darwin._exit(code)
        #endif
    }

    /// Whether there is a file of this path that is no directory, and whether it may be executed.
    static func exists(_ path: String) -> (file: Bool, executable: Bool) {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else { return (false, false) }
        return (true, access(path, X_OK) == 0)
    }
}
