public import FuzzFrames

extension FuzzTarget {
    /// Those of the byte machines between sockets and STOMP.
    public static let transports: [FuzzTarget] = [
        FuzzTarget(name: "websocket", corpus: "websocket", dictionary: "transports.dict", byteCountMax: 1024) {
            { WebSocketFuzzer.check($0) }
        },
        FuzzTarget(name: "proxy", corpus: "proxy", dictionary: "transports.dict", byteCountMax: 512) {
            { HandshakeFuzzer.checkProxy($0) }
        },
        FuzzTarget(name: "http-upgrade", corpus: "http-upgrade", dictionary: "transports.dict", byteCountMax: 1024) {
            { HandshakeFuzzer.checkUpgrade($0) }
        },
    ]
}
