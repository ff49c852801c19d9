// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The way of one request through redirects, which are followed within the origin only, and not for long (protocol C26).
///
/// Pure.
package struct Redirection: Hashable, Sendable {
    /// Redirects that one request follows at most.
    package static let limit = 3

    /// The request target that it goes to; nil: that of its URL.
    package private(set) var target: String?
    /// Whether the target is one that an earlier request was led to.
    package private(set) var isRemembered = false
    private var count = 0

    package init() {}

    /// Whether a redirect led it to its target.
    package var isRedirected: Bool { self.count > 0 }

    /// Starts where an earlier request was led to; nil: at its URL.
    package mutating func start(at remembered: String?) {
        guard self.count == 0, let remembered else { return }
        self.target = remembered
        self.isRemembered = true
    }

    /// Whether a redirect of a request for `url` is followed, and then `target` is where to.
    ///
    /// Nothing goes to another origin, and nothing to a URL with user information.
    package mutating func follow(_ location: String?, from url: HTTPURL) -> Bool {
        guard self.count < Self.limit, let location,
            let next = url.moved(to: self.target)?.resolving(reference: location),
            next.origin == url.origin, !next.hasUserInfo
        else { return false }
        self.count += 1
        self.isRemembered = false
        self.target = next.target
        return true
    }

    /// Where a redirect of a request for `url` leads, for people; nil: to no http URL.
    package func place(of location: String?, from url: HTTPURL) -> String? {
        guard let location else { return nil }
        return url.moved(to: self.target)?.resolving(reference: location)?.displayText
    }
}

extension HTTPURL {
    /// The URL with another target; nil if that is none.
    fileprivate func moved(to target: String?) -> HTTPURL? {
        guard let target else { return self }
        return HTTPURL("\(self.origin)\(target)")
    }

    /// The URL for people: without user information, the values of its query hidden, and what looks like a key in its path
    /// as well; at most 200 characters.
    package var displayText: String {
        let path = self.path.split(separator: "/", omittingEmptySubsequences: false)
            .map { Self.looksSecret($0) ? Self.hidden : String($0) }
            .joined(separator: "/")
        var text = "\(self.origin)\(path)"
        if self.target.utf8.count > self.path.utf8.count {
            let query = self.target.dropFirst(self.path.count + 1)
            let pairs = query.split(separator: "&", omittingEmptySubsequences: false)
                .map { pair in pair.firstIndex(of: "=").map { "\(pair[...$0])\(Self.hidden)" } ?? Self.hidden }
            text += "?" + pairs.joined(separator: "&")
        }
        return text.count <= Self.displayLimit ? text : "\(text.prefix(Self.displayLimit - 1))…"
    }

    private static let displayLimit = 200
    private static let hidden = "•••"

    /// A long piece with digits in it is no word.
    private static func looksSecret(_ piece: Substring) -> Bool {
        piece.utf8.count > 20 && piece.utf8.contains { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }
}
