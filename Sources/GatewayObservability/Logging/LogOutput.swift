// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import Logging
internal import Synchronization

/// Where all lines of the process go through: one form, one redactor, one sink.
package final class LogOutput: Sendable {
    /// The level that loggers begin with.
    package let level: Logger.Level
    private let format: LogFormat
    private let sink: any LogSink
    /// Masks every text of every line.
    package let redactor: CurrentRedactor
    private let clock: @Sendable () -> Int64
    private let sequence = Atomic<Int>(0)

    /// - Parameters:
    ///   - format: the form of the lines.
    ///   - sink: takes the lines.
    ///   - redactor: masks every text of every line.
    ///   - level: the level that loggers begin with.
    ///   - clock: nanoseconds since 1970-01-01 UTC.
    package init(
        format: LogFormat,
        sink: any LogSink,
        redactor: CurrentRedactor,
        level: Logger.Level = .info,
        clock: @escaping @Sendable () -> Int64 = Platform.wallClock
    ) {
        self.format = format
        self.sink = sink
        self.redactor = redactor
        self.level = level
        self.clock = clock
    }

    /// A logger that writes here.
    package func makeLogger(label: String = "mcp-proxy") -> Logger {
        Logger(label: label) { _ in GatewayLogHandler(self) }
    }

    /// Writes one line; `seq` counts the lines of the process, so that a gap shows that lines were dropped.
    func write(_ level: Logger.Level, _ message: String, _ fields: (inout LogLine) -> Void) {
        var line = LogLine(format: self.format, redactor: self.redactor.value)
        let sequence = self.sequence.wrappingAdd(1, ordering: .relaxed).newValue
        line.begin(time: self.clock(), sequence: sequence, level: level.rawValue, message: message)
        fields(&line)
        self.sink.append(line.finish())
    }
}
