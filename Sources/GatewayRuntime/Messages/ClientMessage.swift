// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewaySession
import GatewayWire
import NIOCore

/// As whom the gateway introduces itself to upstreams.
package struct GatewayIdentity: Sendable {
    let name: String
    let version: String

    var json: String { #"{"name":\#(JSONText.quoted(self.name)),"version":\#(JSONText.quoted(self.version))}"# }
}

/// What a server has lists of, and tells of changes to.
enum ServerList: String, CaseIterable {
    case tools
    case prompts
    case resources
}

/// Messages that the gateway itself sends; ids are given as JSON text.
enum ClientMessage {
    /// `server/discover`, with the envelope that the stateless era asks for (2026-07-28, `basic/index`).
    static func discover(id: String, _ identity: GatewayIdentity) -> ByteBuffer {
        let meta = "io.modelcontextprotocol"
        return ByteBuffer(
            string: #"{"jsonrpc":"2.0","id":\#(id),"method":"server/discover","params":{"_meta":{"#
                + #""\#(meta)/protocolVersion":"\#(ProtocolRevision.july2026.rawValue)","#
                + #""\#(meta)/clientCapabilities":{},"\#(meta)/clientInfo":\#(identity.json)}}}"#
        )
    }

    /// `initialize`; `capabilities` is a JSON object.
    static func initialize(id: String, _ identity: GatewayIdentity, capabilities: String = "{}") -> ByteBuffer {
        ByteBuffer(
            string: #"{"jsonrpc":"2.0","id":\#(id),"method":"initialize","params":{"protocolVersion":""#
                + ProtocolRevision.november2025.rawValue
                + #"","capabilities":\#(capabilities),"clientInfo":\#(identity.json)}}"#
        )
    }

    /// What a session that callers share can do for its upstream (contract §2, `isolation`).
    static let sharedCapabilities = #"{"roots":{"listChanged":true},"sampling":{},"elicitation":{}}"#

    /// The id of what is asked for a caller in its name, which no caller takes for its own.
    static let homeID = #""mcp-proxy-home""#

    static let initialized = ByteBuffer(staticString: #"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)

    static func ping(id: String) -> ByteBuffer { ByteBuffer(string: #"{"jsonrpc":"2.0","id":\#(id),"method":"ping"}"#) }

    static func cancelled(_ id: [UInt8], reason: StaticString) -> ByteBuffer {
        var body = ByteBuffer(
            staticString: #"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#
        )
        body.writeBytes(id)
        body.writeString(#","reason":"\#(reason)"}}"#)
        return body
    }

    /// A request for the first page of a list.
    static func list(_ list: ServerList, id: String) -> ByteBuffer {
        ByteBuffer(string: #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(list.rawValue)/list"}"#)
    }

    static func listChanged(_ list: ServerList) -> ByteBuffer {
        ByteBuffer(string: #"{"jsonrpc":"2.0","method":"notifications/\#(list.rawValue)/list_changed"}"#)
    }

    /// `resources/subscribe` or `resources/unsubscribe`; `uri` is decoded.
    static func subscription(_ method: MCPMethod, id: String, uri: [UInt8]) -> ByteBuffer {
        let uri = JSONText.quoted(String(decoding: uri, as: UTF8.self))
        return ByteBuffer(
            string: #"{"jsonrpc":"2.0","id":\#(id),"method":"\#(method.rawValue)","params":{"uri":\#(uri)}}"#
        )
    }

    static func setLevel(_ severity: LogSeverity, id: String) -> ByteBuffer {
        ByteBuffer(
            string:
                #"{"jsonrpc":"2.0","id":\#(id),"method":"logging/setLevel","params":{"level":"\#(severity.rawValue)"}}"#
        )
    }

    /// The answer to an upstream's `ping`, or to a caller's request that is answered here.
    static func emptyResult(_ id: [UInt8]) -> ByteBuffer {
        var body = ByteBuffer(staticString: #"{"jsonrpc":"2.0","id":"#)
        body.writeBytes(id)
        body.writeStaticString(#","result":{}}"#)
        return body
    }

    /// The answer to a question of an upstream that nobody here can answer (protocol §3).
    static func methodNotFound(_ id: [UInt8]) -> ByteBuffer {
        var body = ByteBuffer(staticString: #"{"jsonrpc":"2.0","id":"#)
        body.writeBytes(id)
        body.writeStaticString(#","error":{"code":-32601,"message":"no client can answer this"}}"#)
        return body
    }

    /// The end of `subscriptions/listen` in order (2026-07-28, Subscriptions).
    static func listenCompleted(_ id: [UInt8]) -> ByteBuffer {
        var body = ByteBuffer(staticString: #"{"jsonrpc":"2.0","id":"#)
        body.writeBytes(id)
        body.writeStaticString(
            #","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"#
        )
        body.writeBytes(id)
        body.writeStaticString("}}}")
        return body
    }
}
