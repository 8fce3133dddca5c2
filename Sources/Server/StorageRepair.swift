import Glibc
import Journal

extension StorageDirectory {
    /// The most places that one repair mends: more than that is no damage but another file system's content.
    private static let stepCountMax = 100_000

    /// Gives up what is damaged, so that a broker starts and uses what is intact. What is given up is kept in files
    /// `damaged-SEGMENT-BYTE`.
    ///
    /// - Parameter tell: is told what is done, one line each.
    /// - Returns: how many places were mended.
    public borrowing func repair(_ tell: (String) -> Void) throws(StorageError) -> Int {
        if !hasFormat {
            try writeFormat()
            tell("the file \"format\" is written again")
        }
        let names = try segmentNames()
        let lifeMax = names.last?.life ?? 0
        var count = 0
        var log: [SegmentName] = []
        for name in names {
            if let first = log.first, first.life != name.life || first.worker != name.worker {
                count += try repair(log, isNewest: first.life == lifeMax, tell)
                log = []
            }
            log.append(name)
        }
        if !log.isEmpty { count += try repair(log, isNewest: true, tell) }
        return count
    }

    /// Mends one log, place by place: what is behind a hole is seen when the hole is mended.
    private borrowing func repair(
        _ log: [SegmentName], isNewest: Bool, _ tell: (String) -> Void
    ) throws(StorageError) -> Int {
        var log = log
        var count = 0
        while true {
            guard let finding = try fatalFinding(log, isNewest: isNewest) else { return count }
            guard count < Self.stepCountMax else { throw cannotMend(finding) }
            let steps = try steps(for: finding)
            if count == 0 { try raiseFormat() }
            for step in steps {
                try apply(step, tell)
                if !log.contains(step.segment) { log = (log + [step.segment]).sorted() }
            }
            count += 1
        }
    }

    private func cannotMend(_ finding: RecoveryFinding) -> StorageError {
        StorageError(
            description: "\(path)/\(finding.description). It cannot be mended; move the file away to give it up")
    }

    private borrowing func fatalFinding(
        _ log: [SegmentName], isNewest: Bool
    ) throws(StorageError) -> RecoveryFinding? {
        var recovery = Recovery()
        var buffer = SegmentBuffer()
        for name in log {
            guard let bytes = try buffer.read(name, in: self) else { return nil }
            recovery.read(name, bytes)
        }
        // Of a log that is not of the newest life, the front may be freed.
        return recovery.finish().findings.first {
            $0.isFatal && (isNewest || $0.damage != .missing || $0.segment > log[0])
        }
    }

    private borrowing func steps(for finding: RecoveryFinding) throws(StorageError) -> [RepairStep] {
        var buffer = SegmentBuffer()
        var steps: [RepairStep]
        if finding.damage == .missing {
            steps = Repair.steps(for: finding, UnsafeRawBufferPointer(start: nil, count: 0))
        } else {
            guard let bytes = try buffer.read(finding.segment, in: self) else { return [] }
            steps = Repair.steps(for: finding, bytes)
        }
        guard !steps.isEmpty else { throw cannotMend(finding) }
        return steps
    }

    private borrowing func apply(_ step: RepairStep, _ tell: (String) -> Void) throws(StorageError) {
        let path = "\(path)/\(step.segment)"
        let file = openat(
            descriptor, step.segment.description, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw Self.failure(path, "cannot be opened for writing", errno) }
        defer { close(file) }
        try keep(step, file)
        var information = stat()
        guard fstat(file, &information) == 0,
            information.st_size >= step.segmentByteCount || ftruncate(file, off_t(step.segmentByteCount)) == 0,
            pwrite(file, step.bytes, step.bytes.count, off_t(step.offset)) == step.bytes.count,
            fsync(file) == 0, fsync(descriptor) == 0
        else { throw Self.failure(path, "cannot be written", errno) }
        tell(
            step.givenUp.isEmpty
                ? "\(step.segment): made, with nothing in it"
                : "\(step.segment): \(step.givenUp.count) bytes from byte \(step.givenUp.lowerBound) given up")
    }

    /// Copies what is given up to a file of its own.
    private borrowing func keep(_ step: RepairStep, _ file: Int32) throws(StorageError) {
        guard !step.givenUp.isEmpty else { return }
        let bytes = [UInt8](unsafeUninitializedCapacity: step.givenUp.count) { buffer, count in
            count = max(pread(file, buffer.baseAddress!, buffer.count, off_t(step.givenUp.lowerBound)), 0)
        }
        try writeDurably(bytes, to: "damaged-\(step.segment)-\(step.givenUp.lowerBound)")
    }
}
