// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import CGatewayProcess
import GatewayObservability
import GatewayStdio

// Where standard input, output or error is closed, the next file or socket would become it, and get what is written there.
Platform.openMissingStandardDescriptors()
// It runs as /proc/self/exe from its second start on, and would be called `exe`. Where the system has no such call it is.
_ = gateway_name_process("mcp-proxy")
// A guard is this program, but nothing of it: it must be up at once and stay small.
if CommandLine.arguments.dropFirst().first == ProcessGuard.subcommand { GuardProcess.run() }
// Before anything else, and in particular before a secret is read.
ProcessSetup.run()
await CommandLineTool.main(Array(CommandLine.arguments.dropFirst()))
