// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire

/// What holds for any bytes that come from an outbound proxy.
enum ProxyInvariants {
    /// What a proxy's bytes led to.
    struct Outcome: Equatable {
        /// Where the tunnel begins; nil without one.
        var tunnel: Int?
        var error: OutboundProxyError?
        var actions: [SOCKSHandshake.Action] = []
    }

    /// What is violated by `bytes`; nil if nothing is.
    static func violation(of bytes: [UInt8]) -> String? {
        for hasCredentials in [false, true] {
            for speak in [self.connect, self.socks] {
                guard let whole = speak(bytes, [max(bytes.count, 1)], hasCredentials) else {
                    return "bytes taken that were not there"
                }
                let seed = Int(bytes.first ?? 0)
                for pieces in [[1], [2, 1, 3], [seed % 7 + 1, 5]] where speak(bytes, pieces, hasCredentials) != whole {
                    return "pieces of \(pieces) give another result"
                }
                if let error = whole.error, !error.event.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) {
                    return "a message with strange characters"
                }
            }
        }
        return nil
    }

    /// nil if a step breaks the rules of steps.
    static func connect(_ bytes: [UInt8], pieces: [Int], hasCredentials: Bool) -> Outcome? {
        var handshake = ConnectHandshake(target: "h:443", hasCredentials: hasCredentials)
        var fed = 0
        var turn = 0
        while fed < bytes.count {
            let end = min(bytes.count, fed + pieces[turn % pieces.count])
            turn += 1
            do throws(OutboundProxyError) {
                if let length = try handshake.receive(bytes.span.extracting(fed..<end)) {
                    return (1...end - fed).contains(length) ? Outcome(tunnel: fed + length) : nil
                }
            } catch {
                return Outcome(error: error)
            }
            fed = end
        }
        return Outcome(error: handshake.closed())
    }

    /// nil if a step breaks the rules of steps.
    static func socks(_ bytes: [UInt8], pieces: [Int], hasCredentials: Bool) -> Outcome? {
        let name = SOCKSHandshake.Address.name("h")
        guard var handshake = try? SOCKSHandshake(to: name, port: 443, target: "h:443", hasCredentials: hasCredentials)
        else { return nil }
        var outcome = Outcome()
        var taken = 0
        var fed = 0
        var turn = 0
        while fed < bytes.count {
            fed = min(bytes.count, fed + pieces[turn % pieces.count])
            turn += 1
            while taken < fed {
                do throws(OutboundProxyError) {
                    let (action, consumed) = try handshake.receive(bytes.span.extracting(taken..<fed))
                    guard (1...fed - taken).contains(consumed) else { return nil }
                    taken += consumed
                    guard let action else { continue }
                    outcome.actions.append(action)
                    guard action != .established else {
                        outcome.tunnel = taken
                        return outcome
                    }
                } catch {
                    outcome.error = error
                    return outcome
                }
            }
        }
        outcome.error = handshake.closed()
        return outcome
    }
}
