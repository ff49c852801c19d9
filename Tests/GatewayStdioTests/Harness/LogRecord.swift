// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayTesting
import Logging

/// What was logged.
struct LogRecord: Sendable, CustomStringConvertible {
    var level: Logger.Level
    var message: String
    var metadata: [String: String]

    var description: String { "\(self.level) \(self.message) \(self.metadata)" }
}

/// Keeps what is logged for a test.
struct RecordingLogHandler: LogHandler {
    let records: Inbox<[LogRecord]>
    var logLevel = Logger.Level.debug
    var metadata: Logger.Metadata = [:]

    init(_ records: Inbox<[LogRecord]>) {
        self.records = records
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { self.metadata[key] }
        set { self.metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let metadata = (event.metadata ?? [:]).mapValues { "\($0)" }
        let record = LogRecord(level: event.level, message: "\(event.message)", metadata: metadata)
        self.records.change { $0.append(record) }
    }
}
