// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

extension SnapshotBuilder {
    /// A server with a `command`.
    mutating func stdioUpstream(_ draft: ServerDraft) -> StdioUpstreamConfiguration {
        let node = draft.node
        self.warnAboutMisplaced(
            draft.misplaced(["headers", "tls", "oauth"], inOptions: ["auth", "proxy", "forwardHeaders"]),
            "a server that is a child process"
        )
        let arguments = (node["args"]?.elements ?? []).compactMap { self.argument($0) }
        let command = node["command"].flatMap { self.command($0, hasArguments: node["args"] != nil) }
        let program = StdioUpstreamConfiguration(
            command: command ?? "",
            arguments: arguments,
            environment: self.environment(of: draft),
            workingDirectory: node["cwd"].flatMap { self.path($0) },
            inherited: self.inheritedEnvironment(node["inheritEnv"])
        )
        if draft.isStarted { self.mentions.add(program, of: draft.name, at: node) }
        return program
    }

    private mutating func command(_ node: Node, hasArguments: Bool) -> String? {
        guard let text = self.path(node) else { return nil }
        if text.contains(" "), !hasArguments {
            self.findings.add(
                .commandLine,
                at: node,
                "command is one program and is not split; its arguments stand in args"
            )
        }
        return text
    }

    /// The name of a file or program: not empty, no NUL.
    mutating func path(_ node: Node) -> String? {
        guard let text = node.string else { return nil }
        guard !text.isEmpty, !text.utf8.contains(0) else {
            self.findings.add(.invalidValue, at: node, "accepted is a path or name that is not empty and has no NUL")
            return nil
        }
        return text
    }

    private mutating func argument(_ node: Node) -> String? {
        guard let text = node.string else { return nil }
        guard !text.utf8.contains(0) else {
            self.findings.add(.invalidValue, at: node, "an argument cannot hold a NUL")
            return nil
        }
        return text
    }

    /// What `env` says, above what the file says that `envFile` names.
    private mutating func environment(of draft: ServerDraft) -> [(name: String, value: Secret)] {
        let own = self.environment(draft.node["env"])
        guard let node = draft.node["envFile"], draft.isStarted else { return own }
        let names = Set(own.map(\.name))
        return self.variables(inFile: node).filter { !names.contains($0.name) } + own
    }

    private mutating func environment(_ node: Node?) -> [(name: String, value: Secret)] {
        var variables: [(name: String, value: Secret)] = []
        for member in node?.members ?? [] {
            guard let value = member.value.string else { continue }
            guard !member.key.isEmpty, !member.key.utf8.contains(where: { $0 == 0 || $0 == UInt8(ascii: "=") }),
                !value.utf8.contains(0)
            else {
                self.findings.add(
                    .invalidValue,
                    at: member,
                    "the name of a variable is not empty and has no =, and neither name nor value has a NUL"
                )
                continue
            }
            variables.append((name: member.key, value: Secret(value)))
        }
        return variables
    }

    private mutating func inheritedEnvironment(_ node: Node?) -> StdioUpstreamConfiguration.InheritedEnvironment {
        guard let node else { return .allowList }
        if let everything = node.boolean { return everything ? .all : .allowList }
        var names: [String] = []
        for element in node.elements ?? [] {
            guard let name = element.string else { continue }
            let stem = name.hasSuffix("*") ? name.dropLast() : name[...]
            if VariableName.isValid(stem.utf8) {
                names.append(name)
            } else {
                self.findings.add(
                    .invalidValue,
                    at: element,
                    "accepted is the name of a variable, or the beginning of names with a star such as \"AWS_*\";"
                        + " for all of them inheritEnv is true"
                )
            }
        }
        return .named(names)
    }
}
