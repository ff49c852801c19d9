// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayWire
import Synchronization

/// Where the messages to an upstream go since it redirected one (contract U1), so that not each of them pays for it.
///
/// All event loops share it; while nothing was redirected, which is the rule, a look costs no lock.
final class RedirectMemory: Sendable {
    private let isSet = Atomic<Bool>(false)
    private let remembered = Mutex<String?>(nil)

    init() {}

    /// The request target that is used instead of the configured one; nil: none.
    var target: String? {
        guard self.isSet.load(ordering: .relaxed) else { return nil }
        return self.remembered.withLock { $0 }
    }

    /// Hears with which status a request was answered at the end of its way.
    ///
    /// A place that takes messages is remembered. One that leads on, or has nothing there any more, is forgotten: the next
    /// request goes where the configuration says.
    func observe(_ way: Redirection, _ status: Int) {
        guard let target = way.target else { return }
        switch status {
        case 200..<300 where way.isRedirected: self.set(target)
        case 300..<400, 404, 405: self.forget(target)
        default: break
        }
    }

    private func set(_ target: String) {
        self.remembered.withLock { remembered in
            remembered = target
            self.isSet.store(true, ordering: .relaxed)
        }
    }

    private func forget(_ target: String) {
        self.remembered.withLock { remembered in
            guard remembered == target else { return }
            remembered = nil
            self.isSet.store(false, ordering: .relaxed)
        }
    }
}
