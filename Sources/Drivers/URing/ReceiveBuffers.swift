#if URing
    internal import CURing
    import Glibc

    /// A provided-buffer ring: the kernel picks one of its buffers for each receive. Owns the buffers. It must outlive
    /// the io_uring that it is registered with.
    struct ReceiveBuffers: ~Copyable {
        /// The number of buffers: a power of two, 32768 at most.
        let count: Int
        let byteCount: Int
        let group: UInt16
        private let buffers: UnsafeMutablePointer<io_uring_buf_ring>
        private let bytes: UnsafeMutableRawPointer
        private let ringByteCount: Int
        private var tail: UInt16 = 0
        private var hasUnpublished = false

        init(count: Int, byteCount: Int, group: UInt16, ring: borrowing Ring) throws(DriverError) {
            var rounded = 1
            while rounded < min(max(count, 1), 32768) { rounded *= 2 }
            let byteCount = max(byteCount, 64)
            let ringByteCount = rounded * MemoryLayout<io_uring_buf>.stride
            let ringMemory = try Self.map(ringByteCount)
            let memory: UnsafeMutableRawPointer
            do throws(DriverError) {
                memory = try Self.map(
                    rounded * byteCount, touched: rounded * byteCount <= Self.touchedByteCountMax)
            } catch {
                munmap(ringMemory, ringByteCount)
                throw error
            }
            let buffers = ringMemory.bindMemory(to: io_uring_buf_ring.self, capacity: 1)
            let result = curing_register_buffers(ring.raw, buffers, UInt32(rounded), group)
            if result < 0 {
                munmap(ringMemory, ringByteCount)
                munmap(memory, rounded * byteCount)
                throw DriverError.ring(step: "provided-buffer rings", errorNumber: -result)
            }
            self.count = rounded
            self.byteCount = byteCount
            self.group = group
            self.ringByteCount = ringByteCount
            self.buffers = buffers
            bytes = memory
            for identifier in 0..<rounded { put(UInt16(identifier)) }
            publish()
        }

        /// Memory up to this size is populated at the start. The kernel uses all buffers in rotation, so a small ring
        /// soon uses all of its memory anyway, and the first receives cause no page faults.
        private static var touchedByteCountMax: Int { 2 << 20 }

        private static func map(
            _ byteCount: Int, touched: Bool = false
        ) throws(DriverError) -> UnsafeMutableRawPointer {
            let memory = mmap(
                nil, byteCount, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | (touched ? MAP_POPULATE : MAP_NORESERVE), -1, 0)
            guard let memory, memory != MAP_FAILED else {
                throw DriverError.ring(step: "\(byteCount >> 10) KiB for receive buffers", errorNumber: errno)
            }
            return memory
        }

        deinit {
            munmap(bytes, count * byteCount)
            munmap(buffers, ringByteCount)
        }

        func pointer(_ identifier: UInt16) -> UnsafeMutableRawPointer { bytes + Int(identifier) * byteCount }

        /// Returns a buffer to the ring. The kernel can use it after `publish`.
        mutating func put(_ identifier: UInt16) {
            curing_buffer_put(buffers, UInt32(count), tail, pointer(identifier), UInt32(byteCount), identifier)
            tail &+= 1
            hasUnpublished = true
        }

        mutating func publish() {
            guard hasUnpublished else { return }
            curing_buffers_publish(buffers, tail)
            hasUnpublished = false
        }
    }
#endif
