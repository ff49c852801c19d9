// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayRuntime
import GatewayWire
import NIOCore

/// Status lines and fields that come with every answer, written from constant text.
enum ResponseHead {
    static func append(status: Int, to buffer: inout ByteBuffer) {
        if status == 200 {
            buffer.writeStaticString("HTTP/1.1 200 OK\r\n")
        } else {
            buffer.writeString("HTTP/1.1 \(status) \(Self.reason(status))\r\n")
        }
    }

    /// The reason phrases of RFC 9110 §15 that we send; the others have none.
    private static func reason(_ status: Int) -> StaticString {
        switch status {
        case 202: "Accepted"
        case 204: "No Content"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 406: "Not Acceptable"
        case 408: "Request Timeout"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 421: "Misdirected Request"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 502: "Bad Gateway"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        default: ""
        }
    }

    /// Appends what lets a page of the request's admitted origin read the answer, an error and a stream too (contract
    /// U11).
    static func appendCrossOriginFields(for request: InboundRequest, to buffer: inout ByteBuffer) {
        guard let origin = request.value(.origin) else { return }
        buffer.writeStaticString("Access-Control-Allow-Origin: ")
        buffer.writeBytes(origin)
        buffer.writeStaticString("\r\n")
        buffer.writeStaticString(CrossOrigin.responseFields)
    }

    /// Appends `value` in decimal, without a string in between.
    static func append(_ value: Int, to buffer: inout ByteBuffer) {
        var divisor = 1
        while value / divisor >= 10 { divisor *= 10 }
        var rest = value
        while divisor > 0 {
            buffer.writeInteger(UInt8(truncatingIfNeeded: rest / divisor) &+ UInt8(ascii: "0"))
            rest %= divisor
            divisor /= 10
        }
    }

    /// Appends `value` in hexadecimal: the size of a chunk.
    static func appendHexadecimal(_ value: Int, to buffer: inout ByteBuffer) {
        var shift = 0
        while value >> (shift + 4) > 0 { shift += 4 }
        while shift >= 0 {
            let digit = UInt8(truncatingIfNeeded: (value >> shift) & 0xf)
            buffer.writeInteger(digit < 10 ? digit &+ UInt8(ascii: "0") : digit &- 10 &+ UInt8(ascii: "a"))
            shift -= 4
        }
    }
}
