// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayModel
import GatewayObservability
import GatewayRuntime
import GatewayServer
import GatewayWire
import NIOCore
import Testing

/// Messages of callers.
enum Message {
    static let ping = #"{"jsonrpc":"2.0","id":1,"method":"ping"}"#
    static let list = #"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#
    static let initialized = #"{"jsonrpc":"2.0","method":"notifications/initialized"}"#
    static let initialize =
        #"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"#
        + #""clientInfo":{"name":"c","version":"1"}}}"#

    static func call(_ name: String = "work", id: String = "1", arguments: String = "{}") -> String {
        #"{"jsonrpc":"2.0","id":\#(id),"method":"tools/call","params":{"name":"\#(name)","arguments":\#(arguments)}}"#
    }

    /// A request of the stateless era, and the fields that go with it.
    static func stateless(_ method: String, name: String? = nil, id: String = "1") -> (body: String, fields: [String]) {
        let meta = "io.modelcontextprotocol"
        let named = name.map { #""name":"\#($0)","# } ?? ""
        let body =
            #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method)","params":{\#(named)"_meta":{"#
            + #""\#(meta)/protocolVersion":"2026-07-28","\#(meta)/clientCapabilities":{}}}}"#
        var fields = ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: \(method)"]
        if let name { fields.append("Mcp-Name: \(name)") }
        return (body, fields)
    }
}
