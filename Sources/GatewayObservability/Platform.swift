// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#elseif canImport(Darwin)
internal import Darwin
#endif

/// Every call of this module to the operating system.
package enum Platform {
    /// How a write ended.
    enum WriteResult: Equatable {
        /// This many bytes were taken, perhaps fewer than offered.
        case written(Int)
        /// A signal came first; to be tried again at once.
        case interrupted
        /// The descriptor takes nothing now.
        case wouldBlock
        /// Anything else: full disk, reader gone, bad descriptor.
        case failed
    }

    /// Nanoseconds since 1970-01-01 UTC, without leap seconds.
    package static func wallClock() -> Int64 { Self.nanoseconds(of: CLOCK_REALTIME) }

    /// The number of this process, as it sees it itself.
    package static var processID: Int32 { getpid() }

    /// Whether a descriptor is a terminal.
    package static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

    /// Opens `/dev/null` in place of standard input, output and error where one is closed, so that no socket can become
    /// one and be written to.
    ///
    /// To be called before anything else is opened.
    package static func openMissingStandardDescriptors() {
        for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) == -1 && errno == EBADF {
            // The lowest free number is given, which is this one.
            _ = open("/dev/null", descriptor == 0 ? O_RDONLY : O_WRONLY)
        }
    }

    private static func nanoseconds(of clock: clockid_t) -> Int64 {
        var time = timespec()
        guard clock_gettime(clock, &time) == 0 else { return 0 }
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

// MARK: - Descriptors

extension Platform {
    /// A second descriptor for the same file, above the standard three and not inherited by children; nil: bad
    /// descriptor, or none left.
    static func duplicate(_ descriptor: Int32) -> Int32? {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
        return copy < 0 ? nil : copy
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

    static func write(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>) -> WriteResult {
        let count = bytes.withUnsafeBytes { buffer in
            #if canImport(Glibc)
            Glibc.write(descriptor, buffer.baseAddress, buffer.count)
            #elseif canImport(Musl)
            Musl.write(descriptor, buffer.baseAddress, buffer.count)
            #else
            Darwin.write(descriptor, buffer.baseAddress, buffer.count)
            #endif
        }
        if count >= 0 { return .written(count) }
        switch errno {
        case EINTR: return .interrupted
        case EAGAIN, EWOULDBLOCK: return .wouldBlock
        default: return .failed
        }
    }

    /// Waits until a descriptor takes bytes or has an error, at most `milliseconds`.
    static func waitUntilWritable(_ descriptor: Int32, milliseconds: Int32) {
        var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        _ = poll(&entry, 1, milliseconds)
    }
}

// MARK: - Threads

extension Platform {
    private final class ThreadBody: Sendable {
        let run: @Sendable () -> Void

        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// Runs `body` on a thread of its own to which no signal is delivered but those of its own crash; false: the system
    /// gives no thread.
    package static func startThread(_ body: @escaping @Sendable () -> Void) -> Bool {
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        // Blocked, these would end the process before anybody could say why.
        for crash in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGFPE] { sigdelset(&all, crash) }
        // The new thread inherits the mask. A write to a closed pipe then is an error and no signal.
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let box = Unmanaged.passRetained(ThreadBody(body))
        #if canImport(Darwin)
        var thread: pthread_t?
        let result = pthread_create(&thread, nil, Self.threadMain, box.toOpaque())
        #else
        var thread = pthread_t()
        let result = pthread_create(&thread, nil, Self.threadMainOptional, box.toOpaque())
        #endif
        guard result == 0 else {
            box.release()
            return false
        }
        #if canImport(Darwin)
        if let thread { pthread_detach(thread) }
        #else
        pthread_detach(thread)
        #endif
        return true
    }

    private static let threadMain: @convention(c) (UnsafeMutableRawPointer) -> UnsafeMutableRawPointer? = { argument in
        Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
        return nil
    }

    private static let threadMainOptional: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        guard let argument = $0 else { return nil }
        return Platform.threadMain(argument)
    }
}

/// A value that threads wait for: a lock and a condition.
///
/// Unchecked: the value is touched under the lock only, and the two system objects stay at one address until `deinit`.
package final class Monitor<Value: Sendable>: @unchecked Sendable {
    private var value: Value
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init(_ value: Value) {
        self.value = value
        pthread_mutex_init(self.lock, nil)
        #if canImport(Darwin)
        pthread_cond_init(self.condition, nil)
        #else
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(self.condition, &attributes)
        pthread_condattr_destroy(&attributes)
        #endif
    }

    deinit {
        pthread_cond_destroy(self.condition)
        pthread_mutex_destroy(self.lock)
        self.condition.deallocate()
        self.lock.deallocate()
    }

    /// Reads or changes the value; nobody is woken.
    package func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        pthread_mutex_lock(self.lock)
        defer { pthread_mutex_unlock(self.lock) }
        return body(&self.value)
    }

    /// Has every waiting thread look again.
    package func wakeAll() { pthread_cond_broadcast(self.condition) }

    /// Waits until `body` gives something; nil: it did not within `milliseconds` (nil: for ever).
    package func wait<Result>(milliseconds: Int64? = nil, until body: (inout Value) -> Result?) -> Result? {
        let end = milliseconds.map { self.now() + $0 * 1_000_000 }
        pthread_mutex_lock(self.lock)
        defer { pthread_mutex_unlock(self.lock) }
        while true {
            if let result = body(&self.value) { return result }
            guard let end else {
                pthread_cond_wait(self.condition, self.lock)
                continue
            }
            let left = end - self.now()
            if left <= 0 { return nil }
            #if canImport(Darwin)
            var time = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
            pthread_cond_timedwait_relative_np(self.condition, self.lock, &time)
            #else
            var time = timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
            pthread_cond_timedwait(self.condition, self.lock, &time)
            #endif
        }
    }

    private func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}

// MARK: - The process

extension Platform {
    /// What `/proc` and the clocks say of this process; nil where there is no `/proc`.
    enum Process {
        static func residentBytes() -> Int? {
            Platform.readFile("/proc/self/statm").flatMap(ProcessText.residentPages).map { $0 * Int(getpagesize()) }
        }

        static func openDescriptors() -> Int? {
            #if os(Linux)
            guard let directory = opendir("/proc/self/fd") else { return nil }
            defer { closedir(directory) }
            var count = 0
            while let entry = readdir(directory) {
                if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
            }
            // One of them is the directory that was read.
            return count - 1
            #else
            return nil
            #endif
        }

        /// User and system time in nanoseconds.
        static func cpuNanoseconds() -> Int64? {
            #if os(Linux)
            return Platform.nanoseconds(of: CLOCK_PROCESS_CPUTIME_ID)
            #else
            return nil
            #endif
        }

        /// Seconds since 1970.
        static func startTime() -> Double? {
            guard let ticks = Platform.readFile("/proc/self/stat").flatMap(ProcessText.startTicks),
                let boot = Platform.readFile("/proc/stat").flatMap(ProcessText.bootTime)
            else { return nil }
            return Double(boot) + Double(ticks) / Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
        }
    }

    /// A small file as a whole; nil: it cannot be read.
    fileprivate static func readFile(_ path: String) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { Self.close(descriptor) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16 * 1024)
        while content.count < 1024 * 1024 {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            content.append(contentsOf: chunk[..<count])
        }
        return content
    }
}
