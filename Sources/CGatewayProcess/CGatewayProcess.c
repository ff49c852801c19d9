// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

#include "CGatewayProcess.h"

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
