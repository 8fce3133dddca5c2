import STOMP
import Testing

@Suite struct HeaderTests {
    @Test(arguments: Version.allCases)
    func aHeaderIsSplitAtItsFirstColon(version: Version) {
        let frame = read("SEND\na:b:c::\n\n\0", version).only
        #expect(frame?.headers == ["a=b:c::"])
        #expect(frame?.fields[0].flags == HeaderFlags.valueHasColon.rawValue)
    }

    @Test(arguments: Version.allCases)
    func aValueMayBeEmpty(version: Version) {
        #expect(read("SEND\na:\nb:\n\n\0", version).only?.headers == ["a=", "b="])
    }

    @Test func blanksBelongToHeadersFrom1_1On() {
        for version in [Version.v1_1, .v1_2] {
            #expect(read("SEND\n a : b\t\n : \n\n\0", version).only?.headers == [" a = b\t", " = "])
        }
    }

    @Test func version1_0Trims() {
        let frame = read("SEND\n \tdestination : /queue/a b \t\ncontent-length: 2\n\nab\0", .v1_0).only
        #expect(frame?.headers == ["destination=/queue/a b", "content-length=2"])
        #expect(frame?.hasContentLength == true)
        #expect(frame?.isPlain == false)
    }

    @Test(arguments: Version.allCases)
    func aLineWithoutAColonFails(version: Version) {
        let outcome = read("SEND\nreceipt:7\nno colon\n\n\0", version)
        #expect(outcome.failure == .headerWithoutColon)
        #expect(outcome.failureOffset == 15)
        #expect(outcome.receipt == "7")
        #expect(read("SEND\n \n\n\0", version).failure == .headerWithoutColon)
    }

    @Test(arguments: Version.allCases)
    func aHeaderWithoutANameFails(version: Version) {
        #expect(read("SEND\n:value\n\n\0", version).failure == .headerWithoutName)
        #expect(read("CONNECT\n:value\n\n\0", version).failure == .headerWithoutName)
    }

    @Test func aNameOfBlanksIsNoneIn1_0() {
        #expect(read("SEND\n \t:value\n\n\0", .v1_0).failure == .headerWithoutName)
        #expect(read("CONNECT\n \t:value\n\n\0", expectsConnect: true).failure == .headerWithoutName)
    }

    @Test(
        arguments: Version.allCases,
        ["SEND\n\0", "SEND\na\0", "SEND\na:\0", "SEND\na:b\0", "SEND\na:b\n\0", "CONNECT\n\0"])
    func nulInHeadersFails(version: Version, text: String) {
        #expect(read(text, version).failure == .nulInHeaders)
        #expect(read(text, version).failureOffset == text.utf8.count - 1)
    }

    @Test func everyEscapeOfItsVersionIsTaken() {
        #expect(read(#"SEND\#na\n\c\\:\\n\c\n\#n\#n\#0"#, .v1_1).only?.headers == [#"a\n\c\\=\\n\c\n"#])
        #expect(read(#"SEND\#na\r\n\c\\:\\r\c\r\#n\#n\#0"#, .v1_2).only?.headers == [#"a\r\n\c\\=\\r\c\r"#])
    }

    @Test(arguments: [#"\t"#, #"\a"#, #"\N"#, #"\:"#, #"\ "#, #"\"#, #"\\\"#, #"\0"#, #"\é"#])
    func anUndefinedEscapeFails(escape: String) {
        for version in [Version.v1_1, .v1_2] {
            #expect(read("SEND\na:b\(escape)\n\n\0", version).failure == .undefinedEscape)
            #expect(read("SEND\na\(escape)", version).failure == .undefinedEscape || escape.hasSuffix(#"\"#))
        }
    }

    @Test func anUndefinedEscapeFailsBeforeItsLineEnds() {
        #expect(read(#"SEND\#na:\x"#).failure == .undefinedEscape)
        #expect(read(#"SEND\#na:\"#).isPartial)
        #expect(read("SEND\na:\\\r\n\n\0").failure == .undefinedEscape)
        #expect(read("SEND\na:\\\n\n\0").failureOffset == 7)
    }

    @Test func anEscapedCarriageReturnIsFatalIn1_1() {
        #expect(read(#"SEND\#na:\r\#n\#n\#0"#, .v1_1).failure == .undefinedEscape)
    }

    @Test func backslashesAreOrdinaryIn1_0AndInConnect() {
        #expect(read(#"SEND\#na:\t\r\x\#n\#n\#0"#, .v1_0).only?.headers == [#"a=\t\r\x"#])
        for command in ["CONNECT", "STOMP", "CONNECTED"] {
            let outcome = read(
                "\(command)\nversion:1.2\naccept-version:1.2\nlogin:\\t\\q\\\n\n\0", acceptsServerFrames: true)
            #expect(outcome.only?.headers.last == #"login=\t\q\"#)
        }
    }

    @Test func connectIsTrimmedOnlyIf1_0IsWhatItAsksFor() {
        #expect(read("CONNECT\nlogin: guest \n\n\0").only?.headers == ["login=guest"])
        #expect(
            read("CONNECT\naccept-version: 1.0\nlogin: guest \n\n\0").only?.headers == [
                "accept-version=1.0", "login=guest",
            ])
        #expect(read("CONNECT\naccept-version:1.0,1.1\nlogin: guest \n\n\0").only?.headers.last == "login= guest ")
        #expect(read("CONNECT\naccept-version:2.0\nlogin: guest \n\n\0").only?.headers.last == "login= guest ")
        let login = withFrame("CONNECT\n login : guest \n\n\0") { Array($0.rawValue(.login)!) }
        #expect(login == Array("guest".utf8))
    }

    @Test func octetsBeyondAsciiPassThrough() {
        var bytes = Array("SEND\nnäme:välue €\n".utf8)
        bytes += [0x61, 0x3A] + [0x80, 0xBA, 0x8A, 0x8D, 0xDC, 0xFF, 0x01, 0x09, 0x0B, 0x7F] + Array("\n\n\0".utf8)
        let frame = read(bytes, Reading()).only
        #expect(frame?.fields[1].value == [0x80, 0xBA, 0x8A, 0x8D, 0xDC, 0xFF, 0x01, 0x09, 0x0B, 0x7F])
        #expect(frame?.isPlain == true)
    }
}

@Suite struct KnownHeaderTests {
    private func knownNames(_ lines: String) -> [HeaderName] {
        withFrame("RECEIPT\n\(lines)\n\n\0") { frame in HeaderName.allCases.filter { frame.has($0) } }
    }

    @Test(arguments: HeaderName.allCases.filter { !$0.text.string.isEmpty })
    func everyKnownNameIsFound(name: HeaderName) {
        let lines = "other:0\n\(name.text):1\n\(name.text):2"
        #expect(knownNames(lines) == [name])
        let (known, value) = withFrame("RECEIPT\n\(lines)\n\n\0") { ($0.field(1).known, Array($0.rawValue(name)!)) }
        #expect(known == name)
        #expect(value == [UInt8(ascii: "1")], "the first of repeated headers counts")
    }

    @Test(arguments: HeaderName.allCases.filter { !$0.text.string.isEmpty })
    func namesThatDifferInOneOctetAreOthers(name: HeaderName) {
        let text = Array(name.text.string.utf8)
        for index in text.indices {
            var near = text
            near[index] ^= 0x20
            guard near[index] != 0x0D else { continue }
            #expect(knownNames("\(String(decoding: near, as: UTF8.self)):1") == [])
        }
        #expect(knownNames("\(name.text)x:1") == [])
        #expect(knownNames("\(String(decoding: text.dropLast(), as: UTF8.self))_:1") == [])
    }

    @Test func namesAreDistinct() {
        let texts = (HeaderName.allCases.map(\.text) + HeaderName.sendOptions).map(\.string).filter { !$0.isEmpty }
        #expect(texts.count == HeaderName.allCases.count - 2 + HeaderName.sendOptions.count)
        #expect(Set(texts).count == texts.count)
    }

    @Test func optionsOfSendShareOneName() {
        for option in HeaderName.sendOptions.map(\.string) {
            #expect(knownNames("other:0\n\(option):1") == [.sendOption])
            #expect(knownNames("\(option)x:1") == [])
            let text = Array(option.utf8)
            for index in text.indices {
                var near = text
                near[index] ^= 0x20
                guard near[index] != 0x0D else { continue }
                #expect(knownNames("\(String(decoding: near, as: UTF8.self)):1") == [])
            }
        }
        let lines = HeaderName.sendOptions.map { "\($0.string):1" }.joined(separator: "\n")
        let known = withFrame("RECEIPT\n\(lines)\n\n\0") { frame in
            (0..<frame.fieldCount).map { frame.field($0).known }
        }
        #expect(known == Array(repeating: .sendOption, count: HeaderName.sendOptions.count))
    }

    @Test func headersAreReadAsNumbers() {
        func integer(_ value: String) -> HeaderInteger {
            withFrame("SEND\nexpires:\(value)\n\n\0") { $0.integer(.expires) }
        }
        #expect(withFrame("SEND\n\n\0") { $0.integer(.expires) } == .absent)
        #expect(integer("0") == .value(0))
        #expect(integer("007") == .value(7))
        #expect(integer("18446744073709551615") == .value(.max))
        for malformed in [
            "", "-1", "+1", " 1", "1 ", "1.0", "0x1", "a", "18446744073709551616", "99999999999999999999",
        ] {
            #expect(integer(malformed) == .malformed)
        }
    }

    @Test func valuesAreUnescapedIntoScratchOnlyWhereTheyAreEscaped() {
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 1)
        defer { scratch.deallocate() }
        withFrame(#"SEND\#ndestination:/queue/a\cb\\c\r\n\#nid:plain\#n\#n\#0"#) { frame in
            let destination = frame.value(.destination, into: scratch, version: .v1_2)!
            #expect(destination.baseAddress == UnsafeRawPointer(scratch))
            #expect(Array(destination) == Array("/queue/a:b\\c\r\n".utf8))
            let id = frame.value(.id, into: scratch, version: .v1_2)!
            let rawId = frame.rawValue(.id)!
            #expect(id.baseAddress == rawId.baseAddress)
            let receipt = frame.value(.receipt, into: scratch, version: .v1_2)
            #expect(receipt == nil)
        }
        withFrame(#"SEND\#ndestination:/queue/a\cb\#n\#n\#0"#, .v1_0) { frame in
            let destination = frame.value(.destination, into: scratch, version: .v1_0)!
            #expect(Array(destination) == Array(#"/queue/a\cb"#.utf8))
        }
    }

    @Test func theHeaderBlockIsExposed() {
        withFrame("\nSEND\na:b\nc:d\n\nbody\0") { frame in
            let block = UnsafeRawBufferPointer(start: frame.base + frame.headersOffset, count: frame.headersByteCount)
            #expect(Array(block) == Array("a:b\nc:d\n".utf8))
        }
        #expect(withFrame("SEND\n\n\0") { $0.headersByteCount } == 0)
    }

    @Test func plainIsWhatMeansTheSameInEveryVersion() {
        #expect(withFrame("SEND\na:b\nc: d \n\r\n\0") { $0.isPlain })
        #expect(withFrame("SEND\na:b\nc:d\n\n\0", .v1_0) { $0.isPlain })
        for (text, version) in [
            ("SEND\na:b:c\n\n\0", Version.v1_2), ("SEND\na:b\r\n\n\0", .v1_2), ("SEND\na:\\c\n\n\0", .v1_2),
            ("SEND\n\\c:b\n\n\0", .v1_1), ("SEND\na:b\rc\n\n\0", .v1_1), ("SEND\na:b\\c\n\n\0", .v1_0),
            ("SEND\na: b\n\n\0", .v1_0), ("SEND\na:b\r\n\n\0", .v1_0),
        ] {
            #expect(!withFrame(text, version) { $0.isPlain }, "\(text.debugDescription)")
        }
    }
}
