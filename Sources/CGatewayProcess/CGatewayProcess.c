// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "CGatewayProcess.h"

#if defined(__linux__)
#include <malloc.h>
#endif

#include <dlfcn.h>
#include <string.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

int gateway_set_undumpable(void) {
#ifdef __linux__
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#else
    return -1;
#endif
}

int gateway_name_process(const char *name) {
#ifdef __linux__
    return prctl(PR_SET_NAME, name, 0, 0, 0);
#else
    (void)name;
    return -1;
#endif
}

int gateway_has_shared_swift_runtime(void) {
    Dl_info runtime;
    void *symbol = dlsym(RTLD_DEFAULT, "swift_retain");
    if (symbol == NULL || dladdr(symbol, &runtime) == 0 || runtime.dli_fname == NULL) {
        return 0;
    }
    return strstr(runtime.dli_fname, "libswiftCore") != NULL;
}

void gateway_release_free_memory(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}
