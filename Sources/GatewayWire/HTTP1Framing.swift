// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// What the fields of a head say about its body and its connection, by the rules that requests and responses share.
extension HTTP1FieldSection {
    /// The framing that Content-Length and Transfer-Encoding give; nil if the head has neither.
    ///
    /// Refused, in this order: both of them; a Transfer-Encoding in HTTP/1.0, repeated, or other than `chunked` alone
    /// in any letter case; a Content-Length that is repeated (equal or not), is not one or more digits, or does not fit
    /// an `Int`. A tab beside either value is refused as well: it is legal, but recipients are known to disagree on it
    /// (RFC 9112 §6.1, §6.3, §11.2).
    func framing(of bytes: Span<UInt8>, minorVersion: Int) throws(HTTP1Error) -> HTTP1BodyFraming? {
        if self.contains(.transferEncoding) {
            if self.contains(.contentLength) { throw HTTP1Error(.contentLengthAndTransferEncoding) }
            if minorVersion == 0 { throw HTTP1Error(.transferEncodingInHTTP10) }
            guard !self.isRepeated(.transferEncoding), let index = self.firstIndex(of: .transferEncoding),
                !Self.hasTabAround(self.fields[index], bytes),
                HTTP1Bytes.equalsIgnoringCase(bytes.extracting(self.fields[index].valueRange), "chunked")
            else { throw HTTP1Error(.transferEncoding) }
            return .chunked
        }
        guard let index = self.firstIndex(of: .contentLength) else { return nil }
        if self.isRepeated(.contentLength) { throw HTTP1Error(.duplicateContentLength) }
        let field = self.fields[index]
        guard !Self.hasTabAround(field, bytes),
            let length = HTTP1Text.decimal(bytes.extracting(field.valueRange))
        else { throw HTTP1Error(.contentLength) }
        return .length(length)
    }

    /// Whether the connection stays open after this message, as far as its head says (RFC 9112 §9.3).
    func keepsAlive(_ bytes: Span<UInt8>, minorVersion: Int) -> Bool {
        guard self.contains(.connection) else { return minorVersion >= 1 }
        var isKeptAlive = minorVersion >= 1
        for field in self.fields where field.name == .connection {
            let value = bytes.extracting(field.valueRange)
            if HTTP1Text.list(value, contains: "close") { return false }
            if HTTP1Text.list(value, contains: "keep-alive") { isKeptAlive = true }
        }
        return isKeptAlive
    }

    /// Whether there is a tab between the colon and the value or between the value and the end of the line.
    private static func hasTabAround(_ field: HTTP1Field, _ bytes: Span<UInt8>) -> Bool {
        var index = Int(field.nameEnd)
        while index < Int(field.valueStart) {
            if bytes[index] == HTTP1Bytes.tab { return true }
            index &+= 1
        }
        index = Int(field.valueEnd)
        while bytes[index] != HTTP1Bytes.carriageReturn {
            if bytes[index] == HTTP1Bytes.tab { return true }
            index &+= 1
        }
        return false
    }
}
