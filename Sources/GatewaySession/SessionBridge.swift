// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

package import GatewayWire

// Several callers count their requests from 0, and an upstream that all of them use would mix them up. So every request
// gets an id of ours, unique on this upstream session for ever, which is its progress token as well; what comes back is
// led to the one caller that it belongs to, under the id that this caller wrote. What belongs to nobody is dropped: a
// late answer, an answer to an id that was never given out, progress of a call that is over (faults S8, F27).
//
// JSON-RPC forbids a caller to use an id again while the first call is in flight, but some do: programs that always send
// id 1, and several programs that use one session. Each call has an id of ours and its own way back all the same, so only
// a cancellation, which names the call by the caller's id, is in doubt: it is for the newest call with that id that was
// not cancelled before.
//
// What the upstream asks of its client goes to a caller only if there is no doubt which one is meant: the one that owns
// the session, or, where all share it, the only one that the upstream is at work for, if it said that it can (protocol
// §3). If there is none, the upstream is told at once that nobody will answer, so that it never waits in vain.
//
// An upstream may be at work on a call long after its caller took it back, timed out or left, and what it asks or logs
// meanwhile can be because of that call. So a call that was withdrawn counts as one that is in flight, until its answer
// comes or the upstream session is lost: as long as it counts nobody but its caller is the only one, and if its caller has
// left nobody is. An upstream need never answer a call that was cancelled, and many do not, so how many such calls are
// remembered is bounded (above the bound nobody is the only one), and so is how long: the driver calls `grewOlder` at
// intervals of the server's `timeout`, which says how long a call of it may take, and a withdrawn call counts for one to
// two of them.

/// Leads messages between one upstream session and the callers that use it.
///
/// Pure: callers are numbers that the driver gives out, messages are ids.
package enum SessionBridge {
    /// What servers may ask of a caller, if it declared the capability (MCP, Lifecycle, Capability Negotiation).
    package enum Capability: Hashable, Sendable {
        case sampling
        case elicitation
        case roots

        /// The capability that a request of a server needs; nil: none, or nobody knows.
        package init?(_ method: MCPMethod) {
            switch method {
            case .samplingCreateMessage: self = .sampling
            case .elicitationCreate: self = .elicitation
            case .rootsList: self = .roots
            default: return nil
            }
        }
    }

    /// Whom the upstream session belongs to.
    package enum Sharing: Sendable {
        /// One caller's session.
        case exclusive
        /// All callers of the handshake era.
        case shared
        /// Callers of the stateless era, of which each request stands alone.
        case stateless
    }

    /// Calls that were withdrawn and not answered are remembered up to this number.
    package static let withdrawnLimit = 10_000

    /// A session that takes the place of another one gives out numbers that are this much above those of the other: what the
    /// calls that go on there still need is far less.
    package static let successionDistance: Int64 = 1_000_000

    /// A caller that has not answered as many questions as this is asked no more.
    package static let questionLimit = 1_000

    /// What a caller is told that subscribes to more than it may.
    package static let subscriptionBounds =
        "too many subscriptions: a session may have 1000 with 1 MiB of URIs, all sessions of a server 10000 with 16 MiB"

    /// What an upstream's response is.
    package enum Response: Hashable, Sendable {
        /// The answer to a call; `id` is what its caller wrote.
        case answer(call: Int64, id: [UInt8])
        /// The answer to a request of the gateway itself.
        case own(call: Int64)
        /// Nobody waits for it.
        case unknown
    }

    /// What to do with an upstream's request.
    package enum Question: Hashable, Sendable {
        /// Give it to this caller under this id, on the stream of `call` if there is one.
        case ask(caller: Int, call: Int64?, id: Int64)
        /// Nobody can answer: -32601.
        case refuse
    }

    /// Who gets a notification.
    package enum Audience: Hashable, Sendable {
        /// The caller of a call, on its stream.
        case call(Int64)
        /// One caller, on the stream of `call` if there is one.
        case caller(Int, call: Int64?)
        /// Each of these, on the stream that it keeps open.
        case callers([Int])
        /// Nobody; `isLogged`: it is written to our log.
        case nobody(isLogged: Bool)
    }

    /// What a caller asked of an upstream session as a whole, and can be asked by it: what a session that takes the place of
    /// the first has to know.
    package struct Wishes: Hashable, Sendable {
        /// What it declared that it can be asked.
        package var capabilities: Set<Capability> = []
        /// The URIs of the resources that it subscribes to, as bytes, in order.
        package var subscriptions: [[UInt8]] = []
        /// The least severe log messages that it wants; nil if it did not say.
        package var severity: LogSeverity?

        package init() {}
    }

    /// What a caller leaves behind.
    package struct Departure: Hashable, Sendable {
        /// Calls that the upstream is told to stop.
        package var cancelled: [Int64] = []
        /// Requests of the upstream, by the id that it wrote, that nobody will answer.
        package var unanswered: [[UInt8]] = []
        /// Resources that nobody subscribes to any more.
        package var unsubscribed: [[UInt8]] = []

        package init() {}
    }
}
