// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Every metric of the gateway (contract §5). `docs/METRICS.md` describes them to operators, and a test holds the two
// together. `server` is a key of `mcpServers`, `credential` a slot number or the name that the configuration gives it;
// all other labels are closed lists. Nothing that a caller or an upstream sends is ever a label.

extension MetricDefinition {
    /// Callers' messages, by what became of them.
    package static let requests = MetricDefinition(
        "mcp_proxy_requests_total",
        .counter,
        help: "Messages of callers, by JSON-RPC method and outcome.",
        labels: ["server", "method", "outcome"]
    )

    /// From the head of a request to the end of its answer.
    package static let requestDuration = MetricDefinition(
        "mcp_proxy_request_duration_seconds",
        .histogram,
        help: "Time from the head of a call to the end of its answer.",
        labels: ["server"]
    )

    /// Failed attempts at an upstream, by the reasons of contract §4.
    package static let upstreamFailures = MetricDefinition(
        "mcp_proxy_upstream_failures_total",
        .counter,
        help: "Requests that an upstream did not answer, by reason.",
        labels: ["server", "reason"]
    )

    /// Attempts by credential and what the upstream said of the credential.
    package static let credentialRequests = MetricDefinition(
        "mcp_proxy_credential_requests_total",
        .counter,
        help: "Attempts made with a credential, by outcome.",
        labels: ["server", "credential", "outcome"]
    )

    /// Refusals of a credential since it was last accepted.
    package static let credentialFailures = MetricDefinition(
        "mcp_proxy_credential_failures",
        .gauge,
        help: "Refusals of a credential since it was last accepted.",
        labels: ["server", "credential"]
    )

    /// Moves of a pool to another credential, by the status that caused them.
    package static let credentialRotations = MetricDefinition(
        "mcp_proxy_credential_rotations_total",
        .counter,
        help: "Moves to another credential, by the status that caused them.",
        labels: ["server", "status"]
    )

    /// Requests for which every allowed credential was refused.
    package static let credentialsExhausted = MetricDefinition(
        "mcp_proxy_credentials_exhausted_total",
        .counter,
        help: "Requests for which every allowed credential was refused.",
        labels: ["server"]
    )

    /// Failures of the outbound proxy, by the codes of `data.proxyError`.
    package static let outboundProxyFailures = MetricDefinition(
        "mcp_proxy_outbound_proxy_failures_total",
        .counter,
        help: "Failures of the outbound proxy, by reason.",
        labels: ["server", "reason"]
    )

    /// Connections to an upstream that are open now, by state.
    package static let upstreamConnections = MetricDefinition(
        "mcp_proxy_upstream_connections",
        .gauge,
        help: "Open connections to an upstream, by state.",
        labels: ["server", "state"]
    )

    /// Sessions of callers that live now.
    package static let sessions = MetricDefinition(
        "mcp_proxy_sessions",
        .gauge,
        help: "Sessions of callers.",
        labels: ["server"]
    )

    /// Streams to callers that are open now.
    package static let streams = MetricDefinition(
        "mcp_proxy_streams",
        .gauge,
        help: "Open event streams to callers.",
        labels: ["server"]
    )

    /// Starts of a child after the first.
    package static let childRestarts = MetricDefinition(
        "mcp_proxy_child_restarts_total",
        .counter,
        help: "Starts of a child process after its first.",
        labels: ["server"]
    )

    /// Requests refused before they belonged to an upstream.
    package static let inboundRejected = MetricDefinition(
        "mcp_proxy_inbound_rejected_total",
        .counter,
        help: "Requests of callers that were refused by the gateway, by reason.",
        labels: ["reason"]
    )

    /// Reloads of the configuration.
    package static let configReloads = MetricDefinition(
        "mcp_proxy_config_reloads_total",
        .counter,
        help: "Reloads of the configuration, by result.",
        labels: ["result"]
    )

    /// Files of secrets that cannot be used now, so that their last value stays.
    package static let configSecretFileErrors = MetricDefinition(
        "mcp_proxy_config_secret_file_errors",
        .gauge,
        help: "Secret files that cannot be used now, so that their last value stays."
    )

    /// Bytes of messages that are held in memory now.
    package static let bufferedBytes = MetricDefinition(
        "mcp_proxy_buffered_bytes",
        .gauge,
        help: "Bytes of messages held in memory."
    )

    /// Log lines that never reached the log.
    package static let logDropped = MetricDefinition(
        "mcp_proxy_log_dropped_total",
        .counter,
        help: "Log lines dropped because the log could not be written fast enough or at all."
    )

    package static let processResidentMemory = MetricDefinition(
        "mcp_proxy_process_resident_memory_bytes",
        .gauge,
        help: "Resident memory of the process."
    )

    package static let processOpenFDs = MetricDefinition(
        "mcp_proxy_process_open_fds",
        .gauge,
        help: "Open file descriptors of the process."
    )

    package static let processCPU = MetricDefinition(
        "mcp_proxy_process_cpu_seconds_total",
        .counter,
        help: "User and system time of the process."
    )

    package static let processStartTime = MetricDefinition(
        "mcp_proxy_process_start_time_seconds",
        .gauge,
        help: "When the process started, in seconds since 1970."
    )

    /// Always 1; the version is in the label.
    package static let buildInfo = MetricDefinition(
        "mcp_proxy_build_info",
        .gauge,
        help: "The running version, always 1.",
        labels: ["version"]
    )

    /// All of the above.
    package static let all: [MetricDefinition] = [
        .requests, .requestDuration, .upstreamFailures, .credentialRequests, .credentialFailures, .credentialRotations,
        .credentialsExhausted, .outboundProxyFailures, .upstreamConnections, .sessions, .streams, .childRestarts,
        .inboundRejected, .configReloads, .configSecretFileErrors, .bufferedBytes, .logDropped, .processResidentMemory,
        .processOpenFDs,
        .processCPU, .processStartTime, .buildInfo,
    ]
}
