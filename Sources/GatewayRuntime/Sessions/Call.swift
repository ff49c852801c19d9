// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A message of a caller that has passed the checks of the protocol.
struct Call {
    let message: CallerMessage
    let request: InboundRequest
    /// What its caller addressed.
    let endpoint: Endpoint
    /// Who works on it: that of its session, else the one of the endpoint.
    let upstream: Upstream
    /// What carries messages of its session there; nil without one, and before it initialized.
    let leg: (any Leg)?
    let principal: Principal
    /// The session in which it came; it was taken into use, and whoever ends the call gives it back, after the answer: a
    /// session without calls may end.
    var session: CallerSession?

    init(
        _ message: CallerMessage,
        _ request: InboundRequest,
        at endpoint: Endpoint,
        _ principal: Principal,
        _ session: CallerSession? = nil
    ) {
        self.message = message
        self.request = request
        self.endpoint = endpoint
        let station = session?.station
        self.upstream = station?.upstream ?? endpoint.upstream
        self.leg = station?.leg
        self.principal = session?.principal ?? principal
        self.session = session
    }
}
