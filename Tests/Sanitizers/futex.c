// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Shows ThreadSanitizer the locks of the standard library's Mutex. On Linux a contended Mutex is locked and unlocked by
// the kernel (futex(2), FUTEX_LOCK_PI), which the sanitizer does not see: a counter behind a Mutex that two threads
// increment is reported. scripts/sanitize preloads this, so that no file of ours needs a suppression.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>

// There only in programs that are built with the sanitizer.
extern void __tsan_acquire(void *) __attribute__((weak));
extern void __tsan_release(void *) __attribute__((weak));

long syscall(long number, ...) {
    static long (*next)(long, ...);
    long given[6];
    va_list list;
    va_start(list, number);
    for (int index = 0; index < 6; index++) given[index] = va_arg(list, long);
    va_end(list);
    if (next == NULL) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    int operation = number == SYS_futex ? (int)given[1] & FUTEX_CMD_MASK : -1;
    if (operation == FUTEX_UNLOCK_PI && __tsan_release != NULL) __tsan_release((void *)given[0]);
    long result = next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    int locks = operation == FUTEX_LOCK_PI || operation == FUTEX_TRYLOCK_PI;
    if (locks && result == 0 && __tsan_acquire != NULL) __tsan_acquire((void *)given[0]);
    return result;
}
