// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// What holds for any bytes that are taken for a JSON-RPC message, for a batch or for a tool list.
enum EnvelopeInvariants {
    /// What is violated by `bytes`; nil if nothing is.
    static func violation(of bytes: [UInt8]) -> String? {
        self.grammar(bytes) ?? self.envelope(bytes) ?? self.batch(bytes) ?? self.tools(bytes) ?? self.eras(bytes)
    }

    /// The scanner accepts exactly what another reader accepts.
    private static func grammar(_ bytes: [UInt8]) -> String? {
        for depthLimit in [3, 64] {
            let isAccepted = self.isJSON(bytes, depthLimit: depthLimit)
            if isAccepted != JSONReference.accepts(bytes, depthLimit: depthLimit) {
                return "the scanner \(isAccepted ? "accepts" : "refuses") what the reference does not"
            }
        }
        return nil
    }

    static func isJSON(_ bytes: [UInt8], depthLimit: Int = 64) -> Bool {
        var scanner = JSONScanner(depthLimit: depthLimit)
        do {
            scanner.skipWhiteSpace(in: bytes.span)
            let value = try scanner.value(in: bytes.span)
            try scanner.finish(in: bytes.span)
            return value.range.upperBound <= bytes.count
        } catch {
            return false
        }
    }

    private static func envelope(_ bytes: [UInt8]) -> String? {
        let downstream = self.scan(bytes, .downstream)
        let upstream = self.scan(bytes, .upstream)
        switch downstream {
        case .failure(let error):
            if !(0...bytes.count).contains(error.offset) { return "an error outside the message" }
            if let id = error.id, !self.isInside(id.range, 0..<bytes.count) { return "an id outside the message" }
            if error.code == .invalidRequest, !self.isJSON(bytes) { return "invalidRequest for what is not JSON" }
        case .success(.batch):
            if upstream != downstream { return "a batch depends on its source" }
        case .success(.message(let envelope)):
            if upstream != downstream { return "a message that is valid downstream is not the same upstream" }
            return self.contents(of: envelope, in: bytes) ?? self.keys(of: envelope, in: bytes)
        }
        if case .success(.message(let envelope)) = upstream { return self.contents(of: envelope, in: bytes) }
        return nil
    }

    private static func contents(of envelope: Envelope, in bytes: [UInt8]) -> String? {
        guard self.isInside(envelope.range, 0..<bytes.count), bytes[envelope.range.lowerBound] == UInt8(ascii: "{"),
            bytes[envelope.range.upperBound - 1] == UInt8(ascii: "}")
        else { return "the message is not in its bytes" }
        for range in [envelope.params, envelope.result, envelope.error] {
            guard let range else { continue }
            guard self.isInside(range, envelope.range) else { return "a value outside the message" }
            guard self.isJSON(Array(bytes[range])) else { return "a value that is not JSON" }
        }
        for id in [envelope.id, envelope.progressToken, envelope.cancelledID, envelope.subscriptionID] {
            guard let id else { continue }
            guard self.isInside(id.range, envelope.range) else { return "an id outside the message" }
            let alone = Array(bytes[id.range])
            guard let again = MessageID(literal: alone.span) else { return "an id that is none on its own" }
            guard id.equals(again, in: alone.span, own: bytes.span) else { return "an id that is not itself" }
            guard id.value(in: bytes.span) == again.value(in: alone.span) else { return "an id with two values" }
        }
        for string in [
            envelope.methodName, envelope.name, envelope.statelessVersion, envelope.initializeVersion,
            envelope.requestState,
        ] {
            guard let string else { continue }
            if let violation = self.string(string, in: bytes, of: envelope) { return violation }
        }
        if (envelope.kind == .request) != (envelope.method != nil && envelope.id != nil) { return "a wrong kind" }
        if let method = envelope.method, method != .other,
            envelope.methodName?.decoded(in: bytes.span) != method.label
        {
            return "a method that is not its name"
        }
        return self.edits(envelope, in: bytes)
    }

    /// No key of a caller's message or of its params is like one that decides, but for its case.
    private static func keys(of envelope: Envelope, in bytes: [UInt8]) -> String? {
        let objects = [
            (envelope.range, ["jsonrpc", "id", "method", "params", "result", "error"]),
            (envelope.params ?? 0..<0, ["name", "_meta", "uri", "taskId", "requestId", "requestState", "level"]),
        ]
        for (range, names) in objects {
            var scanner = JSONScanner(at: range.lowerBound)
            guard !range.isEmpty, var hasMember = try? scanner.beginObject(in: bytes.span) else { continue }
            while hasMember {
                guard let key = try? scanner.key(in: bytes.span), (try? scanner.value(in: bytes.span)) != nil,
                    let hasNext = try? scanner.nextMember(in: bytes.span)
                else { return "a message that cannot be read again" }
                let text = String(decoding: key.decodedBytes(in: bytes.span), as: UTF8.self)
                if !names.contains(text), names.contains(where: { self.fold($0) == self.fold(text) }) {
                    return "a key that differs by case"
                }
                hasMember = hasNext
            }
        }
        return nil
    }

    /// As Unicode folds one scalar at a time, as far as it concerns ASCII.
    private static func fold(_ text: String) -> [UInt32] {
        text.unicodeScalars.map { scalar in
            switch scalar.value {
            case 0x41...0x5a: scalar.value + 0x20
            case 0x17f: 0x73
            case 0x212a: 0x6b
            default: scalar.value
            }
        }
    }

    private static func string(_ string: JSONString, in bytes: [UInt8], of envelope: Envelope) -> String? {
        guard self.isInside(string.literal, envelope.range) else { return "a string outside the message" }
        let decoded = string.decodedBytes(in: bytes.span)
        guard string.equals(decoded.span, in: bytes.span) else { return "a string that is not itself" }
        let longer = decoded + [0x61]
        guard !string.equals(longer.span, in: bytes.span) else { return "a string that is a longer one" }
        guard let text = String(validating: decoded, as: UTF8.self) else { return nil }
        var literal: [UInt8] = []
        JSONText.append(string: text, to: &literal)
        var scanner = JSONScanner()
        guard let again = try? scanner.value(in: literal.span).string else { return "a literal that is no string" }
        guard again.equals(string, in: bytes.span, own: literal.span) else { return "a literal of another string" }
        return nil
    }

    /// A message stays the same with white space around it, has the id that is put into it, and is none without its
    /// last byte.
    private static func edits(_ envelope: Envelope, in bytes: [UInt8]) -> String? {
        let padded = Array(" \n".utf8) + bytes + Array("\r\t".utf8)
        guard case .success(.message(let moved)) = self.scan(padded, .upstream), moved.kind == envelope.kind,
            moved.range.count == envelope.range.count, moved.method == envelope.method
        else { return "white space changes a message" }
        guard case .failure(let error) = self.scan(Array(bytes[..<(envelope.range.upperBound - 1)]), .upstream),
            error.code == .parse
        else { return "a message without its end" }
        guard let id = envelope.id else { return nil }
        let edited = Array(bytes[..<id.range.lowerBound]) + Array("\"new\"".utf8) + Array(bytes[id.range.upperBound...])
        guard case .success(.message(let renamed)) = self.scan(edited, .upstream), let newID = renamed.id,
            newID.value(in: edited.span) == .string(Array("new".utf8)), renamed.method == envelope.method
        else { return "a message cannot be given another id" }
        return nil
    }

    /// The only element of a batch is what it is alone.
    private static func batch(_ bytes: [UInt8]) -> String? {
        let scanner = EnvelopeScanner(maximumDepth: 65)
        if let elements = try? EnvelopeScanner().scanBatch(bytes.span, maximumCount: 3) {
            guard (1...3).contains(elements.count) else { return "a batch of \(elements.count)" }
            guard elements.allSatisfy({ self.isJSON(Array(bytes[$0.range])) }) else { return "an element is not JSON" }
        }
        let wrapped = [UInt8(ascii: "[")] + bytes + [UInt8(ascii: "]")]
        let elements = try? scanner.scanBatch(wrapped.span, maximumCount: 1)
        guard case .success(.message(let envelope)) = self.scan(bytes, .downstream) else { return nil }
        guard let elements, elements.count == 1 else { return "a message is no element of a batch" }
        switch elements[0].message {
        case .success(let element):
            return element.kind == envelope.kind && element.range.count == envelope.range.count
                ? nil : "a message is another in a batch"
        case .failure(let error):
            return envelope.method == .initialize && error.code == .invalidRequest ? nil : "a message fails in a batch"
        }
    }

    private static func tools(_ bytes: [UInt8]) -> String? {
        let isAdmitted = { (name: String) in name.utf8.count.isMultiple(of: 2) }
        var names: [String] = []
        let found = try? ToolCatalogue.removals(in: bytes.span, maximumDepth: 64, isAdmitted: isAdmitted)
        guard let removals = found else { return nil }
        for (left, right) in zip(removals, removals.dropFirst()) where left.upperBound > right.lowerBound {
            return "removals meet"
        }
        let kept = ToolCatalogue.removing(removals, from: bytes.span)
        guard self.isJSON(kept) else { return "what remains is not JSON" }
        let again = try? ToolCatalogue.removals(in: kept.span, maximumDepth: 64) { name in
            names.append(name)
            return isAdmitted(name)
        }
        return again == nil && names.allSatisfy(isAdmitted) ? nil : "a tool remains"
    }

    /// Headers made from the body are never a mismatch, and any others do no harm.
    private static func eras(_ bytes: [UInt8]) -> String? {
        guard case .success(.message(let envelope)) = self.scan(bytes, .downstream) else { return nil }
        let half = bytes.count / 2
        let fields: [HeaderField] = [.absent, .repeated, .one(0..<half), .one(half..<bytes.count)]
        for version in fields {
            for name in fields {
                let headers = RoutingHeaders(version: version, method: fields[2], name: name)
                _ = try? EraClassifier.classify(envelope, in: bytes.span, headers: headers, in: bytes.span)
            }
        }
        return nil
    }

    static func scan(
        _ bytes: [UInt8],
        _ source: EnvelopeScanner.Source
    ) -> Result<EnvelopeScanner.Scan, EnvelopeError> {
        do throws(EnvelopeError) {
            return .success(try EnvelopeScanner(source: source).scan(bytes.span))
        } catch {
            return .failure(error)
        }
    }

    private static func isInside(_ inner: Range<Int>, _ outer: Range<Int>) -> Bool {
        outer.lowerBound <= inner.lowerBound && inner.upperBound <= outer.upperBound
    }
}
