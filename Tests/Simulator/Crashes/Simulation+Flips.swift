import Broker
import Journal

// Bits that change while the broker is not running: a disk that forgets, a cable, memory.
extension Simulation {
    /// So many bits are flipped between two lives, one at a time.
    private static let flipCount = 4

    /// Flips bits of the segments, one at a time, and looks at what recovery makes of it: it tells the place, or nothing is
    /// different. Then the bit is as it was.
    ///
    /// - Parameter state: what recovery makes of the segments as they are.
    func flipBits(of names: [SegmentName], _ state: RecoveredState) {
        guard let disk, scenario.storage!.flips, !names.isEmpty else { return }
        let known = state.findings.map(\.description)
        for _ in 0..<Self.flipCount where !hasFailed {
            let flipped = flipRandom.pick(names)
            var contents = disk.contents(of: flipped.description, in: StorageScenario.directory) ?? []
            guard !contents.isEmpty else { continue }
            // Most of a segment is not written yet.
            let used = max(1, contents.lastIndex { $0 != 0 } ?? 0)
            let offset = flipRandom.below(flipRandom.chance(900) ? min(used + 1, contents.count) : contents.count)
            contents[offset] ^= 1 << UInt8(flipRandom.below(8))
            disk.count(.bitFlipped)
            var recovery = Recovery()
            for name in names {
                if name == flipped {
                    contents.withUnsafeBytes { recovery.read(name, $0) }
                } else {
                    disk.withBytes(of: name.description, in: StorageScenario.directory) { recovery.read(name, $0) }
                }
            }
            judge(recovery.finish(), known, state, flipped, offset)
        }
    }

    private func judge(
        _ found: RecoveredState, _ known: [String], _ state: RecoveredState, _ flipped: SegmentName, _ offset: Int
    ) {
        let place = "bit of byte \(offset) of \(flipped) flipped"
        let findings = found.findings.filter { !known.contains($0.description) }
        guard !findings.isEmpty else {
            let isSame =
                found.messages.map(\.reference) == state.messages.map(\.reference)
                && found.messages.map(\.failureCount) == state.messages.map(\.failureCount)
                && found.messages.map(\.isRedelivered) == state.messages.map(\.isRedelivered)
                && found.queues.filter(\.isMade).count == state.queues.filter(\.isMade).count
            // What it knew to be torn may be torn beyond recognition now.
            if !isSame { oracle.violate("\(place): recovery finds no damage, and other messages") }
            return
        }
        let isTold = findings.contains { finding in
            finding.segment == flipped && finding.offset <= offset || finding.nextSegment == flipped
        }
        if !isTold { oracle.violate("\(place): recovery tells \(findings.map(\.description))") }
    }
}
