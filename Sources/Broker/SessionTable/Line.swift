import IO

/// Those who wait for their turn, in the order in which they came.
struct Line<Element: BitwiseCopyable>: ~Copyable {
    private var elements = Batch<Element>(capacity: 64)
    /// So many at the front have had their turn.
    private var takenCount = 0

    var isEmpty: Bool { elements.isEmpty }
    var count: Int { elements.count - takenCount }

    mutating func append(_ element: Element) {
        // Moves at most as many as were taken: a line that never empties does not grow for that.
        if takenCount > 0, takenCount * 2 >= elements.count {
            elements.removeFirst(takenCount)
            takenCount = 0
        }
        elements.append(element)
    }

    /// Takes the one whose turn it is; nil when nobody waits.
    mutating func popFirst() -> Element? {
        if elements.isEmpty { return nil }
        let element = elements[takenCount]
        takenCount += 1
        if takenCount == elements.count {
            elements.removeAll()
            takenCount = 0
        }
        return element
    }
}
