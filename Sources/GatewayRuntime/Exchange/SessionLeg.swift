// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

/// A leg on which every call has an HTTP exchange of its own, in a session of the upstream's.
protocol SessionLeg: Leg {
    /// Leads a call to the session of its slot, which is opened if need be, and connects it there.
    func enter(_ exchange: HTTPExchange, _ session: CallerSession)
    /// A session that the upstream had forgotten was opened again.
    func renewed(_ upstreamSession: HTTPUpstreamSession)
    /// A session could not be kept.
    func lost(_ upstreamSession: HTTPUpstreamSession?, in slot: CredentialID)
}
