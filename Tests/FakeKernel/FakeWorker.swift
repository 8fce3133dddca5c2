public import Broker
public import IO
public import Slabs

/// A shard and the completions of its next turn: the loop of a worker without a driver.
///
/// It adds nothing to the cost of a turn, so the benchmarks use it directly: they pass completions like a driver that
/// takes every send completely. `FakeKernel` adds sockets to it.
@frozen
public struct FakeWorker: ~Copyable {
    public let shard: UnsafeMutablePointer<Shard>
    /// The completions of the next turn. The turn removes them.
    public let completions: UnsafeMutablePointer<Batch<Completion>>

    /// - Parameters:
    ///   - connectionCountMax: the size of the driver's table.
    ///   - now: monotonic nanoseconds.
    ///   - wallMilliseconds: milliseconds since the epoch.
    public init(
        index: Int, options: BrokerOptions, fabric: Fabric, connectionCountMax: Int, now: UInt64,
        wallMilliseconds: UInt64
    ) {
        completions = .allocate(capacity: 1)
        completions.initialize(to: Batch(capacity: 64))
        shard = .allocate(capacity: 1)
        do throws(SlabError) {
            shard.initialize(
                to: try Shard(
                    index: index, options: options, fabric: fabric, connectionCountMax: connectionCountMax, now: now,
                    wallMilliseconds: wallMilliseconds))
        } catch {
            fatalError("no address space for a shard: \(error)")
        }
    }

    deinit {
        shard.deinitialize(count: 1)
        shard.deallocate()
        completions.deinitialize(count: 1)
        completions.deallocate()
    }

    @inlinable @inline(__always)
    public func turn(now: UInt64, wallMilliseconds: UInt64) {
        shard.pointee.turn(completions.pointee, now: now, wallMilliseconds: wallMilliseconds)
        completions.pointee.removeAll()
    }

    /// `bytes` arrive on a connection. They must stay valid until the turn is over.
    @inlinable @inline(__always)
    public func receive(_ bytes: UnsafeRawBufferPointer, on connection: Slot) {
        completions.pointee.append(
            Completion(
                .received, connection: connection, value: Int32(truncatingIfNeeded: bytes.count),
                pointer: bytes.baseAddress))
    }

    /// The last connection that the last turn adopted.
    @inlinable
    public var adoptedConnection: Slot? {
        var connection: Slot?
        for place in 0..<shard.pointee.submissions.count where shard.pointee.submissions[place].kind == .adopt {
            connection = shard.pointee.submissions[place].connection
        }
        return connection
    }
}
