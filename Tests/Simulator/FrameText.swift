/// A client's frame in the making.
struct FrameText {
    private var bytes: [UInt8] = []
    var body: [UInt8] = []
    var hasLength = false

    init(_ command: String) {
        bytes.reserveCapacity(200)
        bytes.append(contentsOf: command.utf8)
        bytes.append(10)
    }

    /// Adds a header whose value needs no escaping, or is escaped as `version` has it.
    mutating func add(_ name: String, _ value: String, version: Int = 10) {
        bytes.append(contentsOf: name.utf8)
        bytes.append(58)
        if version == 10 {
            bytes.append(contentsOf: value.utf8)
        } else {
            for byte in value.utf8 {
                switch byte {
                case 10: bytes.append(contentsOf: "\\n".utf8)
                case 58: bytes.append(contentsOf: "\\c".utf8)
                case 92: bytes.append(contentsOf: "\\\\".utf8)
                default: bytes.append(byte)
                }
            }
        }
        bytes.append(10)
    }

    consuming func finished() -> [UInt8] {
        if hasLength { add("content-length", "\(body.count)") }
        bytes.append(10)
        bytes.append(contentsOf: body)
        bytes.append(0)
        return bytes
    }
}
