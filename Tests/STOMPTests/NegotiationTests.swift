import STOMP
import Testing

@Suite struct NegotiationTests {
    @Test(arguments: [
        ("1.0", Version.v1_0), ("1.1", .v1_1), ("1.2", .v1_2), ("1.0,1.1,1.2", .v1_2), ("1.2,1.1,1.0", .v1_2),
        ("1.0,1.1,2.0", .v1_1), (" 1.0 , 1.1 ", .v1_1), ("1.1,", .v1_1), (",,1.0", .v1_0), ("9.9,1.0", .v1_0),
    ])
    func theHighestCommonVersionIsFound(list: String, version: Version) {
        #expect(Array(list.utf8).withUnsafeBytes { AcceptVersion.highestCommon($0) } == version)
    }

    @Test(arguments: ["", "2.0", "1.3", "1", "1.", "1.20", "01.2", "1,2", "1.1.1", "v1.2", "1 .2", "1./", "1.\u{80}"])
    func noVersionIsFoundInOthers(list: String) {
        #expect(Array(list.utf8).withUnsafeBytes { AcceptVersion.highestCommon($0) } == nil)
    }

    @Test(
        arguments: [
            ("1.0,1.1,1.2", 0b111, Version.v1_2), ("1.0,1.1,1.2", 0b010, .v1_1), ("1.2,1.0", 0b010, nil),
            ("1.1", 0b011, .v1_1), (" 1.0 ,,1.2", 0b001, .v1_0), ("1.2", 0, nil), ("", 0b100, nil),
        ] as [(String, UInt8, Version?)])
    func theHighestCommonVersionIsOneOfThoseAllowed(list: String, versions: UInt8, version: Version?) {
        let found = Array(list.utf8).withUnsafeBytes {
            AcceptVersion.highestCommon($0, among: VersionSet(rawValue: versions))
        }
        #expect(found == version)
    }

    @Test func setsOfVersionsAreListed() {
        let texts = (0..<8 as Range<UInt8>).map { VersionSet(rawValue: $0).text.description }
        #expect(texts == ["", "1.0", "1.1", "1.0,1.1", "1.2", "1.0,1.2", "1.1,1.2", "1.0,1.1,1.2"])
    }

    @Test(
        arguments: [
            ("0,0", 0, 0), ("1000,2000", 1000, 2000), ("4294967295,1", 4_294_967_295, 1), (" 5 , 6 ", 5, 6),
        ] as [(String, UInt32, UInt32)])
    func heartBeatsAreRead(value: String, first: UInt32, second: UInt32) {
        let parsed = Array(value.utf8).withUnsafeBytes { HeartBeat.parse($0) }
        #expect(parsed?.0 == first && parsed?.1 == second)
    }

    @Test(arguments: [
        "", ",", "1", "1,", ",1", "a,b", "-1,0", "1,2,3", "1.5,2", "4294967296,0", "0,4294967296", "1 2,3",
    ])
    func malformedHeartBeatsAreNil(value: String) {
        #expect(Array(value.utf8).withUnsafeBytes { HeartBeat.parse($0) } == nil)
    }

    @Test func versionsAreOrdered() {
        #expect(Version.v1_0 < .v1_1 && Version.v1_1 < .v1_2)
    }
}
