import CTLS
import Glibc

/// Reads the files of TLS, and says what is wrong with them in words for the operator.
enum TLSFiles {
    /// A chain has a few KiB, a list of authorities some hundred. A larger file was named by mistake.
    static let byteCountMax = 4 << 20

    /// The bytes of a file, for as long as `body` runs. They are wiped afterwards, because they may be a key.
    static func withBytes<Result>(
        of path: String, role: TLSProblem.Role, _ body: (UnsafeRawBufferPointer) throws(TLSProblem) -> Result
    ) throws(TLSProblem) -> Result {
        let fd = open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else { throw cannotRead(path, role, errno) }
        defer { close(fd) }
        var status = stat()
        guard fstat(fd, &status) == 0 else { throw cannotRead(path, role, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw TLSProblem(role: role, file: path, text: "is not a file; name a PEM file")
        }
        guard status.st_size <= byteCountMax else {
            throw TLSProblem(
                role: role, file: path, text: "has \(status.st_size) bytes; a PEM file has at most \(byteCountMax)")
        }
        // One byte more tells whether the file grew meanwhile. It is no error: the PEM blocks that are read decide.
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(status.st_size) + 1, alignment: 16)
        defer {
            explicit_bzero(bytes.baseAddress!, bytes.count)
            bytes.deallocate()
        }
        var count = 0
        while count < bytes.count {
            let result = read(fd, bytes.baseAddress! + count, bytes.count - count)
            if result < 0 && errno == EINTR { continue }
            guard result >= 0 else { throw cannotRead(path, role, errno) }
            if result == 0 { break }
            count += result
        }
        return try body(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }

    private static func cannotRead(_ path: String, _ role: TLSProblem.Role, _ number: Int32) -> TLSProblem {
        var text = "cannot be read: \(String(cString: strerror(number)))"
        if number == EACCES {
            text += "; give the user of the broker (uid \(geteuid())) the right to read it, and its directories"
        }
        return TLSProblem(role: role, file: path, text: text)
    }

    /// The problem that a result of the shim stands for. nil: none.
    ///
    /// - Parameter bytes: the content of the file that the result is about.
    static func problem(
        _ result: tls_file_result, _ role: TLSProblem.Role, _ path: String, certificate: String = "",
        reason: String, bytes: UnsafeRawBufferPointer
    ) -> TLSProblem? {
        let text: String
        switch result {
        case TLS_FILE_OK: return nil
        case TLS_FILE_NO_CERTIFICATE: text = "holds no PEM certificate" + hint(bytes, lacks: "CERTIFICATE", path)
        case TLS_FILE_NO_KEY: text = "holds no PEM private key" + hint(bytes, lacks: "PRIVATE KEY", path)
        case TLS_FILE_BAD_CERTIFICATE: text = "the certificate is refused: \(reason)" + advice(reason)
        case TLS_FILE_BAD_KEY: text = "the private key is refused: \(reason)" + advice(reason)
        case TLS_FILE_KEY_ENCRYPTED:
            text = """
                the private key is encrypted, and the broker cannot ask for its passphrase; decrypt it with \
                `openssl pkey -in \(path) -out NEW`, and let only the user of the broker read the new file
                """
        case TLS_FILE_KEY_MISMATCH:
            text = """
                the private key does not belong to the certificate in \(certificate); name the key that the certificate \
                was made for
                """
        case TLS_FILE_NAMES_TAKEN:
            text = "every name of this certificate is served by an earlier one, so it would never be used; remove it"
        case TLS_FILE_NO_NAMES:
            text = "this certificate names no host, so no client could ask for it; make it the first one or remove it"
        default: text = "there is no memory for it"
        }
        return TLSProblem(role: role, file: path, text: text)
    }

    /// What the file holds instead, if that can be told.
    private static func hint(_ bytes: UnsafeRawBufferPointer, lacks wanted: String, _ path: String) -> String {
        let isCertificateWanted = wanted == "CERTIFICATE"
        if bytes.isEmpty { return "; it is empty" }
        if contains(bytes, isCertificateWanted ? "PRIVATE KEY-----" : "-----BEGIN CERTIFICATE-----") {
            return ", but a \(isCertificateWanted ? "private key" : "certificate"); \(TLSProblem.exchangeAdvice)"
        }
        // DER: a SEQUENCE with a length of two bytes.
        if bytes.count > 2, bytes[0] == 0x30, bytes[1] == 0x82 {
            let command = isCertificateWanted ? "x509" : "pkey"
            return ", but probably DER; convert it with `openssl \(command) -inform der -in \(path) -out NEW`"
        }
        return "; it must have a block that begins with -----BEGIN \(wanted)-----"
    }

    private static func advice(_ reason: String) -> String {
        reason.contains("too small") || reason.contains("too weak")
            ? "; make a new one (ECDSA P-256, or RSA with 2048 bits or more, signed with SHA-256)" : "; make a new one"
    }

    private static func contains(_ bytes: UnsafeRawBufferPointer, _ text: String) -> Bool {
        bytes.firstRange(of: text.utf8) != nil
    }
}
