import Access
import Glibc
import Transports

/// Why a service gave no answer that can be used.
struct ServiceFailure: Error, Equatable {
    let reason: String

    init(_ reason: String) { self.reason = reason }
}

/// One connection to a login service: opened when it is needed, and kept for the next question.
///
/// It blocks its thread, until the deadline of the question at most. But the name of the service is looked up as the
/// system does it, which may take longer.
final class ServiceConnection {
    private let url: ServiceURL
    private let context: TLSContext?
    /// The broker ends: nobody waits for an answer any more.
    private let isStopping: () -> Bool
    private var fd: Int32 = -1
    private var tls: TLSClientStream?
    private var received: [UInt8] = []
    private var isEnded = false
    private var chunk = [UInt8](repeating: 0, count: 16 << 10)

    /// - Parameter context: whom to trust. nil: it is plain HTTP.
    init(_ url: ServiceURL, _ context: TLSContext?, isStopping: @escaping () -> Bool) {
        self.url = url
        self.isStopping = isStopping
        self.context = url.isTLS ? context : nil
    }

    deinit { disconnect() }

    /// Asks and waits for the answer.
    ///
    /// A connection that was kept may have been closed by the service just then. It is opened once more where nothing of
    /// an answer has come.
    ///
    /// - Parameter deadline: milliseconds of `Clock.monotonicNanoseconds`.
    func exchange(_ request: [UInt8], deadline: UInt64) throws(ServiceFailure) -> HTTPResponse {
        if fd >= 0 {
            do throws(ServiceFailure) {
                return try exchangeOnce(request, deadline: deadline)
            } catch {
                let mayTryAgain = received.isEmpty && Self.remaining(until: deadline) > 0
                disconnect()
                guard mayTryAgain else { throw error }
            }
        }
        do throws(ServiceFailure) {
            try connect(deadline: deadline)
            return try exchangeOnce(request, deadline: deadline)
        } catch {
            disconnect()
            throw error
        }
    }

    private func exchangeOnce(_ request: [UInt8], deadline: UInt64) throws(ServiceFailure) -> HTTPResponse {
        received = []
        if let tls { tls.send(request) }
        try send(tls == nil ? request : takeCiphertext(), deadline: deadline)
        while true {
            let response: HTTPResponse?
            do throws(HTTPResponse.Failure) {
                response = try HTTPResponse.parse(received, isEnd: isEnded)
            } catch {
                throw ServiceFailure(error.reason)
            }
            if let response {
                if !response.keepsConnection { disconnect() }
                return response
            }
            try receive(deadline: deadline)
        }
    }

    private func disconnect() {
        if fd >= 0 { close(fd) }
        fd = -1
        tls = nil
        isEnded = false
    }

    // MARK: Connecting

    private func connect(deadline: UInt64) throws(ServiceFailure) {
        var failure = ServiceFailure("\(url.host) has no address")
        for address in try addresses() {
            do throws(ServiceFailure) {
                try open(address, deadline: deadline)
                return try startTLS(deadline: deadline)
            } catch {
                disconnect()
                failure = error
                if Self.remaining(until: deadline) == 0 { break }
            }
        }
        throw failure
    }

    private struct Address {
        var family: Int32
        var bytes: [UInt8]
    }

    private static let addressCountMax = 8

    private func addresses() throws(ServiceFailure) -> [Address] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICSERV | (url.isAddress ? AI_NUMERICHOST : AI_ADDRCONFIG)
        var list: UnsafeMutablePointer<addrinfo>?
        let result = getaddrinfo(url.host, "\(url.port)", &hints, &list)
        guard result == 0 else { throw ServiceFailure("\(url.host): \(String(cString: gai_strerror(result)))") }
        defer { freeaddrinfo(list) }
        var addresses: [Address] = []
        var next = list
        while let entry = next, addresses.count < Self.addressCountMax {
            let bytes = UnsafeRawBufferPointer(start: entry.pointee.ai_addr, count: Int(entry.pointee.ai_addrlen))
            addresses.append(Address(family: entry.pointee.ai_family, bytes: Array(bytes)))
            next = entry.pointee.ai_next
        }
        return addresses
    }

    private func open(_ address: Address, deadline: UInt64) throws(ServiceFailure) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        fd = socket(address.family, type, 0)
        guard fd >= 0 else { throw Self.failure("no socket can be made", errno) }
        let result = address.bytes.withUnsafeBytes {
            Glibc.connect(fd, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
        if result == 0 { return }
        guard errno == EINPROGRESS else { throw Self.failure("it cannot be reached", errno) }
        try wait(for: Int16(POLLOUT), deadline: deadline, "no connection")
        var error: Int32 = 0
        var count = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &count)
        guard error == 0 else { throw Self.failure("it cannot be reached", error) }
    }

    private func startTLS(deadline: UInt64) throws(ServiceFailure) {
        guard let context else { return }
        let stream: TLSClientStream
        do throws(TLSProblem) {
            stream = try TLSClientStream(context, serverName: url.host, isAddress: url.isAddress)
        } catch {
            throw ServiceFailure(error.description)
        }
        tls = stream
        try send(takeCiphertext(), deadline: deadline)
        while !stream.isOpen {
            if isEnded { throw ServiceFailure("the connection ended within the handshake of TLS") }
            try receive(deadline: deadline)
        }
    }

    // MARK: Bytes

    private func takeCiphertext() -> [UInt8] {
        defer { tls?.output = [] }
        return tls?.output ?? []
    }

    private func send(_ bytes: [UInt8], deadline: UInt64) throws(ServiceFailure) {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(fd, $0.baseAddress! + offset, $0.count - offset, Int32(MSG_NOSIGNAL))
            }
            if count > 0 {
                offset += count
            } else if errno == EAGAIN {
                try wait(for: Int16(POLLOUT), deadline: deadline, "it reads nothing")
            } else if errno != EINTR {
                throw Self.failure("the connection failed", errno)
            }
        }
    }

    /// Waits for bytes, or for the end.
    private func receive(deadline: UInt64) throws(ServiceFailure) {
        while true {
            let count = recv(fd, &chunk, chunk.count, 0)
            if count >= 0 {
                if count == 0 { isEnded = true }
                return try take(chunk[..<count], deadline: deadline)
            }
            if errno == EAGAIN {
                try wait(for: Int16(POLLIN), deadline: deadline, "no answer")
            } else if errno != EINTR {
                throw Self.failure("the connection failed", errno)
            }
        }
    }

    private func take(_ bytes: ArraySlice<UInt8>, deadline: UInt64) throws(ServiceFailure) {
        guard let tls else { return received += bytes }
        received += tls.receive(bytes)
        let answer = takeCiphertext()
        if !answer.isEmpty { try send(answer, deadline: deadline) }
        if let failure = tls.failure { throw ServiceFailure(failure.description) }
        if tls.isEnded { isEnded = true }
    }

    private static func remaining(until deadline: UInt64) -> UInt64 {
        let now = Clock.monotonicNanoseconds / 1_000_000
        return deadline > now ? deadline - now : 0
    }

    private func wait(for events: Int16, deadline: UInt64, _ what: String) throws(ServiceFailure) {
        while !isStopping() {
            let milliseconds = Self.remaining(until: deadline)
            if milliseconds == 0 { throw ServiceFailure("\(what) in time (access.http.timeout-ms)") }
            var entry = pollfd(fd: fd, events: events, revents: 0)
            let count = poll(&entry, 1, Int32(min(milliseconds, Self.lookMilliseconds)))
            if count > 0 || count < 0 && errno == EINTR { return }
        }
        throw ServiceFailure("the broker ends")
    }

    /// How often it looks whether the broker ends.
    private static let lookMilliseconds: UInt64 = 100

    private static func failure(_ text: String, _ error: Int32) -> ServiceFailure {
        ServiceFailure("\(text): \(String(cString: strerror(error)))")
    }
}
