// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// A JSON-RPC method of any MCP revision up to 2026-07-28 and of its tasks extension; the raw value is its wire name.
package enum MCPMethod: String, Hashable, Sendable, CaseIterable {
    case initialize
    case ping
    case serverDiscover = "server/discover"
    case toolsList = "tools/list"
    case toolsCall = "tools/call"
    case promptsList = "prompts/list"
    case promptsGet = "prompts/get"
    case resourcesList = "resources/list"
    case resourcesTemplatesList = "resources/templates/list"
    case resourcesRead = "resources/read"
    case resourcesSubscribe = "resources/subscribe"
    case resourcesUnsubscribe = "resources/unsubscribe"
    case completionComplete = "completion/complete"
    case loggingSetLevel = "logging/setLevel"
    case subscriptionsListen = "subscriptions/listen"
    case tasksGet = "tasks/get"
    case tasksList = "tasks/list"
    case tasksResult = "tasks/result"
    case tasksCancel = "tasks/cancel"
    case tasksUpdate = "tasks/update"
    case rootsList = "roots/list"
    case samplingCreateMessage = "sampling/createMessage"
    case elicitationCreate = "elicitation/create"
    case initializedNotification = "notifications/initialized"
    case cancelledNotification = "notifications/cancelled"
    case progressNotification = "notifications/progress"
    case messageNotification = "notifications/message"
    case rootsListChangedNotification = "notifications/roots/list_changed"
    case toolsListChangedNotification = "notifications/tools/list_changed"
    case promptsListChangedNotification = "notifications/prompts/list_changed"
    case resourcesListChangedNotification = "notifications/resources/list_changed"
    case resourcesUpdatedNotification = "notifications/resources/updated"
    case elicitationCompleteNotification = "notifications/elicitation/complete"
    case tasksStatusNotification = "notifications/tasks/status"
    case tasksNotification = "notifications/tasks"
    case subscriptionsAcknowledgedNotification = "notifications/subscriptions/acknowledged"
    /// Any other name.
    case other

    /// The member of `params` that says what a method is about.
    package enum NameParameter: String, Hashable, Sendable {
        case name
        case uri
        case taskID = "taskId"
    }

    /// What metrics call the method: its wire name, or `other`, so that a caller cannot make labels up.
    package var label: String { self.rawValue }

    /// Whether a request of this method may be sent again where that is not known to be harmless for `tools/call`
    /// (faults §4.2, note 1).
    package var isSafe: Bool {
        switch self {
        case .initialize, .ping, .serverDiscover, .toolsList, .promptsList, .resourcesList, .resourcesTemplatesList,
            .rootsList, .resourcesRead, .promptsGet, .completionComplete, .loggingSetLevel, .resourcesSubscribe,
            .resourcesUnsubscribe, .tasksGet, .tasksList, .tasksResult, .tasksCancel, .subscriptionsListen:
            true
        default:
            false
        }
    }

    /// The member of `params` that names the tool, prompt, resource or task; nil if the method has none.
    package var nameParameter: NameParameter? {
        switch self {
        case .toolsCall, .promptsGet:
            .name
        case .resourcesRead, .resourcesSubscribe, .resourcesUnsubscribe, .resourcesUpdatedNotification:
            .uri
        case .tasksGet, .tasksUpdate, .tasksCancel, .tasksResult, .tasksStatusNotification, .tasksNotification:
            .taskID
        default:
            nil
        }
    }

    /// Whether a stateless request of this method repeats its name in `Mcp-Name` (2026-07-28, Streamable HTTP;
    /// SEP-2663 for tasks).
    package var hasNameHeader: Bool {
        switch self {
        case .toolsCall, .promptsGet, .resourcesRead, .tasksGet, .tasksUpdate, .tasksCancel: true
        default: false
        }
    }

    /// The method with this name; compared exactly, after decoding (`"tools\/call"` is what PHP writes).
    package init(_ name: JSONString, in bytes: Span<UInt8>) {
        if name.isEscaped {
            let decoded = name.decodedBytes(in: bytes)
            self.init(JSONString(content: 0..<decoded.count, isEscaped: false), plain: decoded.span)
        } else {
            self.init(name, plain: bytes)
        }
    }

    /// By length first: at most five names share one.
    private init(_ name: JSONString, plain bytes: Span<UInt8>) {
        func named(_ text: StaticString) -> Bool { name.equals(text, in: bytes) }
        self = .other
        switch name.content.count {
        case 4:
            if named("ping") { self = .ping }
        case 9:
            if named("tasks/get") { self = .tasksGet }
        case 10:
            if named("tools/call") { self = .toolsCall }
            if named("tools/list") { self = .toolsList }
            if named("initialize") { self = .initialize }
            if named("roots/list") { self = .rootsList }
            if named("tasks/list") { self = .tasksList }
        case 11:
            if named("prompts/get") { self = .promptsGet }
        case 12:
            if named("prompts/list") { self = .promptsList }
            if named("tasks/result") { self = .tasksResult }
            if named("tasks/cancel") { self = .tasksCancel }
            if named("tasks/update") { self = .tasksUpdate }
        case 14:
            if named("resources/list") { self = .resourcesList }
            if named("resources/read") { self = .resourcesRead }
        case 15:
            if named("server/discover") { self = .serverDiscover }
        case 16:
            if named("logging/setLevel") { self = .loggingSetLevel }
        case 18:
            if named("elicitation/create") { self = .elicitationCreate }
        case 19:
            if named("completion/complete") { self = .completionComplete }
            if named("resources/subscribe") { self = .resourcesSubscribe }
            if named("notifications/tasks") { self = .tasksNotification }
        case 20:
            if named("subscriptions/listen") { self = .subscriptionsListen }
        case 21:
            if named("notifications/message") { self = .messageNotification }
            if named("resources/unsubscribe") { self = .resourcesUnsubscribe }
        case 22:
            if named("notifications/progress") { self = .progressNotification }
            if named("sampling/createMessage") { self = .samplingCreateMessage }
        case 23:
            if named("notifications/cancelled") { self = .cancelledNotification }
        case 24:
            if named("resources/templates/list") { self = .resourcesTemplatesList }
        case 25:
            if named("notifications/initialized") { self = .initializedNotification }
        case 26:
            if named("notifications/tasks/status") { self = .tasksStatusNotification }
        case 32:
            if named("notifications/roots/list_changed") { self = .rootsListChangedNotification }
            if named("notifications/tools/list_changed") { self = .toolsListChangedNotification }
        case 34:
            if named("notifications/prompts/list_changed") { self = .promptsListChangedNotification }
            if named("notifications/elicitation/complete") { self = .elicitationCompleteNotification }
        default:
            self.init(longName: name, plain: bytes)
        }
    }

    /// The notifications that are too rare and too long to be asked for first.
    private init(longName name: JSONString, plain bytes: Span<UInt8>) {
        self = .other
        if name.equals("notifications/resources/updated", in: bytes) { self = .resourcesUpdatedNotification }
        if name.equals("notifications/resources/list_changed", in: bytes) { self = .resourcesListChangedNotification }
        if name.equals("notifications/subscriptions/acknowledged", in: bytes) {
            self = .subscriptionsAcknowledgedNotification
        }
    }
}
