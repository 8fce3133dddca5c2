import Journal
import Slabs

/// What the stored messages of each host take, of all workers together: bytes of records in the log.
///
/// A record counts from when it is written until its message lives no more: of queues, durable subscriptions, logs of topics,
/// what these retain, and delayed messages, and also of messages that are in the log only because memory is short. The limit is
/// asked before a message is taken; workers that take some in the same moment may go beyond it by these.
struct HostStorage {
    /// There are hosts, and a store. Off, nothing is counted, and each record is of number 0.
    let isOn: Bool
    /// By name.
    private let numbers: [[UInt8]: UInt16]
    /// By number; 0 is the standard host. 0: there is no limit.
    private let byteCountsMax: [Int]
    private let usages: HostUsages
    /// Of hosts that are not configured any more.
    private let unknown: UInt16

    /// - Parameter hosts: by number.
    init(_ hosts: [HostOptions], isOn: Bool, _ usages: HostUsages) {
        self.isOn = isOn
        var numbers: [[UInt8]: UInt16] = [:]
        for (number, host) in hosts.enumerated() { numbers[Array(host.name.utf8)] = UInt16(number) }
        self.numbers = numbers
        byteCountsMax = hosts.map(\.storedByteCountMax) + [0]
        unknown = UInt16(hosts.count)
        self.usages = usages
    }

    /// Whose records those of a destination are.
    ///
    /// - Parameter name: canonical.
    @inline(__always)
    func number(of name: UnsafeRawBufferPointer) -> UInt16 { isOn ? findNumber(of: name) : 0 }

    @inline(never)
    private func findNumber(of name: UnsafeRawBufferPointer) -> UInt16 {
        let count = HostName.prefixByteCount(name)
        return count == 0 ? 0 : numbers[Array(name[1..<count - 1])] ?? unknown
    }

    @inline(__always)
    func add(_ byteCount: Int, _ number: UInt16) {
        if isOn { usages[Int(number)].store(Self.counted(byteCount)) }
    }

    @inline(__always)
    func remove(_ byteCount: Int, _ number: UInt16) {
        if isOn { usages[Int(number)].release(Self.counted(byteCount)) }
    }

    /// Whether the host has no room for a message of so many bytes.
    @inline(__always)
    func isFull(_ number: UInt16, _ byteCount: Int) -> Bool { isOn && exceeds(number, byteCount) }

    @inline(never)
    private func exceeds(_ number: UInt16, _ byteCount: Int) -> Bool {
        let most = byteCountsMax[Int(number)]
        return most > 0 && usages[Int(number)].storedByteCount + byteCount > most
    }

    /// Of records of more than 32 MiB in the log alone, the size is known roughly (`RecordSize`): so all count like that.
    private static func counted(_ byteCount: Int) -> Int { RecordSize(byteCount: byteCount).byteCount }
}
