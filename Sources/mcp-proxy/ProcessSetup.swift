// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayProcess

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// What has to hold of the process before it reads a secret (contract §1, faults S1.8, S14.1).
enum ProcessSetup {
    private static let backtrace = "SWIFT_BACKTRACE"
    /// Tells the process that it was executed a second time; neither this nor the setting reaches children.
    private static let marker = "MCP_PROXY_SET_UP"

    static func run() {
        signal(SIGPIPE, SIG_IGN)
        // What we or a child of ours writes is for our user alone.
        umask(0o077)
        var noCore = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(coreLimit, &noCore)
        if getenv(self.marker) != nil {
            unsetenv(self.marker)
            unsetenv(self.backtrace)
        } else if getenv(self.backtrace) == nil {
            self.executeAgain()
        }
        // Where the system has no such thing the process is as readable as any other.
        _ = gateway_set_undumpable()
    }

    /// The Swift runtime reads its crash settings before `main`: only another start can change them.
    ///
    /// By default it prints what the registers point to, and that may be a piece of a token.
    private static func executeAgain() {
        setenv(self.backtrace, self.hasBacktraceHelper ? "enable=yes,registers=none" : "enable=no", 1)
        setenv(self.marker, "1", 1)
        var arguments = CommandLine.unsafeArgv
        withUnsafeMutablePointer(to: &arguments) { pointer in
            _ = execv("/proc/self/exe", pointer.pointee)
        }
        // It cannot be executed again: better to run as it is than not at all.
        unsetenv(self.marker)
        unsetenv(self.backtrace)
    }

    /// Whether the runtime is a library with its back-trace program beside it.
    ///
    /// In a program that has the runtime linked in there is none, and the runtime would say so on standard error at
    /// every start.
    private static var hasBacktraceHelper: Bool { gateway_has_shared_swift_runtime() != 0 }

    #if canImport(Glibc)
    private static var coreLimit: __rlimit_resource_t { __rlimit_resource_t(RLIMIT_CORE.rawValue) }
    private static var fileLimit: __rlimit_resource_t { __rlimit_resource_t(RLIMIT_NOFILE.rawValue) }
    #else
    private static var coreLimit: Int32 { RLIMIT_CORE }
    private static var fileLimit: Int32 { RLIMIT_NOFILE }
    #endif

    /// Raises the limit of open files to what the system allows; returns it.
    static func raiseFileLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(self.fileLimit, &limit) == 0 else { return 1024 }
        if limit.rlim_cur < limit.rlim_max {
            var raised = limit
            raised.rlim_cur = limit.rlim_max
            if setrlimit(self.fileLimit, &raised) == 0 { limit = raised }
        }
        return Int(clamping: limit.rlim_cur)
    }

    /// The environment as pairs.
    static var environment: [String: String] {
        var variables: [String: String] = [:]
        var entry = environ
        while let text = entry.pointee {
            let pair = String(cString: text).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair.count == 2 { variables[String(pair[0])] = String(pair[1]) }
            entry += 1
        }
        return variables
    }
}
