public import FuzzFrames

extension FuzzTarget {
    /// Those that need the core or the configuration.
    public static let broker: [FuzzTarget] = [
        FuzzTarget(name: "session", corpus: "session", dictionary: "stomp.dict", byteCountMax: 2048) {
            { SessionFuzzer.check($0) }
        },
        FuzzTarget(name: "simulation", corpus: "simulation", dictionary: "stomp.dict", byteCountMax: 4096) {
            { SimulationFuzzer.check($0) }
        },
        FuzzTarget(
            name: "simulation-transports", corpus: "simulation-transports", dictionary: "stomp.dict",
            byteCountMax: 4096
        ) {
            { SimulationFuzzer.check($0, mode: .transports) }
        },
        FuzzTarget(
            name: "configuration", corpus: "configuration", dictionary: "configuration.dict", byteCountMax: 4096
        ) {
            let fuzzer = ConfigurationFuzzer()
            return { fuzzer.check($0) }
        },
        FuzzTarget(name: "users", corpus: "users", dictionary: "users.dict", byteCountMax: 2048) {
            let fuzzer = UsersFuzzer()
            return { fuzzer.check($0) }
        },
        FuzzTarget(name: "token", corpus: "token", dictionary: "token.dict", byteCountMax: 1024) {
            let fuzzer = TokenFuzzer()
            return { fuzzer.check($0) }
        },
    ]
}
