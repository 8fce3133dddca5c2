import Glibc
import Testing

@testable import Slabs

/// Keys whose bytes stay in place.
private final class Keys {
    private let bytes: UnsafeMutableRawPointer
    let byteCounts: [Int]
    private var offsets: [Int] = []

    init(_ names: [String]) {
        byteCounts = names.map(\.utf8.count)
        bytes = .allocate(byteCount: max(1, byteCounts.reduce(0, +)), alignment: 1)
        var offset = 0
        for name in names {
            offsets.append(offset)
            for byte in name.utf8 {
                bytes.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
                offset += 1
            }
        }
    }

    deinit { bytes.deallocate() }

    var count: Int { byteCounts.count }
    func pointer(_ position: Int) -> UnsafeRawPointer { UnsafeRawPointer(bytes) + offsets[position] }
}

@Suite struct NameTableTests {
    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `random operations agree with a dictionary`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let keys = Keys((0..<3_000).map { "/queue/" + String(repeating: "x", count: $0 % 70) + String($0) })
        var table = NameTable(seed: seed)
        var model: [Int: UInt32] = [:]
        for step in 0..<40_000 {
            let insertShare = step / 10_000 % 2 == 0 ? 7 : 2
            let key = generator.below(keys.count)
            let (pointer, byteCount) = (keys.pointer(key), keys.byteCounts[key])
            try #require(table.find(pointer, byteCount) == model[key] ?? 0)
            if generator.below(10) < insertShare {
                if model[key] == nil {
                    let value = UInt32(1 + generator.below(1 << 31))
                    table.insert(pointer, byteCount, value: value)
                    model[key] = value
                }
            } else {
                let removed = table.remove(pointer, byteCount)
                try #require(removed == model.removeValue(forKey: key) ?? 0)
            }
            try #require(table.count == model.count)
        }
        var values: [UInt32] = []
        for position in 0..<table.capacity where table.entry(position) != 0 { values.append(table.entry(position)) }
        #expect(values.sorted() == model.values.sorted())
    }

    @Test(arguments: [[0], [7], [6, 7, 0], [.max, .max - 1, 5]] as [[UInt64]])
    func `keys with colliding hashes are told apart and survive each other's removal`(hashes: [UInt64]) throws {
        var generator = SeededGenerator(seed: UInt64(hashes.count))
        let keys = Keys((0..<60).map { "key\($0)" })
        var table = NameTable(seed: 0)
        var model: [Int: UInt32] = [:]
        for _ in 0..<10_000 {
            let key = generator.below(keys.count)
            let hash = hashes[key % hashes.count]
            let (pointer, byteCount) = (keys.pointer(key), keys.byteCounts[key])
            if let value = model.removeValue(forKey: key) {
                let removed = table.remove(pointer, byteCount, hash: hash)
                try #require(removed == value)
            } else {
                let value = UInt32(key + 1)
                table.insert(pointer, byteCount, hash: hash, value: value)
                model[key] = value
            }
            let other = generator.below(keys.count)
            let found = table.find(keys.pointer(other), keys.byteCounts[other], hash: hashes[other % hashes.count])
            try #require(found == model[other] ?? 0)
        }
    }

    @Test func `the table grows and shrinks, and owns nothing when it is empty`() {
        let keys = Keys((0..<5_000).map { "\($0)" })
        var table = NameTable(seed: 1)
        let start = [table.capacity, Int(table.find(keys.pointer(0), 1)), Int(table.remove(keys.pointer(0), 1))]
        #expect(start == [0, 0, 0])
        for key in 0..<keys.count { table.insert(keys.pointer(key), keys.byteCounts[key], value: 1) }
        let full = table.capacity
        #expect(full == 8192)
        for key in 0..<keys.count {
            let value = table.remove(keys.pointer(key), keys.byteCounts[key])
            #expect(value == 1)
            if table.count == 500 { #expect(table.capacity <= 4096) }
        }
        let empty = (table.count, table.capacity)
        #expect(empty == (0, 0))
    }

    @Test func `nothing beyond a key is read`() throws {
        // Keys end where a page begins that must not be touched.
        let pageByteCount = sysconf(Int32(_SC_PAGESIZE))
        let pages = try #require(
            mmap(nil, 2 * pageByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
        try #require(mprotect(pages + pageByteCount, pageByteCount, PROT_NONE) == 0)
        defer { munmap(pages, 2 * pageByteCount) }
        let end = UnsafeRawPointer(pages + pageByteCount)
        var table = NameTable(seed: 3)
        for byteCount in 0...100 { table.insert(end - byteCount, byteCount, value: UInt32(byteCount + 1)) }
        for byteCount in 0...100 {
            let value = table.find(end - byteCount, byteCount)
            #expect(value == UInt32(byteCount + 1))
        }
    }

    @Test func `every bit of a key and of the seed counts`() {
        let table = NameTable(seed: 0)
        let otherTable = NameTable(seed: 1)
        var hashes: Set<UInt64> = []
        var hashCount = 0
        for byteCount in 1...64 {
            var key = [UInt8](repeating: 0, count: byteCount)
            for bit in 0..<(byteCount * 8) {
                key[bit / 8] ^= 1 << UInt8(bit % 8)
                hashes.insert(key.withUnsafeBytes { table.hash($0.baseAddress!, byteCount) })
                hashes.insert(key.withUnsafeBytes { otherTable.hash($0.baseAddress!, byteCount) })
                key[bit / 8] = 0
                hashCount += 2
            }
        }
        #expect(hashes.count == hashCount)
    }

    @Test func `hashes of similar names spread evenly`() {
        let table = NameTable(seed: 99)
        var buckets = [Int](repeating: 0, count: 1024)
        for number in 0..<102_400 {
            let name = Array("/topic/sensor.\(number)".utf8)
            buckets[Int(name.withUnsafeBytes { table.hash($0.baseAddress!, $0.count) } & 1023)] += 1
        }
        // 100 are expected in each; chance alone strays by 10, and further than 6 times that once in a million tables.
        #expect(buckets.allSatisfy { $0 > 40 && $0 < 170 })
    }
}
