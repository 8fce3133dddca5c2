import TestSupport
import Testing

/// The first argument of every test of a real broker: it runs once on each driver that this build and this kernel have.
let drivers = DriverUnderTest.available

/// Every pair of one of each: the testing library itself combines no more than two collections, and one is the drivers.
func pairs<First: Sendable, Second: Sendable>(_ first: [First], _ second: [Second]) -> [(First, Second)] {
    first.flatMap { one in second.map { (one, $0) } }
}

/// Its tests run one after the other: some load the machine, and others watch clocks.
@Suite("Integration", .serialized)
struct Integration {}

/// Other people's clients, proxies and browsers. One after the other too; most of the time they wait.
@Suite("Interoperability", .serialized)
struct Interoperability {}
