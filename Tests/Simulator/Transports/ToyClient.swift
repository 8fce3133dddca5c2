/// A client's end of a connection with the cipher of the simulator: a machine without a socket.
struct ToyClient {
    enum Stage { case hello, finished, open, ended, refused }

    private(set) var stage = Stage.hello
    /// What the server has broken. nil: nothing.
    private(set) var failure: String?
    /// To be written when what was received so far is read.
    var replies: [UInt8] = []
    private let id: Int
    private let number: UInt64
    /// Its proof is another one.
    private let lies: Bool
    private var input: [UInt8] = []
    private var messages: [UInt8] = []
    private var reading: ToyKey?
    private var writing: ToyKey?
    private var hasClosed = false

    init(id: Int, number: UInt64, lies: Bool) {
        self.id = id
        self.number = number
        self.lies = lies
    }

    /// The first message, in records of any size.
    func hello(_ random: inout Random) -> [UInt8] {
        let message = ToyRecord.message(
            ToyRecord.Message.clientHello, ToyRecord.octets(number) + ToyRecord.octets(UInt64(id)))
        var records: [UInt8] = []
        var rest = message[...]
        while !rest.isEmpty {
            let count = random.chance(700) ? rest.count : 1 + random.below(rest.count)
            records += ToyRecord.plain(ToyRecord.Kind.handshake, rest.prefix(count))
            rest = rest.dropFirst(count)
        }
        return records
    }

    /// A part of a record is there.
    var isWithinRecord: Bool { !input.isEmpty }

    // MARK: Receiving

    /// Takes octets of the server, and returns what was in them.
    mutating func receive(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        if stage == .ended || stage == .refused, !bytes.isEmpty, failure == nil {
            failure = "\(bytes.count) octets behind the last record"
        }
        guard failure == nil else { return [] }
        input += bytes
        var plaintext: [UInt8] = []
        var start = 0
        while failure == nil, let record = ToyRecord.next(input, at: start) {
            start = record.payload.upperBound
            take(record.kind, input[record.payload], &plaintext)
        }
        input.removeFirst(start)
        if input.count >= 3, input[1] != 3 || input[2] != 3 { failure = "octets that are no record" }
        return plaintext
    }

    private mutating func take(_ kind: UInt8, _ payload: ArraySlice<UInt8>, _ plaintext: inout [UInt8]) {
        if stage == .ended || stage == .refused {
            failure = "a record behind the last one"
            return
        }
        guard reading != nil else { return takeInClear(kind, payload) }
        if stage == .finished, kind == ToyRecord.Kind.handshake { return takeInClear(kind, payload) }
        guard let clear = reading!.open(kind, payload) else {
            failure = "a record of type \(kind) that was not encrypted, or not as the next one"
            return
        }
        switch kind {
        case ToyRecord.Kind.data where stage == .open: plaintext += clear
        case ToyRecord.Kind.handshake where stage == .open && clear.first == ToyRecord.Message.ticket: break
        case ToyRecord.Kind.alert where clear == ToyRecord.closeNotify: stage = .ended
        case ToyRecord.Kind.alert: stage = .refused
        default: failure = "a record of type \(kind) out of turn"
        }
    }

    private mutating func takeInClear(_ kind: UInt8, _ payload: ArraySlice<UInt8>) {
        switch kind {
        case ToyRecord.Kind.alert: stage = .refused
        case ToyRecord.Kind.handshake:
            messages += payload
            while messages.count >= 4, failure == nil {
                let end = 4 + (Int(messages[1]) << 16 | Int(messages[2]) << 8 | Int(messages[3]))
                guard messages.count >= end else { return }
                takeMessage(messages[0], Array(messages[4..<end]))
                messages.removeFirst(end)
            }
        default: failure = "a record of type \(kind) in clear text"
        }
    }

    private mutating func takeMessage(_ kind: UInt8, _ body: [UInt8]) {
        switch (stage, kind) {
        case (.hello, ToyRecord.Message.retry):
            replies += ToyRecord.plain(
                ToyRecord.Kind.handshake,
                ToyRecord.message(
                    ToyRecord.Message.clientHello, ToyRecord.octets(number) + ToyRecord.octets(UInt64(id))))
        case (.hello, ToyRecord.Message.serverHello) where body.count >= 8:
            let server = ToyRecord.number(body[..<8])
            reading = ToyKey(number, server, isOfServer: true)
            writing = ToyKey(number, server, isOfServer: false)
            let proof = lies ? ToyRecord.octets(server) : writing!.proof
            replies += ToyRecord.plain(
                ToyRecord.Kind.handshake, ToyRecord.message(ToyRecord.Message.finished, proof))
            stage = .finished
        case (.finished, ToyRecord.Message.finished):
            if body != reading!.proof { failure = "the server's proof is wrong" }
            stage = .open
        default: failure = "message \(kind) of a handshake out of turn"
        }
    }

    // MARK: Sending

    var canWrite: Bool { writing != nil && !hasClosed && (stage == .open || stage == .ended) }

    /// Records with these octets, of any size.
    mutating func seal(_ octets: [UInt8], _ random: inout Random) -> [UInt8] {
        var records: [UInt8] = []
        var start = 0
        while start < octets.count {
            var count = min(octets.count - start, 16_384)
            if random.chance(200) { count = 1 + random.below(count) }
            records += writing!.seal(ToyRecord.Kind.data, Array(octets[start..<start + count]))
            start += count
        }
        return records
    }

    mutating func close() -> [UInt8] {
        hasClosed = true
        return writing!.seal(ToyRecord.Kind.alert, ToyRecord.closeNotify)
    }
}
