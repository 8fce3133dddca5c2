/// A message with this id was taken for this destination: until its time is over, another one is not.
///
/// It says again what the flag `.isDeduplicated` of a message's record said, when that record's segment goes.
///
/// Payload: destinationByteCount u16, zero u16; the destination's canonical name; the id, as in the header lines of STOMP 1.2.
/// The record's `detail` is `acceptedAt`.
public struct DeduplicationRecord: BitwiseCopyable {
    public var destination: UnsafeRawBufferPointer
    public var id: UnsafeRawBufferPointer
    /// When the broker took the message (wall-clock milliseconds).
    public var acceptedAt: UInt64

    public init(destination: UnsafeRawBufferPointer, id: UnsafeRawBufferPointer, acceptedAt: UInt64) {
        self.destination = destination
        self.id = id
        self.acceptedAt = acceptedAt
    }

    @inlinable
    public var recordByteCount: Int {
        JournalFormat.recordByteCount(payloadByteCount: 4 &+ destination.count &+ id.count)
    }

    static let fixedByteCount = 4
}

/// The header that names a message for deduplication.
public enum DeduplicationHeader {
    public static var text: StaticString { "x-deduplication-id" }

    /// The value in header lines, each ended by LF, as it stands there: with the escapes of STOMP 1.2. Of several the first.
    /// nil: there is none.
    public static func value(in lines: UnsafeRawPointer, byteCount: Int) -> UnsafeRawBufferPointer? {
        var start = 0
        while start < byteCount {
            var end = start
            while end < byteCount, lines.load(fromByteOffset: end, as: UInt8.self) != 0x0A { end += 1 }
            let valueStart = start + text.utf8CodeUnitCount + 1
            if end >= valueStart, isName(lines + start) {
                return UnsafeRawBufferPointer(start: lines + valueStart, count: end - valueStart)
            }
            start = end + 1
        }
        return nil
    }

    /// The name and a colon are there.
    private static func isName(_ line: UnsafeRawPointer) -> Bool {
        for index in 0..<text.utf8CodeUnitCount
        where line.load(fromByteOffset: index, as: UInt8.self) != text.utf8Start[index] { return false }
        return line.load(fromByteOffset: text.utf8CodeUnitCount, as: UInt8.self) == UInt8(ascii: ":")
    }
}

/// An id that recovery found.
public struct RecoveredID: Sendable, Hashable {
    /// The canonical name.
    public var destination: [UInt8]
    /// As in the header lines of STOMP 1.2.
    public var id: [UInt8]
    /// Wall-clock milliseconds.
    public var acceptedAt: UInt64
}

/// Collects ids while the logs are read.
struct DeduplicationRecovery {
    private let since: UInt64
    private(set) var ids: [RecoveredID] = []

    init(since: UInt64) { self.since = since }

    /// nil: it is too old.
    func id(of message: MessageRecord) -> RecoveredID? {
        guard message.detail >= since,
            let value = DeduplicationHeader.value(in: message.content, byteCount: message.headersByteCount)
        else { return nil }
        return RecoveredID(destination: Array(message.queueName), id: Array(value), acceptedAt: message.detail)
    }

    mutating func add(_ id: RecoveredID) { ids.append(id) }

    mutating func add(_ record: DeduplicationRecord) {
        guard record.acceptedAt >= since else { return }
        ids.append(
            RecoveredID(
                destination: Array(record.destination), id: Array(record.id), acceptedAt: record.acceptedAt))
    }
}
