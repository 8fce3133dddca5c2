import STOMP

/// SplitMix64: small, and the same sequence for the same seed everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &self) < percent }

    /// Octets of which many mean something to the parser.
    mutating func octets(_ counts: ClosedRange<Int>, from alphabet: [UInt8]) -> [UInt8] {
        (0..<Int.random(in: counts, using: &self)).map { _ in alphabet.randomElement(using: &self)! }
    }
}

/// Streams of frames that are right, nearly right and wrong.
struct StreamGenerator {
    var random: SeededGenerator

    static let meaningful = Array("\0\n\r:\\ \tncrtS\u{1}\u{2F}\u{5B}\u{7F}".utf8) + [0x80, 0xBA, 0xDC, 0xFF]
    static let letters = Array("abcxyz019-./ ".utf8)

    mutating func reading() -> Reading {
        var reading = Reading()
        reading.version = Version.allCases.randomElement(using: &random)!
        reading.expectsConnect = random.chance(10)
        reading.acceptsServerFrames = random.chance(50)
        if random.chance(40) {
            reading.limits = FrameLimits(
                commandByteCountMax: random.chance(10) ? 6 : 64,
                headerCountMax: Int.random(in: 0...4, using: &random),
                headerByteCountMax: Int.random(in: 4...40, using: &random),
                headersByteCountMax: Int.random(in: 10...80, using: &random),
                bodyByteCountMax: Int.random(in: 0...20, using: &random))
        }
        return reading
    }

    mutating func stream(_ reading: Reading) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            bytes += random.octets(0...2, from: Array("\n\n\n\r\0".utf8).filter { $0 != 0x0D || random.chance(30) })
            bytes += frame(reading)
        }
        if random.chance(70) { mutate(&bytes) }
        return bytes
    }

    private mutating func frame(_ reading: Reading) -> [UInt8] {
        let commands = Command.allCases.filter { reading.acceptsServerFrames || !$0.isFromServer || random.chance(5) }
        let command = random.chance(40) ? Command.send : commands.randomElement(using: &random)!
        let mayEndWithCarriageReturn = reading.version != .v1_1 && random.chance(20)
        func lineEnd(_ random: inout SeededGenerator) -> String {
            mayEndWithCarriageReturn && random.chance(60) ? "\r\n" : "\n"
        }
        var body: [UInt8] = []
        if command.carriesBody || random.chance(5) {
            body = random.octets(0...24, from: random.chance(30) ? Self.meaningful : Self.letters)
        }
        var bytes = Array((String(describing: command.text) + lineEnd(&random)).utf8)
        for _ in 0..<Int.random(in: 0...5, using: &random) {
            bytes += header() + Array(lineEnd(&random).utf8)
        }
        if random.chance(body.contains(0) ? 90 : 50) {
            let spaces = reading.version == .v1_0 && random.chance(20) ? "  " : ""
            bytes += Array("content-length:\(spaces)\(body.count)\(lineEnd(&random))".utf8)
        }
        return bytes + Array(lineEnd(&random).utf8) + body + [0]
    }

    private mutating func header() -> [UInt8] {
        let name: [UInt8]
        if random.chance(70) {
            let names = HeaderName.allCases.map(\.text) + HeaderName.sendOptions
            let known = names.filter { $0.utf8CodeUnitCount > 0 }.randomElement(using: &random)!
            name = Array(String(describing: known).utf8)
        } else {
            name = random.octets(1...12, from: Self.letters)
        }
        if random.chance(10) { return name + Array(":1.0,1.1".utf8.prefix(Int.random(in: 0...8, using: &random))) }
        var value = random.octets(0...16, from: Self.letters)
        if random.chance(20) { value += Array(#"\n\c\\"#.utf8) }
        return name + [UInt8(ascii: ":")] + value
    }

    private mutating func mutate(_ bytes: inout [UInt8]) {
        for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1: bytes[place] = Self.meaningful.randomElement(using: &random)!
            case 2: bytes.insert(Self.meaningful.randomElement(using: &random)!, at: place)
            case 3: bytes.remove(at: place)
            case 4: bytes.removeLast(min(bytes.count, Int.random(in: 1...20, using: &random)))
            default:
                let end = min(bytes.count, place + Int.random(in: 1...12, using: &random))
                bytes.insert(contentsOf: bytes[place..<end], at: place)
            }
        }
    }

    mutating func cuts(_ count: Int) -> [Int] {
        (0..<Int.random(in: 1...5, using: &random)).map { _ in Int.random(in: 0...count, using: &random) }.sorted()
    }
}
