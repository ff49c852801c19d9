// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Gives a file of the first version (`server`, `clients`) the shape of the second.
///
/// Every value keeps its place and path, so findings speak of what the operator wrote. `globalAuthTokens` become what
/// servers inherit, and are kept apart from a client's own tokens: those of the first version guard callers only.
struct V1Migration {
    /// What there is to build from, whatever the version.
    struct Document {
        var gateway: Node?
        var isGatewayV1 = false
        var servers: Node?
        var areServersV1 = false
    }

    /// Chooses between the versions as the Go program did: `server` counts only without `mcpProxy`, `clients` only
    /// without `mcpServers`.
    static func migrate(_ root: Node, findings: inout FindingList) -> Document {
        var document = Document(gateway: root["mcpProxy"], servers: root["mcpServers"])
        var deprecated: Node.Member?
        for member in root.members ?? [] where member.key == "server" || member.key == "clients" {
            let isGateway = member.key == "server"
            let hasServers = document.servers?.members?.isEmpty == false
            if isGateway ? document.gateway != nil : hasServers {
                findings.add(
                    .ignoredV1,
                    at: member,
                    "this is ignored, because \(isGateway ? "mcpProxy" : "mcpServers") is given; remove it"
                )
                continue
            }
            deprecated = deprecated ?? member
        }
        if let deprecated {
            findings.add(
                .deprecatedV1,
                at: deprecated,
                "server and clients are the first version of this file; they are read as mcpProxy and mcpServers"
            )
        }
        if document.gateway == nil, let server = root["server"] {
            document.gateway = Self.gateway(server)
            document.isGatewayV1 = true
        }
        if document.servers?.members?.isEmpty != false, let clients = root["clients"] {
            document.servers = Self.servers(clients)
            document.areServersV1 = true
        }
        return document
    }

    private static func gateway(_ server: Node) -> Node {
        var node = server
        var members = (server.members ?? []).filter { $0.key != "globalAuthTokens" }
        if let tokens = server["globalAuthTokens"] {
            members.append(Self.object("options", [("authTokens", tokens)], at: tokens))
        }
        node.value = .object(members)
        return node
    }

    private static func servers(_ clients: Node) -> Node {
        var node = clients
        node.value = .object(
            (clients.members ?? [])
                .map { member in
                    var member = member
                    member.value = Self.server(member.value)
                    return member
                }
        )
        return node
    }

    private static func server(_ client: Node) -> Node {
        var node = client
        var members = client["config"]?.members ?? []
        if let type = client["type"] {
            members.append(Node.Member(key: "transportType", position: type.position, value: type))
        }
        for key in KeyTable.clientKeys.map(\.name) {
            if let value = client[key] { members.append(Node.Member(key: key, position: value.position, value: value)) }
        }
        let options = ["panicIfInvalid", "logEnabled", "authTokens"].compactMap { key in client[key].map { (key, $0) } }
        members.append(Self.object("options", options, at: client))
        node.value = .object(members)
        return node
    }

    private static func object(_ key: String, _ members: [(String, Node)], at place: Node) -> Node.Member {
        let members = members.map { Node.Member(key: $0.0, position: $0.1.position, value: $0.1) }
        let value = Node(value: .object(members), position: place.position, path: place.path)
        return Node.Member(key: key, position: place.position, value: value)
    }
}
