// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayPolicy

extension SnapshotBuilder {
    typealias RotationMode = CredentialPoolConfiguration.RotationMode

    /// `options.auth`; nil if it makes no pool (credentials §2.1).
    mutating func credentialPool(_ node: Node) -> CredentialPoolConfiguration? {
        let list = node["tokens"]
        let usable = self.usableTokens(list?.elements ?? [])
        let mode = node["rotationMode"]
        guard !usable.isEmpty, let list else {
            self.reportEmptyPool(list: list, mode: mode)
            return nil
        }
        self.warnAboutDuplicates(usable)
        let maxRetries = node["maxRetries"]
        let attempts = maxRetries?.number.flatMap { Int($0) }
        if let maxRetries, let attempts, attempts > usable.count {
            self.findings.add(
                .maxRetriesCapped,
                at: maxRetries,
                "there are \(usable.count) tokens, so a request makes \(usable.count) attempts at most"
            )
        }
        if mode == nil, usable.count > 1 {
            self.findings.add(
                .rotationModeDefault,
                at: list,
                "there are several tokens and no rotationMode; it is round-robin, accepted is also on-first-failed"
            )
        }
        let retryOn = node["retryOn"]?.elements?.compactMap { $0.number.flatMap { Int($0) } }
        let affinity = node["affinity"]?.string.flatMap { CredentialPoolConfiguration.Affinity(rawValue: $0) }
        return Self.pool(
            usable.map { Secret($0.token) },
            mode: mode?.string.flatMap { RotationMode(rawValue: $0) } ?? .roundRobin,
            maxRetries: attempts,
            retryOn: retryOn.map(Set.init) ?? [401, 403],
            affinity: affinity ?? .request
        )
    }

    /// A pool whose mode and attempts follow from the number of its tokens.
    static func pool(
        _ tokens: [Secret],
        mode: RotationMode,
        maxRetries: Int?,
        retryOn: Set<Int>,
        affinity: CredentialPoolConfiguration.Affinity
    ) -> CredentialPoolConfiguration {
        let mode = tokens.count == 1 ? .static : mode
        let attempts: Int
        switch mode {
        case .static: attempts = 1
        case .roundRobin: attempts = min(maxRetries ?? 1, tokens.count)
        case .onFirstFailed: attempts = min(maxRetries ?? tokens.count, tokens.count)
        }
        return CredentialPoolConfiguration(
            tokens: tokens,
            mode: mode,
            attemptLimit: attempts,
            retryOn: retryOn,
            affinity: affinity
        )
    }

    private struct UsableToken {
        var index: Int
        var token: String
        var node: Node
    }

    /// The entries that can be sent; each kind of doubt makes one warning, which names every position.
    private mutating func usableTokens(_ elements: [Node]) -> [UsableToken] {
        var usable: [UsableToken] = []
        var positions: [Finding.Code: [Int]] = [:]
        for (index, element) in elements.enumerated() {
            guard let text = element.string else { continue }
            switch TokenText(text) {
            case .empty:
                positions[.tokenSkipped, default: []].append(index)
            case .unusable:
                self.findings.add(.invalidToken, at: element, TokenText.rule)
            case .usable(let token, let isTrimmed, let hasScheme):
                if isTrimmed { positions[.tokenWhitespace, default: []].append(index) }
                if hasScheme { positions[.tokenScheme, default: []].append(index) }
                usable.append(UsableToken(index: index, token: token, node: element))
            }
        }
        let messages: [(Finding.Code, String)] = [
            (.tokenSkipped, "is empty and left out"),
            (.tokenWhitespace, "has white space around it, which is left out"),
            (.tokenScheme, "looks as if it already had the scheme; the gateway puts Bearer before it"),
        ]
        for (code, message) in messages {
            guard let indices = positions[code], let first = indices.first else { continue }
            self.findings.add(code, at: elements[first], "\(Self.entries(indices)) \(message)")
        }
        return usable
    }

    private mutating func warnAboutDuplicates(_ tokens: [UsableToken]) {
        var first: [String: Int] = [:]
        let again = tokens.filter { first.updateValue(first[$0.token] ?? $0.index, forKey: $0.token) != nil }
        guard let duplicate = again.first else { return }
        self.findings.add(
            .duplicateToken,
            at: duplicate.node,
            "\(Self.entries(again.map(\.index))) is the same as an earlier one; each keeps a slot of its own"
        )
    }

    private mutating func reportEmptyPool(list: Node?, mode: Node?) {
        let elements = list?.elements ?? []
        // Entries that are not just empty have a finding of their own, and so has a list that is none.
        let isReported = elements.contains { element in
            guard let text = element.string, case .empty = TokenText(text) else { return true }
            return false
        }
        guard !isReported, list?.isUnread != true else { return }
        if let mode {
            self.findings.add(.rotationWithoutTokens, at: mode, "there is no usable token to rotate; set auth.tokens")
        } else if let list, !elements.isEmpty {
            self.findings.add(
                .noUsableToken,
                at: list,
                "every token is empty; accepted is a list with at least one token"
            )
        } else if let list {
            self.findings.add(.emptyTokenList, at: list, "the list is empty, so no token is sent")
        }
    }

    /// Names positions as indices do: from 0, as in the path of the finding.
    private static func entries(_ indices: [Int]) -> String {
        let shown = indices.prefix(8).map(String.init).joined(separator: ", ")
        return indices.count == 1 ? "entry \(shown)" : "each of the entries \(shown)\(indices.count > 8 ? ", …" : "")"
    }
}
