// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

extension EnvelopeReader {
    /// The members of `params` and `params._meta` that an envelope may need; which ones is known only with the method,
    /// which may stand behind them.
    struct Parameters {
        private var name: JSONValue?
        private var uri: JSONValue?
        private var taskID: JSONValue?
        private var requestID: JSONValue?
        private var requestState: JSONValue?
        private var protocolVersion: JSONValue?
        private var reportedToken: JSONValue?
        private var metaToken: JSONValue?
        private var metaVersion: JSONValue?
        private var metaCapabilities: JSONValue?
        private var metaSubscription: JSONValue?

        /// Takes a member of `params`.
        @inline(__always)
        mutating func take(_ value: JSONValue, for key: JSONString, in bytes: Span<UInt8>) {
            if key.equals("name", in: bytes) {
                self.name = value
            } else if key.equals("uri", in: bytes) {
                self.uri = value
            } else if key.equals("taskId", in: bytes) {
                self.taskID = value
            } else if key.equals("requestId", in: bytes) {
                self.requestID = value
            } else if key.equals("requestState", in: bytes) {
                self.requestState = value
            } else if key.equals("protocolVersion", in: bytes) {
                self.protocolVersion = value
            } else if key.equals("progressToken", in: bytes) {
                self.reportedToken = value
            }
        }

        /// Takes a member of `params._meta` (2026-07-28, `basic/index`, `_meta`).
        @inline(__always)
        mutating func takeMeta(_ value: JSONValue, for key: JSONString, in bytes: Span<UInt8>) {
            if key.equals("progressToken", in: bytes) {
                self.metaToken = value
            } else if key.equals("io.modelcontextprotocol/protocolVersion", in: bytes) {
                self.metaVersion = value
            } else if key.equals("io.modelcontextprotocol/clientCapabilities", in: bytes) {
                self.metaCapabilities = value
            } else if key.equals("io.modelcontextprotocol/subscriptionId", in: bytes) {
                self.metaSubscription = value
            }
        }

        /// Puts into `envelope` what a message of `method` has.
        ///
        /// - Returns: where a progress token or request id stands that is none; nil if all is well.
        func fill(_ envelope: inout Envelope, method: MCPMethod, in bytes: Span<UInt8>) -> Int? {
            envelope.name =
                switch method.nameParameter {
                case .name: self.name?.string
                case .uri: self.uri?.string
                case .taskID: self.taskID?.string
                case nil: nil
                }
            envelope.requestState = self.requestState?.string
            if method == .initialize { envelope.initializeVersion = self.protocolVersion?.string }
            envelope.hasStatelessEnvelope = self.metaVersion != nil
            envelope.statelessVersion = self.metaVersion?.string
            if let capabilities = self.metaCapabilities {
                envelope.hasClientCapabilities = capabilities.kind == .object
            }
            envelope.subscriptionID = self.metaSubscription.flatMap { MessageID($0, in: bytes) }

            if let token = method == .progressNotification ? self.reportedToken : self.metaToken, token.kind != .null {
                envelope.progressToken = MessageID(token, in: bytes)
                if envelope.progressToken == nil { return token.range.lowerBound }
            }
            if method == .cancelledNotification, let id = self.requestID, id.kind != .null {
                envelope.cancelledID = MessageID(id, in: bytes)
                if envelope.cancelledID == nil { return id.range.lowerBound }
            }
            return nil
        }
    }
}
