// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Shows ThreadSanitizer the contended locks of the standard library's Mutex. What a Mutex does when it is free is inlined,
// and so the sanitizer sees it; when it is not, it calls these functions of libswiftSynchronization, which is built without
// the sanitizer: a counter behind a Mutex that two threads increment is reported. scripts/sanitize preloads this, so that
// no file of ours needs a suppression.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// There only in programs that are built with the sanitizer.
extern void __tsan_acquire(void *) __attribute__((weak));
extern void __tsan_release(void *) __attribute__((weak));

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
#define HANDLE __attribute__((swift_context)) void *handle
#define SWIFT __attribute__((swiftcall, visibility("default")))

// The handle of a Mutex is its lock word, the address that the inlined part is seen at.
SWIFT void lock(uint32_t thread, HANDLE) __asm__(LOCK);
SWIFT bool try_lock(HANDLE) __asm__(TRY_LOCK);
SWIFT void unlock(HANDLE) __asm__(UNLOCK);

SWIFT void lock(uint32_t thread, HANDLE) {
    static __attribute__((swiftcall)) void (*next)(uint32_t, HANDLE);
    if (next == NULL) next = (__attribute__((swiftcall)) void (*)(uint32_t, HANDLE))dlsym(RTLD_NEXT, LOCK);
    next(thread, handle);
    if (__tsan_acquire != NULL) __tsan_acquire(handle);
}

SWIFT bool try_lock(HANDLE) {
    static __attribute__((swiftcall)) bool (*next)(HANDLE);
    if (next == NULL) next = (__attribute__((swiftcall)) bool (*)(HANDLE))dlsym(RTLD_NEXT, TRY_LOCK);
    bool is_locked = next(handle);
    if (is_locked && __tsan_acquire != NULL) __tsan_acquire(handle);
    return is_locked;
}

SWIFT void unlock(HANDLE) {
    static __attribute__((swiftcall)) void (*next)(HANDLE);
    if (next == NULL) next = (__attribute__((swiftcall)) void (*)(HANDLE))dlsym(RTLD_NEXT, UNLOCK);
    if (__tsan_release != NULL) __tsan_release(handle);
    next(handle);
}
