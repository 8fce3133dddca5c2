import Glibc

/// The names in a certificate that was verified, as far as they can name a user.
public struct CertificateNames: Sendable, Equatable {
    /// nil: there is none, or several.
    public var commonName: String?
    /// The whole subject as RFC 2253 writes it: "CN=alice,O=Example".
    public var subject: String?
    /// Of the alternative names.
    public var dnsNames: [String]
    public var emails: [String]
    public var uris: [String]

    public init(
        commonName: String? = nil, subject: String? = nil, dnsNames: [String] = [], emails: [String] = [],
        uris: [String] = []
    ) {
        self.commonName = commonName
        self.subject = subject
        self.dnsNames = dnsNames
        self.emails = emails
        self.uris = uris
    }
}

/// Which of a certificate's names is that of the user.
public enum CertificateField: String, Sendable, CaseIterable {
    /// Certificates are no logins.
    case none
    /// The common name of the subject.
    case commonName = "cn"
    /// The first alternative name of the kind.
    case dnsName = "san-dns"
    case email = "san-email"
    case uri = "san-uri"
    /// The whole subject.
    case subject = "dn"

    /// nil: the certificate has no such name, or one that no user can have.
    func user(of names: CertificateNames) -> [UInt8]? {
        let name =
            switch self {
            case .none: nil as String?
            case .commonName: names.commonName
            case .dnsName: names.dnsNames.first
            case .email: names.emails.first
            case .uri: names.uris.first
            case .subject: names.subject
            }
        guard let name, UsersFile.problem(ofUserName: name) == nil else { return nil }
        return Array(name.utf8)
    }
}

/// The users of the system that the broker runs on.
enum SystemUsers {
    /// The number of a user: "www-data", or a number in digits. nil: there is no such user.
    static func number(of name: String) -> UInt32? {
        if name.utf8.allSatisfy({ (0x30...0x39).contains($0) }) { return UInt32(name) }
        return lookUp { getpwnam_r(name, $0, $1, $2, $3) }?.number
    }

    /// nil: the number has no name.
    static func name(of number: UInt32) -> String? { lookUp { getpwuid_r(number, $0, $1, $2, $3) }?.name }

    private typealias Search = (
        UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
        UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
    ) -> Int32

    /// Any thread may search: getpwnam_r(3) needs room for the strings, and says when it has too little.
    private static func lookUp(_ search: Search) -> (name: String, number: UInt32)? {
        var byteCount = 1024
        while byteCount <= 1 << 20 {
            let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: byteCount)
            defer { buffer.deallocate() }
            var entry = passwd()
            var result: UnsafeMutablePointer<passwd>?
            let error = search(&entry, buffer, byteCount, &result)
            if error == ERANGE {
                byteCount *= 4
                continue
            }
            guard error == 0, result != nil, let name = entry.pw_name else { return nil }
            return (String(cString: name), entry.pw_uid)
        }
        return nil
    }
}
