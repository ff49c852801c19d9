// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel

/// Makes the model of a document that fits the tables of keys, and finds what the tables cannot see.
///
/// It goes on after a mistake with what is left, so that one load finds as much as it can.
struct SnapshotBuilder {
    let environment: [String: String]
    let gateway: GatewayDefaults
    let files: SecretFiles
    /// Whether it is the file of an MCP client, without `mcpProxy`.
    let isClientFile: Bool
    var findings: FindingList
    /// What the servers that are started need of the machine.
    var mentions = Mentions()
    /// What was said about the environment or an inherited setting, which is said once.
    private var said: Set<String> = []

    init(
        environment: [String: String],
        gateway: GatewayDefaults = GatewayDefaults(),
        files: SecretFiles = .none,
        isClientFile: Bool = false,
        findings: FindingList
    ) {
        self.environment = environment
        self.gateway = gateway
        self.files = files
        self.isClientFile = isClientFile
        self.findings = findings
    }

    /// Builds the model; nil if there is no usable `mcpProxy`, or neither that nor a server.
    ///
    /// Servers that cannot be understood are left out; a finding says so.
    mutating func build(_ root: Node) -> GatewaySnapshot? {
        let document = V1Migration.migrate(root, findings: &self.findings)
        guard document.gateway != nil || self.isClientFile else {
            self.findings.add(
                .missingKey,
                path: root.path.appending(key: "mcpProxy"),
                position: root.position,
                "this key is required and missing; accepted is an object"
            )
            return nil
        }
        let servers = document.servers?.members ?? []
        if self.isClientFile, servers.isEmpty {
            if document.servers?.isUnread != true { self.reportNoServers(of: document.servers ?? root, in: root) }
            return nil
        }
        let inherited = self.inheritedOptions(document.gateway?["options"])
        let listener = self.listener(document.gateway, inherited, in: root)
        if servers.isEmpty, document.servers?.isUnread != true {
            self.findings.add(.noServers, at: document.servers ?? root, "there is no server; add one to mcpServers")
        }
        var upstreams: [UpstreamConfiguration] = []
        var routes = RouteTable()
        for member in servers {
            let origin = ServerOrigin(isV1: document.areServersV1, isGatewayV1: document.isGatewayV1)
            let upstream = self.upstream(member, inherited: inherited, origin: origin)
            routes.add(member, isRouted: upstream?.isDisabled == false, findings: &self.findings)
            if let upstream { upstreams.append(upstream) }
        }
        self.warnAboutOpenGateway(
            at: document.gateway?["addr"] ?? document.gateway ?? root,
            listener: listener,
            upstreams: upstreams
        )
        return listener.map { GatewaySnapshot(listener: $0, upstreams: upstreams) }
    }

    /// Adds a finding that concerns several servers, unless it was added for one of them already.
    ///
    /// `place` is what it is about, where that is not the value at which it is shown.
    mutating func addOnce(_ code: Finding.Code, at node: Node, about place: DocumentPath? = nil, _ message: String) {
        guard self.said.insert("\(code.rawValue) \(place ?? node.path) \(message)").inserted else { return }
        self.findings.add(code, at: node, message)
    }

    private mutating func warnAboutOpenGateway(
        at place: Node,
        listener: ListenerConfiguration?,
        upstreams: [UpstreamConfiguration]
    ) {
        guard let listener, !listener.address.isLoopback, listener.statusTokens.isEmpty,
            upstreams.allSatisfy(\.inboundTokens.isEmpty)
        else { return }
        let address = self.gateway.address == nil ? "this address" : "the address of --addr"
        self.findings.add(
            .openGateway,
            at: place,
            "other machines can reach \(address) and no authTokens are set anywhere, so anybody may call;"
                + " set mcpProxy.options.authTokens, or listen on 127.0.0.1"
        )
    }
}

/// Which version of the file a server and the gateway come from.
struct ServerOrigin {
    var isV1: Bool
    var isGatewayV1: Bool
}

/// The paths of all routed servers, each of which belongs to one of them.
struct RouteTable {
    private var owners: [String: String] = [:]

    /// Adds the paths of a server that is routed, or reports the server that has one of them already.
    mutating func add(_ member: Node.Member, isRouted: Bool, findings: inout FindingList) {
        guard isRouted, let route = try? ServerRoute.make(of: member.key) else { return }
        for path in ServerRoute.paths(of: route) {
            guard let owner = self.owners.updateValue(member.key, forKey: path) else { continue }
            findings.add(
                .routeConflict,
                at: member,
                "its path /\(path) is already that of the server \(DocumentPath.root.appending(key: owner)); rename one"
            )
            return
        }
    }
}
