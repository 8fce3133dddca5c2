import Testing

@testable import Load

struct KernelMemoryTests {
    private static let slabinfo = """
        slabinfo - version: 2.1
        # name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables
        io_kiocb             192    256    256   16    1 : tunables    0    0    0
        TCP                  118    182   2368   13    8 : tunables    0    0    0
        eventpoll_epi        256    416    128   32    1 : tunables    0    0    0
        filp                1428   1428    192   21    1 : tunables    0    0    0
        skbuff_head_cache    400    400    256   16    1 : tunables    0    0    0
        kmalloc-64          2432   2816     64   64    1 : tunables    0    0    0
        """
    private static let meminfo = """
        MemTotal:       24000000 kB
        Slab:               2000 kB
        KernelStack:          10 kB
        PageTables:           20 kB
        Percpu:               30 kB
        """

    @Test func `slabs are sorted by what they hold`() {
        let memory = KernelMemory(slabinfo: Self.slabinfo, meminfo: Self.meminfo)
        #expect(memory.requests == 256 * 256)
        #expect(memory.sockets == 182 * 2368 + 400 * 256)
        #expect(memory.watches == 416 * 128)
        #expect(memory.files == 1428 * 192)
        #expect(memory.others == 60 * 1024)
        #expect(memory.total == 2060 * 1024)
    }

    @Test func `without slabinfo all slabs are one figure`() {
        let memory = KernelMemory(slabinfo: "", meminfo: Self.meminfo)
        #expect(memory.otherSlabs == 2000 * 1024)
        #expect(memory.total == 2060 * 1024)
    }

    @Test func `two ends share what is alike, and each has what its driver takes`() {
        var memory = KernelMemory()
        memory.sockets = 1000
        memory.requests = 256
        memory.watches = 128
        #expect(memory.share(onURing: true, otherOnURing: false) == (756, 256))
        #expect(memory.share(onURing: false, otherOnURing: true) == (628, 128))
        #expect(memory.share(onURing: true, otherOnURing: true) == (628, 128))
        #expect(memory.share(onURing: false, otherOnURing: false) == (564, 64))
    }

    @Test func `silences are late after five quarters of the interval, and missed after two`() {
        var silences = Silences()
        for milliseconds in [0, 1000, 1250, 1251, 2000, 2001] {
            silences.count(milliseconds: milliseconds, interval: 1000)
        }
        #expect((silences.late, silences.missed, silences.longest) == (2, 1, 2001))
    }
}
