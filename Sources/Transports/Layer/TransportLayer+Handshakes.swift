internal import IO
public import Slabs

// What comes before STOMP: the PROXY header, the request that opens a WebSocket, and what they say of the client.
extension TransportLayer {
    // MARK: Accepting

    /// Behind a proxy the client's address is not known yet, and the proxy's is not the client's.
    mutating func accepted(_ completion: Completion) {
        let listener = completion.origin.listener
        guard Int(listener.rawValue) < factCount, !facts[Int(listener.rawValue)].isPlain else {
            return raised.append(completion)
        }
        let facts = facts[Int(listener.rawValue)]
        arrivals.append(
            Arrival(descriptor: completion.value, listener: listener, isStranger: facts.checksProxy))
        if facts.checksProxy { hasUnverified = true }
        // What a Unix socket has in place of an address is the core's own.
        guard facts.expectsProxyHeader, !listeners[Int(listener.rawValue)].isUnix else {
            return raised.append(completion)
        }
        raised.append(Completion(accepted: completion.value, from: ConnectionOrigin(listener: listener, address: 0)))
    }

    /// The descriptor of an accepted connection whose peer's address the driver is to be asked for, before the core's
    /// turn; `verify` takes the answer. A peer that is not known to be a proxy is a stranger.
    public mutating func nextUnverified() -> Int32? {
        while verifyCursor < arrivals.count {
            verifyCursor += 1
            if arrivals[verifyCursor - 1].isStranger { return arrivals[verifyCursor - 1].descriptor }
        }
        hasUnverified = false
        return nil
    }

    /// - Parameter address: of the peer of what `nextUnverified` has returned, as `Driver.peerAddress` writes it. nil: not
    ///   known, because the peer has reset the connection already.
    public mutating func verify(_ address: String?) {
        let arrival = arrivals[verifyCursor - 1]
        guard let address = address.flatMap({ ClientAddress($0) }) else { return }
        arrivals[verifyCursor - 1].hasAddress = true
        arrivals[verifyCursor - 1].isStranger = !listeners[Int(arrival.listener.rawValue)].proxies.contains {
            $0.contains(address)
        }
    }

    /// What is known of a connection that the core adopts. nil: it is plain.
    mutating func takeArrival(_ descriptor: Int32) -> Arrival? {
        for _ in 0..<arrivals.count {
            if arrivalCursor >= arrivals.count { arrivalCursor = 0 }
            let arrival = arrivals[arrivalCursor]
            arrivalCursor += 1
            if arrival.descriptor == descriptor { return arrival }
        }
        return nil
    }

    /// All of them were adopted, refused or handed on.
    mutating func forgetArrivals() {
        arrivals.removeAll()
        arrivalCursor = 0
        verifyCursor = 0
    }

    // MARK: PROXY

    /// Returns how many of the bytes belong to the header.
    mutating func takeProxyHeader(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawPointer, _ byteCount: Int
    ) -> Int {
        guard let (head, before) = gather(record, bytes, byteCount, byteCountMax: ProxyHeader.byteCountMax) else {
            return byteCount
        }
        switch ProxyHeader(head) {
        case .incomplete:
            return wait(record, bytes, byteCount, isGathered: before > 0)
        case .malformed(let fault):
            counters.handshakesRefused &+= 1
            notice(record, "\(fault.explanation)")
            end(record)
            return byteCount
        case .complete(let headByteCount, let source):
            forgetKept(record)
            if let source { name(record, source) }
            record.pointee.stage = facts(of: record).usesWebSocket ? .request : .plain
            return headByteCount - before
        }
    }

    /// The client's address replaces the proxy's.
    private mutating func name(_ record: UnsafeMutablePointer<TransportRecord>, _ source: ClientAddress) {
        let block = blocks.allocate(byteCount: MemoryLayout<ClientAddress>.size)
        guard block != 0 else { return }
        blocks.base(block).storeBytes(of: source, as: ClientAddress.self)
        blocks.setUsed(block, MemoryLayout<ClientAddress>.size)
        record.pointee.identity = block
        record.pointee.flags.insert(.hasAddress)
        let origin = ConnectionOrigin(
            listener: ListenerID(rawValue: UInt8(record.pointee.listener)), address: source.originAddress)
        raised.append(Completion(.identified, connection: record.pointee.connection, address: origin.packed))
    }

    // MARK: WebSocket

    /// Returns how many of the bytes belong to the request.
    mutating func takeRequest(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawPointer, _ byteCount: Int
    ) -> Int {
        guard let (head, before) = gather(record, bytes, byteCount, byteCountMax: HTTPUpgrade.headByteCountMax) else {
            return byteCount
        }
        // The end may lie across what was searched before and what has come.
        switch HTTPUpgrade.head(head, from: max(before - 3, 0)) {
        case .incomplete:
            return wait(record, bytes, byteCount, isGathered: before > 0)
        case .refused(let refusal):
            refuse(record, refusal)
            return byteCount
        case .complete(let headByteCount):
            let request = UnsafeRawBufferPointer(rebasing: head[..<headByteCount])
            do throws(HTTPRefusal) {
                let upgrade = try HTTPUpgrade(request, for: listeners[record.pointee.listener]) {
                    compression.hasRoom(for: $0)
                }
                open(record, upgrade, request)
            } catch {
                refuse(record, error)
                return byteCount
            }
            forgetKept(record)
            return headByteCount - before
        }
    }

    private mutating func open(
        _ record: UnsafeMutablePointer<TransportRecord>, _ upgrade: HTTPUpgrade, _ request: UnsafeRawBufferPointer
    ) {
        guard keepIdentity(record, request), upgrade.answer.withUnsafeBytes({ queue(record, $0) }) else {
            return end(record)
        }
        counters.webSocketsOpened &+= 1
        record.pointee.flags.insert(.isOpen)
        record.pointee.stage = .frames
        if upgrade.compression.isOn { beginCompression(record, upgrade.compression) }
        guard upgrade.subprotocol != .none else { return }
        raised.append(
            Completion(
                .identified, connection: record.pointee.connection, value: Int32(upgrade.subprotocol.versionBits)))
    }

    private mutating func refuse(_ record: UnsafeMutablePointer<TransportRecord>, _ refusal: HTTPRefusal) {
        counters.handshakesRefused &+= 1
        notice(record, "no WebSocket: \(refusal.logText)")
        forgetKept(record)
        _ = refusal.answer.withUnsafeBytes { queue(record, $0) }
        end(record)
    }

    // MARK: What is not whole yet

    /// All that was received of a header, and how many bytes of it were there before `bytes`. nil: there is no memory, and
    /// the connection has ended.
    private mutating func gather(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawPointer, _ byteCount: Int, byteCountMax: Int
    ) -> (UnsafeRawBufferPointer, Int)? {
        let kept = record.pointee.kept
        guard kept != 0 else { return (UnsafeRawBufferPointer(start: bytes, count: byteCount), 0) }
        let before = blocks.used(kept)
        let piece = UnsafeRawBufferPointer(start: bytes, count: min(byteCount, byteCountMax - before))
        guard keep(record, piece, byteCountMax: byteCountMax) else {
            end(record)
            return nil
        }
        let block = record.pointee.kept
        return (UnsafeRawBufferPointer(start: blocks.base(block), count: blocks.used(block)), before)
    }

    /// Keeps the bytes until the rest has come, unless `gather` has done so. Returns how many were taken: all.
    private mutating func wait(
        _ record: UnsafeMutablePointer<TransportRecord>, _ bytes: UnsafeRawPointer, _ byteCount: Int, isGathered: Bool
    ) -> Int {
        if !isGathered,
            !keep(
                record, UnsafeRawBufferPointer(start: bytes, count: byteCount),
                byteCountMax: HTTPUpgrade.headByteCountMax)
        {
            end(record)
        }
        return byteCount
    }

    private mutating func forgetKept(_ record: UnsafeMutablePointer<TransportRecord>) {
        guard record.pointee.kept != 0 else { return }
        wipe(record.pointee.kept)
        blocks.release(record.pointee.kept)
        record.pointee.kept = 0
    }

    // MARK: Identity

    /// Keeps the request until the core has answered CONNECT: whoever authenticates the client may ask for it. False:
    /// there is no memory.
    private mutating func keepIdentity(
        _ record: UnsafeMutablePointer<TransportRecord>, _ request: UnsafeRawBufferPointer
    ) -> Bool {
        let old = record.pointee.identity
        let start = old == 0 ? 0 : MemoryLayout<ClientAddress>.stride
        let block = blocks.allocate(byteCount: start + request.count)
        guard block != 0 else { return false }
        if old != 0 {
            blocks.base(block).copyMemory(from: blocks.base(old), byteCount: MemoryLayout<ClientAddress>.size)
            blocks.release(old)
        }
        (blocks.base(block) + start).copyMemory(from: request.baseAddress!, byteCount: request.count)
        blocks.setUsed(block, start + request.count)
        record.pointee.identity = block
        return true
    }

    /// The request is not needed any more. It may hold a secret, so it is overwritten.
    mutating func dropIdentity(_ record: UnsafeMutablePointer<TransportRecord>, keepsAddress: Bool) {
        let block = record.pointee.identity
        guard block != 0 else { return }
        record.pointee.identity = 0
        if keepsAddress, record.pointee.flags.contains(.hasAddress) {
            let address = blocks.base(block).load(as: ClientAddress.self)
            let short = blocks.allocate(byteCount: MemoryLayout<ClientAddress>.size)
            if short != 0 {
                blocks.base(short).storeBytes(of: address, as: ClientAddress.self)
                blocks.setUsed(short, MemoryLayout<ClientAddress>.size)
                record.pointee.identity = short
            } else {
                record.pointee.flags.remove(.hasAddress)
            }
        }
        wipe(block)
        blocks.release(block)
    }

    private mutating func wipe(_ block: BlockIndex) {
        blocks.base(block).initializeMemory(as: UInt8.self, repeating: 0, count: blocks.used(block))
    }

    /// What the transport knows of a client. The request of a WebSocket is known until the core has sent its first frame.
    public mutating func identity(of connection: Slot) -> TransportIdentity {
        var identity = TransportIdentity()
        guard let record = find(connection) else { return identity }
        identity.address = address(of: record)
        guard record.pointee.identity != 0, facts(of: record).usesWebSocket else { return identity }
        let block = record.pointee.identity
        let start = record.pointee.flags.contains(.hasAddress) ? MemoryLayout<ClientAddress>.stride : 0
        guard blocks.used(block) > start else { return identity }
        identity.webSocket = WebSocketIdentity(
            UnsafeRawBufferPointer(start: blocks.base(block) + start, count: blocks.used(block) - start))
        return identity
    }

    /// The address that a proxy has named. nil: none has.
    public mutating func clientAddress(of connection: Slot) -> ClientAddress? {
        find(connection).flatMap { address(of: $0) }
    }

    private mutating func address(of record: UnsafeMutablePointer<TransportRecord>) -> ClientAddress? {
        guard record.pointee.flags.contains(.hasAddress) else { return nil }
        return blocks.base(record.pointee.identity).load(as: ClientAddress.self)
    }
}

/// An accepted connection that is not plain.
struct Arrival: BitwiseCopyable {
    var descriptor: Int32
    var listener: ListenerID
    /// Its peer has to be a proxy, and is not known to be one.
    var isStranger: Bool
    /// The address of its peer is known, and has been compared.
    var hasAddress = false
}

/// What a transport knows of a client, for whoever authenticates it and for the log.
public struct TransportIdentity: Sendable, Equatable {
    /// From a PROXY header. nil: the connection's own peer is the client.
    public var address: ClientAddress?
    public var webSocket: WebSocketIdentity?

    public init() {}
}
