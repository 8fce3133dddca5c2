import Simulator
import Testing

@Suite("Simulator")
struct SimulatorTests {
    @Test("Some seeds find nothing wrong", arguments: [UInt64](1...50))
    func seedsAreClean(seed: UInt64) {
        #expect(Simulation.run(seed: seed).violation == nil)
    }
}
