import Testing

/// Tests that load a broker of their own heavily. They run one after the other, so that each has the descriptors and
/// the CPUs that it counts on.
@Suite("Scale", .serialized)
struct Scale {
    static let workerCounts = [1, 2, 8]
}
