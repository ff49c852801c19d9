// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Every stored property of the configuration stands in one of these tables once; a test fails for one that does not. Objects
// of the document and sets have no order here, so that only a change of their contents is one.

extension UpstreamConfiguration {
    /// What a server of either kind has.
    static var keys: [ComparedKey<UpstreamConfiguration>] {
        [
            ComparedKey("timeout", "timeout", .tuned, \.timeout),
            ComparedKey("protocolPin", "protocol", .replaced, \.protocolPin),
            ComparedKey("panicIfInvalid", "options.panicIfInvalid", .tuned, \.panicIfInvalid),
            ComparedKey("isLogEnabled", "options.logEnabled", .tuned, \.isLogEnabled),
            ComparedKey("inboundTokens", "options.authTokens", .tuned, \.inboundTokens),
            ComparedKey("toolFilter", "options.toolFilter", .tuned, \.toolFilter),
            ComparedKey("pingInterval", "options.pingInterval", .tuned, \.pingInterval),
            ComparedKey("autoReconnect", "options.autoReconnect", .tuned, \.autoReconnect),
            ComparedKey("reconnectInterval", "options.reconnectInterval", .tuned, \.reconnectInterval),
            ComparedKey("forwardHeaders", "options.forwardHeaders", .replaced) {
                Set($0.forwardHeaders) == Set($1.forwardHeaders)
            },
            ComparedKey("isolation", "options.isolation", .replaced, \.isolation),
        ]
    }
}

extension HTTPUpstreamConfiguration {
    /// What a server with a `url` has besides.
    static var keys: [ComparedKey<HTTPUpstreamConfiguration>] {
        [
            ComparedKey("kind", "transportType", .replaced, \.kind), ComparedKey("url", "url", .replaced, \.url),
            ComparedKey("headers", "headers", .replaced) { $0.headerValues == $1.headerValues },
            ComparedKey("tls", "tls", .replaced, \.tls),
            // Sessions that were opened without a token belong to none.
            ComparedKey("credentials", "options.auth", .replaced) {
                ($0.credentials == nil) == ($1.credentials == nil)
            },
            // What counts is the proxy that it comes to, with what the environment says: `proxy` alone decides nothing.
            ComparedKey("outboundProxy", "options.proxy", .replaced, \.outboundProxy),
        ]
    }

    /// Names are compared as they are written: there are servers that heed the case.
    private var headerValues: [String: Secret] {
        Dictionary(self.headers.map { ($0.name, $0.value) }) { first, _ in first }
    }
}

extension CredentialPoolConfiguration {
    static var keys: [ComparedKey<CredentialPoolConfiguration>] {
        [
            ComparedKey("tokens", "options.auth.tokens", .tuned, \.tokens),
            ComparedKey("names", "options.auth.tokens", .tuned, \.names),
            ComparedKey("mode", "options.auth.rotationMode", .tuned, \.mode),
            ComparedKey("attemptLimit", "options.auth.maxRetries", .tuned, \.attemptLimit),
            ComparedKey("retryOn", "options.auth.retryOn", .tuned, \.retryOn),
            ComparedKey("affinity", "options.auth.affinity", .tuned, \.affinity),
        ]
    }
}

extension StdioUpstreamConfiguration {
    /// What a server with a `command` has besides.
    static var keys: [ComparedKey<StdioUpstreamConfiguration>] {
        [
            ComparedKey("command", "command", .replaced, \.command),
            ComparedKey("arguments", "args", .replaced, \.arguments),
            ComparedKey("environment", "env", .replaced) { $0.variables == $1.variables },
            ComparedKey("workingDirectory", "cwd", .replaced, \.workingDirectory),
            ComparedKey("inherited", "inheritEnv", .replaced) { $0.inherited.isSame(as: $1.inherited) },
        ]
    }

    private var variables: [String: Secret] {
        Dictionary(self.environment.map { ($0.name, $0.value) }) { first, _ in first }
    }
}

extension StdioUpstreamConfiguration.InheritedEnvironment {
    fileprivate func isSame(as other: Self) -> Bool {
        switch (self, other) {
        case (.allowList, .allowList), (.all, .all): true
        case (.named(let names), .named(let others)): Set(names) == Set(others)
        case (.allowList, _), (.all, _), (.named, _): false
        }
    }
}

extension ListenerConfiguration {
    /// `mcpProxy` without its limits, which have a table of their own.
    static var keys: [ComparedKey<ListenerConfiguration>] {
        [
            ComparedKey("baseOrigin", "baseURL", .replaced, \.baseOrigin),
            ComparedKey("basePath", "baseURL", .replaced, \.basePath),
            ComparedKey("address", "addr", .replaced, \.address), ComparedKey("name", "name", .tuned, \.name),
            ComparedKey("version", "version", .tuned, \.version),
            ComparedKey("advertisedTransport", "type", .tuned, \.advertisedTransport),
            ComparedKey("startupGracePeriod", "startupGracePeriod", .tuned, \.startupGracePeriod),
            ComparedKey("drainTimeout", "drainTimeout", .tuned, \.drainTimeout),
            ComparedKey("allowedOrigins", "allowedOrigins", .tuned) {
                Set($0.allowedOrigins) == Set($1.allowedOrigins)
            },
            ComparedKey("allowedHosts", "allowedHosts", .tuned) { Set($0.allowedHosts) == Set($1.allowedHosts) },
            ComparedKey("statusTokens", "options.authTokens", .tuned, \.statusTokens),
        ]
    }
}

extension Limits {
    /// The one that is compared with what the system allows to the process, when that starts (faults S10.9).
    private static let ofStart = ["connections"]

    /// The keys whose limits differ: each property of a limit is named as its key is.
    static func changed(from old: Limits, to new: Limits) -> [(name: String, weight: ComparedWeight)] {
        zip(Mirror(reflecting: old).children, Mirror(reflecting: new).children)
            .compactMap { old, new in
                guard let name = old.label, String(describing: old.value) != String(describing: new.value) else {
                    return nil
                }
                return ("limits.\(name)", Self.ofStart.contains(name) ? .replaced : .tuned)
            }
    }
}
