import Testing

@testable import Access

/// JSON of tokens and key sets.
@Suite("JSON")
struct JSONTests {
    private func read(_ text: String) -> JSONValue? { JSONValue(Array(text.utf8)) }

    @Test("Values of each kind are read")
    func values() {
        #expect(
            read(#" { "a" : [ 1 , -2.5e1 , true , false , null , "x\n\u00e9\ud83d\ude00\/" ] , "b" : { } } "#)
                == .object([
                    "a": .list([.number(1), .number(-25), .flag(true), .flag(false), .null, .text("x\né😀/")]),
                    "b": .object([:]),
                ]))
        #expect(read("[]") == .list([]))
        #expect(read("0") == .number(0))
        #expect(read("1e3")?.milliseconds == 1_000_000)
        #expect(read("-1")?.milliseconds == nil)
        #expect(read("1e300")?.milliseconds == nil)
        #expect(read(#"["a","b"]"#)?.texts == ["a", "b"])
        #expect(read(#"["a",1]"#)?.texts == nil)
    }

    @Test(
        "What is no JSON is refused",
        arguments: [
            "", " ", "{", "}", "[", "]", "{}{}", "[1,]", "[,1]", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}",
            "'a'",
            "01", "1.", ".5", "+1", "1e", "1e+", "-", "NaN", "Infinity", "1e999", "tru", "nul", "\"", "\"\\",
            "\"\\u12\"",
            "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"\\x41\"", "\"a\nb\"", "{\"a\":1,\"a\":2}", "1 2",
            String(repeating: "[", count: 17) + String(repeating: "]", count: 17),
        ])
    func wrong(_ text: String) { #expect(read(text) == nil, "\(text)") }

    @Test("A text that is cut anywhere is refused")
    func cut() {
        let whole = Array(#"{"a":[1,"b\u00e9",{"c":null}],"d":true}"#.utf8)
        #expect(JSONValue(whole) != nil)
        for count in 0..<whole.count { #expect(JSONValue(Array(whole[..<count])) == nil) }
        let bytes: [UInt8] = [0x22, 0xFF, 0x22]
        #expect(JSONValue(bytes) == nil, "not UTF-8")
    }
}
