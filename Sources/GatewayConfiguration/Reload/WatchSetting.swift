// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What `--watch` says: whether changes of the configuration are looked for, and how often.
package enum WatchSetting: Hashable, Sendable {
    /// Files are watched, URLs are not.
    case automatic
    /// The configuration is read again on a signal only.
    case off
    /// A URL is asked for at this interval.
    case every(Duration)

    /// The intervals that are accepted.
    package static let intervals = Duration.seconds(1)...Duration.seconds(24 * 60 * 60)
    /// What is accepted, for a message.
    package static let accepted = "auto, off, or a duration from 1s to 24h such as 60s"

    /// Reads the value of the option; nil if it is none of the ``accepted`` ones.
    package init?(_ text: String) {
        switch text {
        case "auto": self = .automatic
        case "off": self = .off
        default:
            guard let nanoseconds = DurationText.nanoseconds(text), let count = Int64(exactly: nanoseconds),
                Self.intervals.contains(.nanoseconds(count))
            else { return nil }
            self = .every(.nanoseconds(count))
        }
    }
}
