internal import IO

/// What waits, in the order in which it came. It may name connections that are gone.
struct WaitingQueue<Element: BitwiseCopyable>: ~Copyable {
    private var elements = Batch<Element>(capacity: 64)
    private var head = 0

    var isEmpty: Bool { head == elements.count }
    var first: Element? { isEmpty ? nil : elements[head] }

    mutating func append(_ element: Element) { elements.append(element) }

    mutating func removeFirst() -> Element? {
        guard let first else { return nil }
        head += 1
        if head == elements.count || head > 4096 {
            elements.removeFirst(head)
            head = 0
        }
        return first
    }
}
