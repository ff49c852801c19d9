// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

/// Which findings of a load have not been logged yet (decision 0038).
///
/// A finding is known if the load before had one with its code, path and message; its line does not count, since a comment
/// moves it. The errors of a rejected configuration are all said again, where they stand now, unless the load before was
/// rejected with the very same findings.
package struct FindingHistory: Sendable {
    private struct Key: Hashable {
        let code: Finding.Code
        let path: String
        let message: String

        init(_ finding: Finding) {
            self.code = finding.code
            self.path = finding.path
            self.message = finding.message
        }
    }

    private var last: [Finding]

    /// `findings` are those of the first load, which are logged already.
    package init(_ findings: [Finding] = []) { self.last = findings }

    /// Takes the findings of the next load, applied or rejected, and gives those to log, in their order.
    package mutating func new(in findings: [Finding]) -> [Finding] {
        let known = Set(self.last.map { Key($0) })
        let isSame = findings == self.last
        self.last = findings
        return findings.filter { $0.severity == .error ? !isSame : !known.contains(Key($0)) }
    }
}
