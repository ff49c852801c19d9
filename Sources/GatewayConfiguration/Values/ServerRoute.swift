// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// The route that the name of a server makes (contract §2 and §3).
enum ServerRoute {
    /// Bytes of a route at most: it has to fit into a request target.
    static let limit = 512

    /// Why a name makes no route.
    struct Refusal: Error {
        var reason: String
    }

    /// The route under the base path, without slashes at its ends, non-ASCII percent-encoded.
    static func make(of name: String) throws(Refusal) -> String {
        guard !name.isEmpty else { throw Refusal(reason: "the name is empty") }
        guard !name.hasPrefix("_") else { throw Refusal(reason: "names that begin with _ belong to the gateway") }
        guard name != "metrics" else { throw Refusal(reason: "metrics belongs to the gateway") }
        for segment in name.split(separator: "/", omittingEmptySubsequences: false) {
            guard !segment.isEmpty else { throw Refusal(reason: "a segment between slashes is empty") }
            guard segment != ".", segment != ".." else { throw Refusal(reason: "a segment is . or ..") }
        }
        var route = ""
        for scalar in name.unicodeScalars {
            if scalar == "/" || Self.isPathScalar(scalar) {
                route.unicodeScalars.append(scalar)
            } else if !scalar.isASCII, scalar.isVisible {
                for byte in Unicode.UTF8.encode(scalar) ?? Unicode.UTF8.encodedReplacementCharacter {
                    route += "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
                }
            } else {
                throw Refusal(reason: "a character in it cannot stand in a path as it is")
            }
            guard route.utf8.count <= Self.limit else { throw Refusal(reason: "it is longer than \(Self.limit) bytes") }
        }
        return route
    }

    /// A name like this one that makes a route: in small letters, with a hyphen where a character cannot stand.
    static func nearest(to name: String) -> String? {
        let segments = name.prefix(Self.limit).lowercased().split(separator: "/")
            .map { segment in
                segment.unicodeScalars
                    .split { scalar in !Self.isPathScalar(scalar) && (scalar.isASCII || !scalar.isVisible) }
                    .map { String($0) }
                    .joined(separator: "-")
            }
        let route = segments.filter { !$0.isEmpty && $0 != "." && $0 != ".." }.joined(separator: "/").drop { $0 == "_" }
        return (try? Self.make(of: String(route))) == nil ? nil : String(route)
    }

    /// Every path that a server of this route answers.
    static func paths(of route: String) -> [String] {
        [route, "\(route)/", "\(route)/mcp", "\(route)/sse", "\(route)/message"]
    }

    /// Unreserved characters and sub-delims without the semicolon (RFC 3986 §3.3): what a client sends undecoded.
    private static func isPathScalar(_ scalar: Unicode.Scalar) -> Bool {
        guard let byte = UInt8(exactly: scalar.value), byte < 0x80 else { return false }
        return JSONCReader.isWordByte(byte) || "-.~!$&'()*+,=:@".utf8.contains(byte)
    }
}
