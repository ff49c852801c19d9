// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
internal import GatewayWire

/// The values of a configuration that are never printed (contract §5).
///
/// Tokens, proxy users and passwords, and what secret files gave, are secret whatever they look like. Values of `env`, of
/// `headers` and of the query of a `url` are secret unless they are plain words, numbers, paths or URLs without secrets, and
/// always if their names look secret: masking `production` or `text/event-stream` everywhere would make the log useless.
package enum LoadedSecrets {
    /// All of them, in any order, some more than once.
    package static func values(of snapshot: GatewaySnapshot) -> [Secret] {
        snapshot.listener.statusTokens + snapshot.upstreams.flatMap(Self.values)
            + snapshot.secretsFromFiles.flatMap { [$0] + Self.parts(of: $0, named: "") }
    }

    private static func values(of upstream: UpstreamConfiguration) -> [Secret] {
        var values = upstream.inboundTokens
        switch upstream.transport {
        case .http(let http):
            values += http.headers.flatMap { Self.parts(of: $0.value, named: $0.name) }
            values += http.credentials?.tokens ?? []
            if case .explicit(let proxy, _) = http.proxy {
                values += [proxy.username, proxy.password].compactMap(\.self)
            }
            if let proxy = http.outboundProxy { values += [proxy.username, proxy.password].compactMap(\.self) }
            values += Self.queryValues(of: http.url.target)
        case .stdio(let stdio):
            values += stdio.environment.flatMap { Self.parts(of: $0.value, named: $0.name) }
        }
        return values
    }

    /// The query values of a request target, as written and with their percent-encoding undone.
    static func queryValues(of target: String) -> [Secret] {
        let query = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).dropFirst().first ?? ""
        var values: [Secret] = []
        for pair in query.split(separator: "&") {
            let equals = pair.firstIndex(of: "=")
            let name = equals.map { String(pair[..<$0]) } ?? ""
            let value = equals.map { String(pair[pair.index(after: $0)...]) } ?? String(pair)
            values += Self.parts(of: Secret(value), named: name)
            if let decoding = EscapeDecoding(value.utf8.span, undoing: .percent) {
                values += Self.parts(of: Secret(String(decoding: decoding.bytes, as: UTF8.self)), named: name)
            }
        }
        return values
    }

    /// A value and the parts of it that may turn up alone, such as the token of `Bearer TOKEN` or of a cookie.
    ///
    /// None if the value is plain and its name does not look secret.
    static func parts(of value: Secret, named name: String) -> [Secret] {
        let text = value.reveal()
        let looksSecret = URLSecrets.looksSecret(name.utf8.span)
        guard looksSecret || !Self.isPlain(text) else { return [] }
        var parts = text.split(whereSeparator: { " ;,=".contains($0) })
        // An authentication scheme is a word before a space (RFC 9110 §11.4).
        if parts.count > 1, text.contains(" "), parts[0].allSatisfy(\.isLetter) { parts.removeFirst() }
        return [value] + parts.filter { looksSecret || !Self.isPlain($0) }.map { Secret(String($0)) }
    }

    /// Whether a text is words, numbers, a path or a URL without secrets.
    static func isPlain(_ text: some StringProtocol) -> Bool {
        guard URLSecrets.ranges(in: String(text).utf8.span).isEmpty else { return false }
        if text.contains("://") || ["/", "./", "../", "~/"].contains(where: { text.hasPrefix($0) }) { return true }
        return text.split(whereSeparator: { " ;,=./:+_-*()".contains($0) })
            .allSatisfy { word in
                word.utf8.allSatisfy { (0x30...0x39).contains($0) } || Self.isWord(word)
            }
    }

    /// Letters of one case, or with a capital first, of a length that words have.
    private static func isWord(_ text: some StringProtocol) -> Bool {
        guard text.utf8.count <= 20 else { return false }
        let rest = text.utf8.dropFirst()
        let isLetter = text.utf8.allSatisfy { (0x61...0x7a).contains($0 | 0x20) }
        return isLetter && (rest.allSatisfy { $0 & 0x20 != 0 } || text.utf8.allSatisfy { $0 & 0x20 == 0 })
    }
}
