// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "CGatewayProcess.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// In a handler of a crash nothing can be relied on but the calls that signal-safety(7) lists: no allocation, no lock, no
// Swift. So all texts are prepared before, and only the time and the number of the signal are written into them.

static const int crash_signals[] = {SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGABRT, SIGFPE};
enum { SIGNALS = sizeof(crash_signals) / sizeof(crash_signals[0]), TEXT = 128, TIME = 24 };

static struct {
    /// The process that is told of; a child of ours between fork and exec is none.
    pid_t process;
    int descriptor;
    char start[TEXT], middle[TEXT], end[TEXT];
    struct sigaction before[SIGNALS];
    /// Only the first thread that crashes says so.
    atomic_flag is_written;
} crash_log = {.is_written = ATOMIC_FLAG_INIT};

static char *append(char *to, const char *text) {
    while (*text != 0) {
        *to++ = *text++;
    }
    return to;
}

static char *append_number(char *to, long long number, int digits) {
    for (int place = digits - 1; place >= 0; place--) {
        to[place] = (char)('0' + number % 10);
        number /= 10;
    }
    return to + digits;
}

/// RFC 3339 with milliseconds, as all lines of the log have it.
///
/// The years begin in March here, so that the leap day is the last of its year; 719468 days lie between 0000-03-01 and
/// 1970-01-01.
static char *append_time(char *to, struct timespec now) {
    long long seconds = now.tv_sec < 0 ? 0 : now.tv_sec;
    long long days = seconds / 86400 + 719468;
    long long cycle = days / 146097, day_of_cycle = days % 146097;
    long long year = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36524 - day_of_cycle / 146096) / 365;
    long long day = day_of_cycle - (365 * year + year / 4 - year / 100);
    long long month = (5 * day + 2) / 153;
    day = day - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    to = append_number(to, cycle * 400 + year + (month <= 2 ? 1 : 0), 4);
    *to++ = '-';
    to = append_number(to, month, 2);
    *to++ = '-';
    to = append_number(to, day, 2);
    *to++ = 'T';
    to = append_number(to, seconds % 86400 / 3600, 2);
    *to++ = ':';
    to = append_number(to, seconds % 3600 / 60, 2);
    *to++ = ':';
    to = append_number(to, seconds % 60, 2);
    *to++ = '.';
    to = append_number(to, now.tv_nsec / 1000000, 3);
    *to++ = 'Z';
    return to;
}

static void write_crash(int number) {
    char line[3 * TEXT + TIME + 8];
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    char *end = append(line, crash_log.start);
    end = append_time(end, now);
    end = append(end, crash_log.middle);
    end = append_number(end, number, number > 9 ? 2 : 1);
    end = append(end, crash_log.end);
    const char *rest = line;
    while (rest < end) {
        ssize_t count = write(crash_log.descriptor, rest, (size_t)(end - rest));
        if (count <= 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return;
        }
        rest += count;
    }
}

static void crashed(int number, siginfo_t *info, void *context) {
    int error = errno;
    if (crash_log.process == getpid() && !atomic_flag_test_and_set(&crash_log.is_written)) {
        write_crash(number);
    }
    errno = error;
    for (int index = 0; index < SIGNALS; index++) {
        if (crash_signals[index] != number) {
            continue;
        }
        // From here on everything is as if this handler had never been: the instruction that failed is executed again when
        // this returns, and fails for the handler before.
        const struct sigaction *before = &crash_log.before[index];
        sigaction(number, before, NULL);
        if (info != NULL && info->si_code > 0 && number != SIGTRAP) {
            return;
        }
        // What was sent comes no second time, and behind a trap execution may go on. The handler before is called as it
        // would have been, and if it only reports the process ends all the same.
        if (before->sa_flags & SA_SIGINFO) {
            before->sa_sigaction(number, info, context);
        } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
            before->sa_handler(number);
        }
        signal(number, SIG_DFL);
        raise(number);
    }
}

int gateway_log_crashes(int descriptor, const char *start, const char *middle, const char *end) {
    if (strlen(start) >= TEXT || strlen(middle) >= TEXT || strlen(end) >= TEXT) {
        return -1;
    }
    strcpy(crash_log.start, start);
    strcpy(crash_log.middle, middle);
    strcpy(crash_log.end, end);
    crash_log.descriptor = descriptor;
    crash_log.process = getpid();
    int result = 0;
    for (int index = 0; index < SIGNALS; index++) {
        struct sigaction *before = &crash_log.before[index], own;
        if (sigaction(crash_signals[index], NULL, &own) != 0) {
            result = -1;
            continue;
        }
        if ((own.sa_flags & SA_SIGINFO) && own.sa_sigaction == crashed) {
            // It is here already, and must not be called as the handler before itself.
            continue;
        }
        *before = own;
        if (!(before->sa_flags & SA_SIGINFO) && (before->sa_handler == SIG_DFL || before->sa_handler == SIG_IGN)) {
            sigemptyset(&own.sa_mask);
            own.sa_flags = 0;
        }
        // On the stack that the thread has for signals, if it has one: its own may be what is full.
        own.sa_flags |= SA_SIGINFO | SA_ONSTACK;
        own.sa_flags &= ~SA_RESETHAND;
        own.sa_sigaction = crashed;
        if (sigaction(crash_signals[index], &own, NULL) != 0) {
            result = -1;
        }
    }
    return result;
}
