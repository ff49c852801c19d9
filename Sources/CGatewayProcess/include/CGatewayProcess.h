// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#ifndef C_GATEWAY_PROCESS_H
#define C_GATEWAY_PROCESS_H

/// Makes `/proc/PID/environ`, `mem` and core dumps unreadable for other processes of the same user.
/// Returns 0, or -1 where the system has no such call.
int gateway_set_undumpable(void);

/// Gives the process the name that `ps`, `ss` and `top` show, of at most 15 bytes; called on the first thread.
///
/// The system takes it from the file that is executed, and that is `exe` for whoever executes `/proc/self/exe`.
/// Returns 0, or -1 where the system has no such call.
int gateway_name_process(const char *name);

/// Whether the Swift runtime is a shared library, 1 or 0, rather than linked into the program.
int gateway_has_shared_swift_runtime(void);

/// Gives memory that is free back to the system, where the allocator would keep it.
void gateway_release_free_memory(void);

/// Has a crash of this process write one line, of `start`, the time, `middle`, the number of the signal and `end`, to
/// `descriptor`, and then go on as it would have: to the handler that there was, or to the end of the process.
///
/// The texts have at most 127 bytes each. Children that are executed inherit nothing of it.
/// Returns 0, or -1 if not every signal that stands for a crash has the handler.
int gateway_log_crashes(int descriptor, const char *start, const char *middle, const char *end);

#endif
