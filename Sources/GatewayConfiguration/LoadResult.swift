// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayModel

/// What came of reading a configuration.
package struct LoadResult: Sendable {
    /// What to run with; nil if any finding is an error.
    package let snapshot: GatewaySnapshot?
    /// What could be understood in spite of errors, for printing only; nil if the text or `mcpProxy` is unusable.
    package let understood: GatewaySnapshot?
    /// In the order of the document; never empty when `snapshot` is nil.
    package let findings: [Finding]
    /// The name under which findings are shown: a path or a URL without its secrets.
    package let sourceName: String
    /// Where keys of `mcpProxy` and of its limits are written, by their names below it.
    private var places: [String: DocumentPlace] = [:]
    /// The first secret that is spelt out instead of being left to a variable or a file; nil if there is none.
    package private(set) var literalSecret: DocumentPlace?
    /// What secret files gave, to be remembered if this configuration runs.
    package private(set) var secretFiles = SecretFileMemory()
    private var mentions = Mentions()

    package init(understood: GatewaySnapshot?, findings: [Finding], sourceName: String) {
        self.snapshot = findings.contains { $0.severity == .error } ? nil : understood
        self.understood = understood
        self.findings = findings
        self.sourceName = sourceName
    }

    init(
        understood: GatewaySnapshot?,
        findings: FindingList,
        sourceName: String,
        places: [String: DocumentPlace],
        literalSecret: DocumentPlace?,
        secretFiles: SecretFileMemory,
        mentions: Mentions
    ) {
        self.init(understood: understood, findings: findings.sorted, sourceName: sourceName)
        self.places = places
        self.literalSecret = literalSecret
        self.secretFiles = secretFiles
        self.mentions = mentions
    }

    /// The same with these findings, in the order of the document.
    package func with(findings: [Finding]) -> LoadResult {
        var list = FindingList()
        for finding in findings { list.add(finding) }
        return LoadResult(
            understood: self.understood,
            findings: list,
            sourceName: self.sourceName,
            places: self.places,
            literalSecret: self.literalSecret,
            secretFiles: self.secretFiles,
            mentions: self.mentions
        )
    }

    /// The same with what is wrong with the files, directories and programs that it names, on this machine.
    ///
    /// `environment` as in the load.
    package func checked(on machine: some Machine, environment: [String: String]) -> LoadResult {
        var check = MachineCheck(machine, environment: environment)
        check.check(self.mentions)
        return check.findings.isEmpty ? self : self.with(findings: self.findings + check.findings)
    }

    /// The files with certificates, keys and authorities that it names, sorted.
    package var certificateFiles: [String] {
        let files = self.mentions.tls.flatMap { [$0.settings.caFile, $0.settings.certFile, $0.settings.keyFile] }
        return Set(files.compactMap(\.self)).sorted()
    }

    /// The files of variables that servers name, sorted; what they say is part of the configuration.
    package var variableFiles: [String] { Set(self.mentions.variableFiles).sorted() }

    /// Where the address to listen on is written; nil if it is not.
    package var address: DocumentPlace? { self.places["addr"] }

    /// A key of `mcpProxy` has another value than what runs, which counts from the next start.
    ///
    /// A key that the document does not have any more is found at its beginning.
    package func needsRestart(_ key: String) -> Finding {
        let place = self.places[key]
        return Finding(
            code: .needsRestart,
            path: place?.path ?? "mcpProxy.\(key)",
            line: place?.line ?? 1,
            column: place?.column ?? 1,
            message: "another value needs a restart; all else is applied"
        )
    }

    /// The gravest severity found; nil without findings.
    package var gravest: Finding.Severity? { self.findings.map(\.severity).max() }
}

/// What is known of the gateway whatever its configuration says.
package struct GatewayDefaults: Sendable {
    /// Where it listens, whatever the configuration says (`--addr`); nil: where that says.
    package var address: ListenAddress?
    /// What this machine is called, for the URL of a gateway that others reach and that has no `baseURL`.
    package var hostName: String?
    /// The version of this program.
    package var version: String

    package init(address: ListenAddress? = nil, hostName: String? = nil, version: String = "0") {
        self.address = address
        self.hostName = hostName
        self.version = version
    }
}

/// How a configuration is read.
package struct LoadOptions: Sendable {
    /// Whether `${VAR}` and `${file:PATH}` in values are replaced (`--expand-env`).
    package var expandsEnvironment: Bool
    /// What `${file:PATH}` reads.
    package var secretFiles: SecretFiles
    /// What is known of the gateway without a file.
    package var gateway: GatewayDefaults

    package init(
        expandsEnvironment: Bool = true,
        secretFiles: SecretFiles = .none,
        gateway: GatewayDefaults = GatewayDefaults()
    ) {
        self.expandsEnvironment = expandsEnvironment
        self.secretFiles = secretFiles
        self.gateway = gateway
    }
}
