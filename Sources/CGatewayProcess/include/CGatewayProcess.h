// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#ifndef C_GATEWAY_PROCESS_H
#define C_GATEWAY_PROCESS_H

/// Makes `/proc/PID/environ`, `mem` and core dumps unreadable for other processes of the same user.
/// Returns 0, or -1 where the system has no such call.
int gateway_set_undumpable(void);

/// Whether the Swift runtime is a shared library, 1 or 0, rather than linked into the program.
int gateway_has_shared_swift_runtime(void);

/// Gives memory that is free back to the system, where the allocator would keep it.
void gateway_release_free_memory(void);

#endif
