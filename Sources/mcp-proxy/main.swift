// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

// Before anything else, and in particular before a secret is read.
ProcessSetup.run()
await CommandLineTool.main(Array(CommandLine.arguments.dropFirst()))
