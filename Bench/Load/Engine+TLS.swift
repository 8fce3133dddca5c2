import Drivers
import Glibc
import IO
import Slabs
import Transports

// TLS: an outbox holds plaintext until it is sent, and what the server sends is decrypted before anybody looks at it.
extension Engine where D: ~Copyable {
    // MARK: Receiving

    mutating func secure(_ place: Int, _ tls: TLSClients) {
        clients[place].phase = .securing
        guard tls.begin(place) else { return failed(place, "no memory for a connection") }
        // Without input, it says hello.
        decrypt(place, UnsafeRawBufferPointer(start: nil, count: 0), tls)
    }

    mutating func receivedCiphertext(_ place: Int, _ bytes: UnsafeRawBufferPointer, _ tls: TLSClients) {
        tls.count(place, bytes, &report.counts.encrypted)
        decrypt(place, bytes, tls)
    }

    private mutating func decrypt(_ place: Int, _ bytes: UnsafeRawBufferPointer, _ tls: TLSClients) {
        var input = bytes
        while true {
            let result = tls.read(place, &input)
            if tls.output.count > 0 { sayCiphertext(place, tls) }
            if clients[place].phase == .securing, tls.isEstablished(place) {
                if report.cipher == nil { report.cipher = tls.cipher(place) }
                opened(place)
            }
            if result.plaintextByteCount > 0 {
                report.counts.encrypted.receivedBytes += result.plaintextByteCount
                receivedPlaintext(place, UnsafeRawBufferPointer(rebasing: tls.plaintext[..<result.plaintextByteCount]))
            }
            guard clients[place].phase != .closing else { return }
            switch result.outcome {
            case .plaintextFull, .outputFull: continue
            case .needsInput: return
            case .ended: return ended(place, errorNumber: 0)
            case .failed: return failed(place, "\(result.failure)")
            }
        }
    }

    private mutating func failed(_ place: Int, _ text: String) {
        control.fail("TLS: \(text)")
        ended(place, errorNumber: 0)
    }

    // MARK: Sending

    /// Appends messages of TLS itself to what is encrypted: plaintext that waits is encrypted after them.
    private mutating func sayCiphertext(_ place: Int, _ tls: TLSClients) {
        let outbox = listedOutbox(of: place)
        let byteCount = tls.output.count
        outbox.pointee.reserve(byteCount)
        let start = max(outbox.pointee.start, outbox.pointee.encryptedEnd)
        let bytes = outbox.pointee.bytes + start
        memmove(bytes + byteCount, bytes, outbox.pointee.end - start)
        memcpy(bytes, tls.output.base, byteCount)
        outbox.pointee.encryptedEnd = start + byteCount
        outbox.pointee.end += byteCount
        if outbox.pointee.messageStart >= start { outbox.pointee.messageStart += byteCount }
    }

    /// Encrypts the plaintext of the outbox.
    mutating func encrypt(_ outbox: UnsafeMutablePointer<Outbox>, _ place: Int, _ tls: TLSClients) {
        let start = max(outbox.pointee.start, outbox.pointee.encryptedEnd)
        let byteCount = outbox.pointee.end - start
        guard byteCount > 0 else { return }
        report.counts.encrypted.sentBytes += byteCount
        let plaintext = UnsafeRawBufferPointer(start: outbox.pointee.bytes + start, count: byteCount)
        let isEncrypted = tls.encrypt(place, plaintext)
        invariant(isEncrypted, "an open connection of TLS takes plaintext")
        outbox.pointee.end = start
        outbox.pointee.reserve(tls.output.count)
        memcpy(outbox.pointee.bytes + start, tls.output.base, tls.output.count)
        outbox.pointee.end = start + tls.output.count
        outbox.pointee.encryptedEnd = outbox.pointee.end
    }
}
