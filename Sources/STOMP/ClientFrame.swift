import Slabs

/// A frame as a client holds it, for the tools and for tests: comfortable, and not for the broker's hot path.
public struct ClientFrame: Equatable, Sendable {
    public struct Header: Equatable, Sendable {
        public var name: String
        public var value: String

        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    public var command: Command
    /// In order, unescaped. Of repeated headers the first counts.
    public var headers: [Header]
    public var body: [UInt8]

    public init(_ command: Command, _ headers: [(String, String)] = [], body: [UInt8] = []) {
        self.command = command
        self.headers = headers.map { Header($0.0, $0.1) }
        self.body = body
    }

    public init(_ command: Command, _ headers: [(String, String)] = [], text: String) {
        self.init(command, headers, body: Array(text.utf8))
    }

    /// The value of the first header of that name.
    public subscript(_ name: String) -> String? {
        headers.first { $0.name == name }?.value
    }

    /// The body read as UTF-8, with replacement characters where it is not.
    public var text: String { String(decoding: body, as: UTF8.self) }

    /// The octets of the frame, up to and with its NUL. A body gets a content-length unless the headers hold one.
    public func encoded(_ version: Version) -> [UInt8] {
        var headers = self.headers
        if !body.isEmpty && self["content-length"] == nil { headers.append(Header("content-length", "\(body.count)")) }
        let headersByteCount = headers.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count + 1 }
        let byteCountMax = 16 + FrameWriter.escapedByteCountMax(headersByteCount) + body.count
        return [UInt8](unsafeUninitializedCapacity: byteCountMax) { buffer, count in
            let start = UnsafeMutableRawPointer(buffer.baseAddress.unsafelyUnwrapped)
            var writer = FrameWriter(at: start)
            writer.write(command.text)
            writer.write(Byte.lineFeed)
            for header in headers {
                writer.writeEscaped(header.name, version, isConnectFrame: command.precedesVersion)
                writer.write(Byte.colon)
                writer.writeEscaped(header.value, version, isConnectFrame: command.precedesVersion)
                writer.write(Byte.lineFeed)
            }
            writer.write(Byte.lineFeed)
            body.withUnsafeBytes { writer.write($0) }
            writer.write(Byte.nul)
            count = writer.cursor - start
            invariant(count <= byteCountMax, "an encoded frame outgrew its reserve")
        }
    }
}

extension FrameWriter {
    fileprivate mutating func writeEscaped(_ text: String, _ version: Version, isConnectFrame: Bool) {
        var text = text
        text.withUTF8 { utf8 in
            writeEscaped(UnsafeRawBufferPointer(utf8), version: version, isConnectFrame: isConnectFrame)
        }
    }
}
