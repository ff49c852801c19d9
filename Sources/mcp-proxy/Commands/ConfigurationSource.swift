// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayConfiguration
import GatewayModel
import GatewayTransport
import GatewayWire

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Where a configuration comes from: a file, or a URL.
struct ConfigurationSource {
    /// What findings call it: never with the user, password or query of a URL.
    let name: String
    /// What there is to say about the file itself.
    private(set) var findings: [Finding] = []
    /// Whether it is a file that its group or everybody can read (faults S2.1).
    let isReadableByOthers: Bool
    /// Where relative paths of `${file:PATH}` count from; nil for a URL.
    let directory: String?
    private let place: Place

    private enum Place {
        case file(String)
        case url(
            HTTPURL,
            headers: [(String, Secret)],
            timeout: Duration,
            isInsecure: Bool,
            proxy: OutboundProxy?
        )
    }

    /// Larger files are no configurations.
    private static let sizeLimit = 4 * 1024 * 1024

    /// `environment` says which outbound proxy a URL is fetched through.
    init(_ options: ConfigurationOptions, environment: [String: String]) throws(CommandEnd) {
        guard options.config.hasPrefix("http://") || options.config.hasPrefix("https://") else {
            self.name = options.config
            self.directory = SecretFiles.directory(ofFileAt: options.config)
            self.place = .file(options.config)
            self.isReadableByOthers = Self.isReadableByOthers(options.config)
            return
        }
        guard let url = HTTPURL(written: options.config), !url.hasUserInfo else {
            throw .wrongConfiguration("--config: not a URL that can be fetched (no user:password@; use --http-headers)")
        }
        self.name = "\(url.origin)\(url.path)"
        self.directory = nil
        self.isReadableByOthers = false
        let selection = OutboundProxySelection(.environment, to: url.origin, environment: environment)
        if case .unusable(let variable) = selection.outcome {
            throw .wrongConfiguration("--config: \(variable.message(for: url.origin))")
        }
        self.place = .url(
            url,
            headers: try Self.headers(options.httpHeaders),
            timeout: try Self.timeout(options.httpTimeout),
            isInsecure: options.insecure,
            proxy: selection.proxy
        )
        self.findings += selection.notices.map(\.finding)
    }

    /// Reads the text, or asks for it.
    ///
    /// `last` is what the server of a URL said of the version that is known.
    /// `isAgain`: the process runs, so that only a file can be read, and nothing that may hold it up.
    func read(
        unlessStill last: HTTPValidators = HTTPValidators(),
        isAgain: Bool = false
    ) async throws(CommandEnd) -> ConfigurationFetch.Answer {
        switch self.place {
        case .file(let path):
            return .version(
                try Self.readFile(path, option: "--config", limit: Self.sizeLimit, isAgain: isAgain),
                HTTPValidators()
            )
        case .url(let url, let headers, let timeout, let isInsecure, let proxy):
            do {
                return try await ConfigurationFetch.get(
                    url,
                    headers: headers,
                    unlessStill: last,
                    tls: TLSClientConfiguration(isInsecure: isInsecure),
                    proxy: proxy,
                    timeout: timeout,
                    sizeLimit: Self.sizeLimit
                )
            } catch {
                throw .wrongConfiguration("\(self.name): cannot be fetched: \(error.message)")
            }
        }
    }

    /// The bytes of the file that an option names.
    ///
    /// At the start it may be a pipe, which is waited for.
    ///
    /// - Throws: `CommandEnd` if it cannot be read, or has more than `limit` bytes, which are whole MiB.
    static func readFile(_ path: String, option: String, limit: Int, isAgain: Bool) throws(CommandEnd) -> [UInt8] {
        let file: LocalFile
        do {
            file = try LocalFile(path, limit: limit, mayWait: !isAgain)
        } catch {
            switch error {
            case .system where error.isMissing && !isAgain && path == MissingConfiguration.usualName:
                throw .wrongConfiguration(
                    MissingConfiguration.text(commands: CommandLineTool.commandNames) { access($0, R_OK) == 0 }
                )
            case .system where error.isMissing:
                throw .wrongConfiguration("\(path): no such file; \(option) names another")
            case .noRegularFile:
                throw .wrongConfiguration("\(path): \(error.reason); a running gateway reads nothing else again")
            case .system, .directory: throw .wrongConfiguration("\(path): \(error.reason)")
            }
        }
        guard file.bytes.count <= limit else {
            throw .wrongConfiguration("\(path): larger than \(limit / (1024 * 1024)) MiB")
        }
        return file.bytes
    }

    private static func isReadableByOthers(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & 0o044 != 0
    }

    private static func headers(_ text: String) throws(CommandEnd) -> [(String, Secret)] {
        var headers: [(String, Secret)] = []
        for pair in text.split(separator: ";") {
            let parts = pair.split(separator: ":", maxSplits: 1)
            let name = parts.first.map { Self.trimmed($0) } ?? ""
            let value = parts.count == 2 ? Self.trimmed(parts[1]) : ""
            guard parts.count == 2, HTTP1Text.isToken(name.utf8), HTTP1Text.isFieldValue(value.utf8) else {
                throw .wrongConfiguration("--http-headers: takes 'Name: value; Name2: value2'")
            }
            headers.append((name, Secret(value)))
        }
        return headers
    }

    private static func trimmed(_ text: Substring) -> String {
        let start = text.drop { $0 == " " || $0 == "\t" }
        guard let end = start.lastIndex(where: { $0 != " " && $0 != "\t" }) else { return "" }
        return String(start[...end])
    }

    private static func timeout(_ text: String) throws(CommandEnd) -> Duration {
        if let seconds = Int(text), seconds > 0, seconds <= 3_600 { return .seconds(seconds) }
        guard let nanoseconds = DurationText.nanoseconds(text), nanoseconds > 0, nanoseconds <= 3_600_000_000_000 else {
            throw .wrongConfiguration("--http-timeout: takes seconds or a duration such as 10s, up to an hour")
        }
        return .nanoseconds(Int64(nanoseconds))
    }
}
