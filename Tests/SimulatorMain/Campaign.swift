import Glibc
import Simulator
import Synchronization

/// Many seeds on several threads, counted together.
final class Campaign: Sendable {
    struct Totals {
        var seeds = 0
        var turns = 0
        var frames = 0
        var messages = 0
        var violations = 0
        var faults = [Int](repeating: 0, count: Fault.allCases.count)
    }

    private let first: UInt64
    private let last: UInt64
    private let canary: Canary?
    private let isVerbose: Bool
    private let violationsMax: Int
    private let nextSeed: Atomic<UInt64>
    private let totals = Mutex(Totals())

    var violationCount: Int { totals.withLock { $0.violations } }

    init(first: UInt64, last: UInt64, canary: Canary?, isVerbose: Bool, violationsMax: Int) {
        self.first = first
        self.last = last
        self.canary = canary
        self.isVerbose = isVerbose
        self.violationsMax = violationsMax
        nextSeed = Atomic(first)
    }

    func run(jobs: Int) {
        let start = seconds()
        var threads: [pthread_t] = []
        for _ in 0..<jobs {
            var thread = pthread_t()
            let result = pthread_create(
                &thread, nil,
                { argument in
                    Unmanaged<Campaign>.fromOpaque(argument!).takeRetainedValue().work()
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            if result == 0 { threads.append(thread) }
        }
        for thread in threads { pthread_join(thread, nil) }
        let elapsed = seconds() - start
        totals.withLock { totals in
            print(
                "\(totals.seeds) seeds, \(totals.turns) turns, \(totals.frames) frames, \(totals.messages) messages, "
                    + "\(totals.violations) violations, \(Int(Double(totals.seeds) / max(elapsed, 0.001))) seeds/s")
            for fault in Fault.allCases { print("  \(fault): \(totals.faults[fault.rawValue])") }
        }
    }

    private func work() {
        while true {
            let seed = nextSeed.add(1, ordering: .relaxed).oldValue
            if seed > last || violationCount >= violationsMax { return }
            Self.remember(seed)
            let outcome = Simulation.run(seed: seed, canary: canary)
            totals.withLock { totals in
                totals.seeds += 1
                totals.turns += outcome.turnCount
                totals.frames += outcome.frameCount
                totals.messages += outcome.messageCount
                for place in totals.faults.indices { totals.faults[place] += outcome.faultCounts[place] }
                if let violation = outcome.violation {
                    totals.violations += 1
                    print("VIOLATION seed \(seed) trace \(String(outcome.traceHash, radix: 16)): \(violation)")
                } else if isVerbose {
                    print("seed \(seed) trace \(String(outcome.traceHash, radix: 16))")
                }
                if totals.seeds % 1000 == 0 { print("\(totals.seeds) seeds, \(totals.violations) violations") }
            }
        }
    }

    private func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    // MARK: The seed of a thread that crashes

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        pthread_key_create(&key, nil)
        return key
    }()

    private static func remember(_ seed: UInt64) { pthread_setspecific(key, UnsafeRawPointer(bitPattern: UInt(seed))) }

    /// Async-signal-safe: no allocation, one write(2).
    static func tellSeed() {
        var seed = UInt(bitPattern: pthread_getspecific(key))
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { text in
            var place = 63
            text[place] = 10
            repeat {
                place -= 1
                text[place] = UInt8(48 + seed % 10)
                seed /= 10
            } while seed > 0
            for byte in "CRASHED in seed ".utf8.reversed() {
                place -= 1
                text[place] = byte
            }
            write(2, text.baseAddress! + place, 64 - place)
        }
    }
}
