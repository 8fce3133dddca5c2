import Simulator

/// Lets octets decide what the simulator draws: the scenario, what clients do, which faults strike. Its oracle judges.
///
///     | seed | the upper octets of the first numbers drawn ...
///     0      2
enum SimulationFuzzer {
    static func check(_ octets: UnsafeRawBufferPointer, mode: Simulation.Mode = .plain) -> String? {
        guard octets.count >= 2 else { return nil }
        let seed = UInt64(octets[0]) << 8 | UInt64(octets[1])
        return Simulation.run(seed: seed, steering: Array(octets.dropFirst(2)), mode: mode).violation
    }
}
