// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel
import GatewaySession
import GatewayWire
package import Logging
import NIOCore
import Synchronization

/// The tool filter of one upstream as all event loops share it, and what the lists of tools so far say about its entries.
package final class ToolFilterWatch: Sendable {
    /// How many entries one line of the log names.
    private static let namedEntries = 20

    package let filter: ToolFilter
    private let upstream: String
    private let logger: Logger
    private let coverage: Mutex<ToolFilterCoverage>

    package init(_ filter: ToolFilter, upstream: String, logger: Logger) {
        self.filter = filter
        self.upstream = upstream
        self.logger = logger
        self.coverage = Mutex(ToolFilterCoverage(filter))
    }

    /// The entries that match no tool of the last whole list; nil before a caller fetched one.
    package var unmatched: [String]? { self.coverage.withLock(\.unmatched) }

    /// Takes in what the tools of one page matched; warns of entries that match nothing, once for each set of them.
    fileprivate func read(_ matches: ToolFilter.Matches, cursor: String?, next: String?) {
        let found = self.coverage.withLock { $0.read(matches, of: self.filter, cursor: cursor, next: next) }
        guard let found else { return }
        let more = found.count > Self.namedEntries ? " and \(found.count - Self.namedEntries) more" : ""
        self.logger.warning(
            "toolFilter entries match no tool",
            metadata: [
                "upstream": "\(self.upstream)",
                "entries": "\(found.prefix(Self.namedEntries).joined(separator: ", "))\(more)",
                "mode": "\(self.filter.mode.rawValue)",
                "detail": "the server has no such tool: compare options.toolFilter.list with what its tools/list shows",
            ]
        )
    }
}

extension Upstream {
    /// A `tools/list` answer to `request` without the tools that the filter hides; nil if it cannot be read.
    ///
    /// `depth` is the limit that its envelope was read with (`limits.jsonDepth`).
    func filtered(_ body: ByteBuffer, _ envelope: Envelope, to request: CallerMessage, depth: Int) -> ByteBuffer? {
        guard let watch = self.settings.toolFilter, envelope.kind == .result else { return body }
        do {
            let bytes = body.readableBytesUInt8Span
            var matches = watch.filter.noMatches
            let page = try ToolCatalogue.page(in: bytes, maximumDepth: depth) {
                watch.filter.admits($0, noting: &matches)
            }
            watch.read(
                matches,
                cursor: AnswerReader.cursor(of: request.envelope, in: request.body),
                next: page.nextCursor?.decoded(in: bytes)
            )
            return body.edited((page.removals ?? []).map { MessageEdit($0, []) })
        } catch {
            return nil
        }
    }
}
