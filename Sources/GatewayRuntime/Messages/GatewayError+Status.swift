// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayPolicy

extension GatewayError {
    /// What an HTTP status from 300 on means for the message that it answers; `place` is where a redirect leads, for
    /// people.
    init(refusedWith status: Int, place: String? = nil) {
        switch status {
        case _ where StatusReading.refusesCredential(status):
            self = .rejected(status: status, slot: nil)
        case 429:
            self.init(
                .rateLimited,
                executed: .no,
                "the server limits our rate; try again later",
                cause: "rate_limited",
                status: status
            )
        case 300..<400:
            self = .redirected(to: place, status: status)
        default:
            self.init(
                .upstreamStatus,
                executed: status < 500 ? .no : .unknown,
                "the server answered HTTP \(status)",
                cause: "http_\(status / 100)xx",
                status: status
            )
        }
    }
}
