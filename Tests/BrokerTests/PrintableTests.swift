import Testing

@testable import Broker

/// What the log and ERROR show of bytes that clients send.
@Suite("Printable text")
struct PrintableTests {
    private func printed(_ bytes: [UInt8]) -> String { bytes.withUnsafeBytes { printable($0) } }

    @Test(
        "UTF-8 without control characters stays as it is, and all else is escaped by bytes",
        arguments: [
            ([], ""), (Array("DOM\\bob".utf8), "DOM\\bob"), (Array("jürgen €😀".utf8), "jürgen €😀"),
            (Array("a\n\u{7F}\u{85}b\0".utf8), "a\\x0a\\x7f\\xc2\\x85b\\x00"),
            ([0x61, 0xFF, 0xC3, 0x62, 0xE2, 0x82], "a\\xff\\xc3b\\xe2\\x82"), ([0xC0, 0x80], "\\xc0\\x80"),
            ([0xED, 0xA0, 0x80, 0x41], "\\xed\\xa0\\x80A"),
        ] as [([UInt8], String)])
    func escapes(_ bytes: [UInt8], _ expected: String) { #expect(printed(bytes) == expected) }

    @Test("Text ends after 256 bytes, between characters")
    func cut() {
        #expect(printed(Array(repeating: 0x61, count: 256)) == String(repeating: "a", count: 256))
        #expect(printed(Array(repeating: 0x61, count: 257)) == String(repeating: "a", count: 256) + "…")
        let long = "x" + String(repeating: "é", count: 200)
        #expect(printed(Array(long.utf8)) == "x" + String(repeating: "é", count: 127) + "…")
        #expect(printed(Array(repeating: 0x80, count: 300)).hasPrefix("\\x80\\x80"))
    }
}
