// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayStdio

// A guard is this program, but nothing of it: it must be up at once and stay small.
if CommandLine.arguments.dropFirst().first == ProcessGuard.subcommand { GuardProcess.run() }
// Before anything else, and in particular before a secret is read.
ProcessSetup.run()
await CommandLineTool.main(Array(CommandLine.arguments.dropFirst()))
