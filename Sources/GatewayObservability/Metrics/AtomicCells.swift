// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// A fixed number of integers that any thread may add to and read, each on its own.
///
/// Unchecked: the memory is allocated once, freed once in `deinit`, and touched through `Atomic` only.
struct AtomicCells: ~Copyable, @unchecked Sendable {
    private let cells: UnsafeMutableBufferPointer<Atomic<Int>>

    init(count: Int) {
        self.cells = .allocate(capacity: count)
        for index in self.cells.indices { self.cells.initializeElement(at: index, to: Atomic(0)) }
    }

    deinit {
        self.cells.deinitialize()
        self.cells.deallocate()
    }

    var count: Int { self.cells.count }

    /// Adds, wrapping; an index out of range, which only a wrong `MetricLabel` can give, does nothing.
    func add(_ amount: Int, at index: Int) {
        guard self.cells.indices.contains(index) else { return assertionFailure("no cell \(index)") }
        self.cells[index].wrappingAdd(amount, ordering: .relaxed)
    }

    /// The value of a cell; 0 for an index out of range.
    func load(at index: Int) -> Int {
        guard self.cells.indices.contains(index) else { return 0 }
        return self.cells[index].load(ordering: .relaxed)
    }
}
