// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// Turns the bytes of a configuration file into a snapshot to run with, and into findings.
///
/// Pure: the environment is an argument, and no file is opened but through `options.secretFiles`.
package enum ConfigurationLoader {
    /// Reads a whole configuration; bytes of any kind give a result, never a trap.
    ///
    /// `bytes` is UTF-8, with or without a byte order mark. `sourceName` is what findings call it and must not contain
    /// a secret. `environment` holds the variables of the process: what `${VAR}` means, and which proxies it names.
    package static func load(
        bytes: [UInt8],
        sourceName: String,
        environment: [String: String],
        options: LoadOptions = LoadOptions()
    ) -> LoadResult {
        var reader = JSONCReader(
            bytes: bytes,
            bounds: JSONCReader.Bounds(admitsVariables: options.expandsEnvironment)
        )
        var root: Node
        do {
            root = try reader.read()
        } catch {
            let failure = error.code == .syntax ? ForeignText.failure(of: bytes) ?? error : error
            var findings = reader.findings
            findings.add(
                failure.code,
                path: failure.path,
                position: failure.position,
                failure.message,
                suggestion: failure.suggestion
            )
            return LoadResult(understood: nil, findings: findings.sorted, sourceName: sourceName)
        }
        var findings = reader.findings
        let kind = DocumentKind(root)
        if case .foreign(let member, let program) = kind {
            findings.add(.foreignFile, at: member, DocumentKind.advice(of: program))
            return LoadResult(understood: nil, findings: findings.sorted, sourceName: sourceName)
        }
        let literalSecret = LiteralSecretSearch.first(in: root, kind.table).map { DocumentPlace($0) }
        var secretFiles = SecretFileMemory()
        if options.expandsEnvironment {
            var expansion = EnvironmentExpansion(
                environment: environment,
                files: options.secretFiles,
                editor: kind.isClient ? EditorReferences(of: root) : nil,
                findings: findings
            )
            root = kind.isClient ? expansion.expandServers(of: root) : expansion.expand(root)
            findings = expansion.findings
            secretFiles = expansion.secretFiles
        }
        var check = DocumentCheck(findings: findings)
        let document = check.fitDocument(root, to: .object(kind.table))
        guard !document.isUnread else {
            return LoadResult(understood: nil, findings: check.findings.sorted, sourceName: sourceName)
        }
        var builder = SnapshotBuilder(
            environment: environment,
            gateway: options.gateway,
            files: options.secretFiles,
            isClientFile: kind.isClient,
            findings: check.findings
        )
        var snapshot = builder.build(document)
        snapshot?.secretsFromFiles = secretFiles.values
        return LoadResult(
            understood: snapshot,
            findings: builder.findings,
            sourceName: sourceName,
            places: Self.places(in: document["mcpProxy"] ?? document["server"]),
            literalSecret: literalSecret,
            secretFiles: secretFiles,
            mentions: builder.mentions
        )
    }

    /// Where the keys of the gateway and those of its limits are written, by their names.
    private static func places(in gateway: Node?) -> [String: DocumentPlace] {
        var places: [String: DocumentPlace] = [:]
        for member in gateway?.members ?? [] {
            places[member.key] = DocumentPlace(member.value)
            guard member.key == "limits" else { continue }
            for limit in member.value.members ?? [] { places["limits.\(limit.key)"] = DocumentPlace(limit.value) }
        }
        return places
    }
}
