// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension Finding {
    /// What kind of finding it is: a closed list, for tests, scripts and the documentation.
    package enum Code: String, CaseIterable, Sendable {
        // The text.
        case syntax
        case badEncoding = "bad-encoding"
        case tooLarge = "too-large"
        case tooDeep = "too-deep"
        case duplicateKey = "duplicate-key"
        case unknownKey = "unknown-key"
        case keyCase = "key-case"
        case wrongType = "wrong-type"
        case missingKey = "missing-key"
        case restrictionIgnored = "restriction-ignored"
        case foreignKey = "foreign-key"
        case clientKey = "client-key"
        case foreignFile = "foreign-file"

        // Environment variables and secret files.
        case badExpansion = "bad-expansion"
        case variableNotJSON = "variable-not-json"
        case variableUnset = "variable-unset"
        case inputUnset = "input-unset"
        case keyNotExpanded = "key-not-expanded"
        case unusableSecretFile = "unusable-secret-file"
        case secretFileKept = "secret-file-kept"
        case secretFileReadableByOthers = "secret-file-readable-by-others"

        // A configuration that is read again.
        case needsRestart = "needs-restart"

        // Values.
        case invalidValue = "invalid-value"
        case outOfRange = "out-of-range"
        case invalidDuration = "invalid-duration"
        case durationUnit = "duration-unit"
        case invalidSize = "invalid-size"
        case invalidURL = "invalid-url"
        case invalidAddress = "invalid-address"
        case invalidHeader = "invalid-header"
        case forbiddenHeader = "forbidden-header"
        case invalidToken = "invalid-token"
        case emptySecuritySetting = "empty-security-setting"
        case conflictingKeys = "conflicting-keys"
        case notInheritable = "not-inheritable"
        case noEffect = "no-effect"

        // Servers and routes.
        case invalidName = "invalid-name"
        case routeConflict = "route-conflict"
        case noServers = "no-servers"
        case baseURLGuessed = "base-url-guessed"
        case commandLine = "command-line"
        case oauthNotBuilt = "oauth-not-built"

        // The first version of the file.
        case deprecatedV1 = "deprecated-v1"
        case ignoredV1 = "ignored-v1"

        // Who may call.
        case openGateway = "open-gateway"
        case openServer = "open-server"
        case authTokensSentUpstream = "authtokens-sent-upstream"
        case tokenWhitespace = "token-whitespace"
        case tokenScheme = "token-scheme"
        case emptyToolFilter = "empty-tool-filter"
        case authorizationForwarded = "authorization-forwarded"
        case headerNotForwarded = "header-not-forwarded"

        // Credential pools.
        case rotationWithoutTokens = "rotation-without-tokens"
        case noUsableToken = "no-usable-token"
        case emptyTokenList = "empty-token-list"
        case tokenSkipped = "token-skipped"
        case duplicateToken = "duplicate-token"
        case rotationModeDefault = "rotation-mode-default"
        case maxRetriesCapped = "max-retries-capped"
        case authorizationOverridden = "authorization-overridden"

        // Upstream connections.
        case headerIgnored = "header-ignored"
        case clearTextCredentials = "clear-text-credentials"
        case tlsNotVerified = "tls-not-verified"
        case metadataAddress = "metadata-address"

        // Outbound proxies.
        case invalidProxy = "invalid-proxy"
        case proxyTypeOverrides = "proxy-type-overrides"
        case proxyCredentialsTwice = "proxy-credentials-twice"
        case proxyPathIgnored = "proxy-path-ignored"
        case proxyEmptyPassword = "proxy-empty-password"
        case proxySeesToken = "proxy-sees-token"
        case proxyDefaultPort = "proxy-default-port"
        case proxyLocalDNS = "proxy-local-dns"
        case environmentProxyInvalid = "environment-proxy-invalid"
        case environmentProxyDiscarded = "environment-proxy-discarded"
        case noProxyEntryIgnored = "no-proxy-entry-ignored"

        // The file itself.
        case unreadable
        case fileReadableByOthers = "file-readable-by-others"

        // The machine.
        case unusableFile = "unusable-file"
        case unusableDirectory = "unusable-directory"
        case unusableProgram = "unusable-program"
        case tildeNotExpanded = "tilde-not-expanded"
        case proxyNotPassed = "proxy-not-passed"
    }
}

extension Finding.Code {
    /// How much findings of this kind matter; a kind has one severity.
    package var severity: Finding.Severity {
        switch self {
        case .syntax, .badEncoding, .tooLarge, .tooDeep, .duplicateKey, .wrongType, .missingKey, .badExpansion,
            .variableNotJSON, .invalidValue, .outOfRange, .invalidDuration, .invalidSize, .invalidURL,
            .invalidAddress, .invalidHeader, .forbiddenHeader, .invalidToken, .emptySecuritySetting,
            .conflictingKeys, .notInheritable, .restrictionIgnored, .invalidName, .routeConflict,
            .rotationWithoutTokens,
            .noUsableToken, .invalidProxy, .environmentProxyInvalid, .unreadable, .unusableFile,
            .unusableSecretFile, .foreignFile, .inputUnset:
            .error
        case .unknownKey, .keyCase, .variableUnset, .keyNotExpanded, .durationUnit, .noEffect, .noServers, .commandLine,
            .oauthNotBuilt, .deprecatedV1, .ignoredV1, .openGateway, .openServer, .authTokensSentUpstream,
            .tokenWhitespace, .tokenScheme, .emptyToolFilter, .authorizationForwarded, .headerNotForwarded,
            .emptyTokenList, .tokenSkipped, .duplicateToken, .rotationModeDefault, .authorizationOverridden,
            .headerIgnored, .clearTextCredentials, .tlsNotVerified, .metadataAddress,
            .proxyTypeOverrides, .proxyCredentialsTwice, .proxyPathIgnored, .proxyEmptyPassword, .proxySeesToken,
            .environmentProxyDiscarded, .noProxyEntryIgnored, .fileReadableByOthers, .unusableDirectory,
            .unusableProgram, .secretFileKept, .secretFileReadableByOthers, .needsRestart, .baseURLGuessed:
            .warning
        case .maxRetriesCapped, .proxyDefaultPort, .proxyLocalDNS, .foreignKey, .clientKey, .tildeNotExpanded,
            .proxyNotPassed:
            .info
        }
    }
}
