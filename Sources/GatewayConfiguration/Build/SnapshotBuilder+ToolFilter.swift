// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

extension SnapshotBuilder {
    /// The filter of a server: its `options.toolFilter`, or what an MCP client's file has in its place.
    mutating func toolFilter(of node: Node, options: Node?) -> ToolFilter? {
        let foreign = self.clientFilters(of: node) + (options.map { self.clientFilters(of: $0) } ?? [])
        guard let first = foreign.first else { return self.toolFilter(options?["toolFilter"]) }
        let own = options?["toolFilter"]
        let hasOwn = own?["mode"] != nil || own?["list"] != nil || own?.unknownKeys.isEmpty == false
        guard foreign.count == 1, !hasOwn else {
            self.findings.add(
                .conflictingKeys,
                at: hasOwn ? first.node : foreign[1].node,
                "there are two filters of tools; write one, as options.toolFilter"
            )
            return nil
        }
        self.findings.add(
            .foreignKey,
            at: first.node,
            "this is read as options.toolFilter with the mode \(first.mode.rawValue)"
        )
        return self.toolFilter(first.mode, list: first.node, at: first.node)
    }

    /// The keys of clients that hide tools; an empty list of what is hidden hides nothing.
    private func clientFilters(of node: Node) -> [(mode: ToolFilter.Mode, node: Node)] {
        var filters: [(mode: ToolFilter.Mode, node: Node)] = []
        if let list = node["includeTools"], !(self.isClientFile && list.isEverything) { filters.append((.allow, list)) }
        if let list = node["excludeTools"], list.elements?.isEmpty != true { filters.append((.block, list)) }
        return filters
    }

    /// `options.toolFilter`.
    private mutating func toolFilter(_ node: Node?) -> ToolFilter? {
        guard let node, !node.isUnread else { return nil }
        let list = node["list"]
        let isMisspelt = list == nil && !node.unknownKeys.isEmpty
        guard let mode = node["mode"]?.string.flatMap({ ToolFilter.Mode(rawValue: $0.lowercased()) }) else {
            if node["mode"] != nil { return nil }
            if list == nil, !isMisspelt {
                self.findings.add(.noEffect, at: node, "this filter has neither mode nor list and hides nothing")
            } else {
                self.reportMissing(
                    "mode",
                    of: node,
                    "this key is required and missing; accepted is \"allow\" or \"block\""
                )
            }
            return nil
        }
        guard mode == .allow || !isMisspelt else {
            self.reportMissing("list", of: node, "this key is missing, so nothing would be hidden; it names the tools")
            return nil
        }
        return self.toolFilter(mode, list: list, at: node)
    }

    private mutating func reportMissing(_ key: String, of node: Node, _ message: String) {
        self.findings.add(.missingKey, path: node.path.appending(key: key), position: node.position, message)
    }

    private mutating func toolFilter(_ mode: ToolFilter.Mode, list: Node?, at node: Node) -> ToolFilter? {
        let names: [String]
        if let list, let text = list.string {
            guard !TokenText.trimmed(text[...]).isEmpty else {
                self.findings.add(
                    .emptySecuritySetting,
                    at: list,
                    "the list is empty text; accepted are names of tools with commas between them, or []"
                )
                return nil
            }
            names = text.split(separator: ",").map { TokenText.trimmed($0) }.filter { !$0.isEmpty }
        } else {
            names = self.toolNames(list?.elements ?? [])
        }
        if names.isEmpty, list?.isUnread != true {
            self.findings.add(
                .emptyToolFilter,
                at: list ?? node,
                mode == .allow ? "this filter allows no tool at all" : "this filter blocks nothing"
            )
        }
        return ToolFilter(mode: mode, names: names)
    }

    private mutating func toolNames(_ elements: [Node]) -> [String] {
        var names: [String] = []
        for element in elements {
            guard let name = element.string else { continue }
            if TokenText.trimmed(name[...]).isEmpty {
                self.findings.add(.invalidValue, at: element, "this name is empty; accepted is the name of a tool")
            } else {
                names.append(name)
            }
        }
        return names
    }
}

extension Node {
    /// Whether it is a list that names everything, which some clients write where others write nothing.
    fileprivate var isEverything: Bool { self.elements?.count == 1 && self.elements?.first?.string == "*" }
}
