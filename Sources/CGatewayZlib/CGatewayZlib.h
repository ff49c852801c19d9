// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// zlib, as the system has it: Debian's zlib1g, and zlib1g-dev to build.
#include <zlib.h>
