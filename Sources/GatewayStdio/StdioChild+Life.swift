// This source file is part of mcp-proxy.
// SPDX-License-Identifier: Apache-2.0

import GatewayObservability
import Logging
import NIOCore

/// Runs the actions of the state machine.
extension StdioChild {
    func perform(_ action: StateMachine.Action) {
        switch action {
        case .none:
            break
        case .spawn:
            self.spawn()
        case .announce:
            self.delegate?.childStarted()
            self.output.started()
            // A short process has closed them already.
            if !self.openPipes.isSuperset(of: [.input, .output]) { self.perform(self.machine.pipeClosed()) }
        case .wait(let time):
            self.setAlarm(time)
        case .closeInput(let time):
            self.setAlarm(time)
            self.closeInput()
        case .terminate(let time):
            self.setAlarm(time)
            self.signal(SystemCalls.sigterm)
        case .kill(let time):
            self.setAlarm(time)
            if !self.machine.deliversLines { self.output.discard() }
            self.signal(SystemCalls.sigkill)
        case .drain:
            self.output.drain()
            self.errorLog.drain()
            self.perform(self.machine.drained())
        case .end(let ending):
            self.end(ending)
        }
    }

    private func setAlarm(_ time: Duration) {
        self.alarm?.cancel()
        let child = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.alarm = self.eventLoop.scheduleTask(in: TimeAmount(time)) {
            child.value.perform(child.value.machine.timerFired())
        }
    }

    private func signal(_ number: Int32) {
        guard let processID = self.processID else { return }
        SystemCalls.signal(number, group: processID)
    }

    /// Closes standard input behind what was sent.
    private func closeInput() {
        guard let inputChannel = self.inputChannel else { return }
        inputChannel.writeAndFlush(ByteBuffer()).whenComplete { _ in inputChannel.close(promise: nil) }
    }

    // MARK: The process

    private func spawn() {
        let child = NIOLoopBound(self, eventLoop: self.eventLoop)
        guard let streams = self.openPipesOfChild() else {
            // Later: the owner is still in its call.
            self.eventLoop.execute {
                child.value.perform(child.value.machine.noDescriptors())
            }
            return
        }
        let process = ChildProcess(self.configuration, environment: self.environment)
        let eventLoop = self.eventLoop
        // The one task of this child: it waits for the end of the process, and ends with it.
        Task {
            let outcome = await process.run(streams) { processID in
                eventLoop.execute { child.value.spawned(processID) }
            }
            eventLoop.execute { child.value.finished(outcome) }
        }
    }

    private func spawned(_ processID: Int32) {
        self.processID = processID
        self.loggedProcessID = processID
        self.guardian?.add(processID)
        self.perform(self.machine.spawned())
    }

    /// The process is gone, and what was left of its group killed.
    private func finished(_ outcome: ChildProcess.Outcome) {
        if let processID = self.processID { self.guardian?.remove(processID) }
        self.processID = nil
        switch outcome {
        case .notSpawned(let reason):
            self.perform(self.machine.notSpawned(reason))
        case .noDescriptors:
            self.perform(self.machine.noDescriptors())
        case .ended(let status):
            self.exitStatus = status
            self.perform(self.machine.exited(status))
        }
    }

    // MARK: The end

    /// A pipe is closed, at either end; a child may do without standard error.
    func pipeClosed(_ pipe: Pipe) {
        self.openPipes.remove(pipe)
        if pipe != .error { self.perform(self.machine.pipeClosed()) }
    }

    private func end(_ ending: Ending) {
        self.alarm?.cancel()
        self.alarm = nil
        self.inputChannel?.close(promise: nil)
        self.output.end()
        self.errorLog.end()
        self.updateHeld()
        self.log(ending)
        // Later: it may be the owner's call that led here.
        let child = NIOLoopBound(self, eventLoop: self.eventLoop)
        self.eventLoop.execute {
            let delegate = child.value.delegate
            child.value.delegate = nil
            child.value.inputChannel = nil
            delegate?.childEnded(ending)
        }
    }

    private func log(_ ending: Ending) {
        guard !self.isTrial else { return }
        var metadata: Logger.Metadata = ["upstream": "\(self.name)"]
        if case .notStarted(let reason) = ending {
            metadata["reason"] = "\(reason)"
            return self.logger.warning("child not started", metadata: metadata)
        }
        if ending == .noDescriptors {
            metadata["reason"] = "no more files can be opened"
            return self.logger.warning("child not started", metadata: metadata)
        }
        // Stopped before it was started.
        guard let processID = self.loggedProcessID else { return }
        metadata["pid"] = .number(Int(processID))
        switch self.exitStatus {
        case .exited(let code): metadata["code"] = .number(code)
        case .signalled(let signal): metadata["signal"] = .number(signal)
        case nil: metadata["reason"] = "it does not die"
        }
        if ending == .lineTooLong { metadata["reason"] = "a line above the limit" }
        if ending == .closedOutput { metadata["reason"] = "it closed a pipe and went on" }
        if let tail = self.errorLog.tail { metadata["stderr_tail"] = tail }
        let isInOrder = ending == .stopped && !self.wasKilled
        self.logger.log(level: isInOrder ? .debug : .warning, "child exited", metadata: metadata)
    }
}
