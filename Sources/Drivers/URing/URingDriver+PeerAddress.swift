#if URing
    internal import CURing
    import Glibc
    public import Slabs

    // The address of the peer, for the log. It is read when a log line needs it, because a multishot ACCEPT cannot
    // return addresses.
    extension URingDriver {
        public mutating func peerAddress(of connection: Slot) -> String? {
            record(of: connection).flatMap { peerAddress(ofAccepted: $0.pointee.file) }
        }

        public mutating func peerAddress(ofAccepted descriptor: Int32) -> String? {
            if isPlain { return Endpoint(peerOf: descriptor)?.text }
            guard features.hasResetOnClose else { return nil }  // the same kernels have both socket commands
            // The kernel requires the exact size of the address. IPv6 is tried first, then IPv4.
            for byteCount in [MemoryLayout<sockaddr_in6>.size, MemoryLayout<sockaddr_in>.size] {
                if let found = peerName(descriptor, byteCount: byteCount) {
                    return Endpoint(found, byteCount: byteCount).text
                }
            }
            return nil
        }

        private mutating func peerName(_ file: Int32, byteCount: Int) -> sockaddr_storage? {
            let storage = UnsafeMutablePointer<sockaddr_storage>.allocate(capacity: 1)
            storage.initialize(to: sockaddr_storage())
            let userData = UserData(.peerName)
            curing_prepare_peer_name(nextEntry(), file, storage, UInt32(byteCount), userData.rawValue)
            submitAll()
            stashCompletions()
            let found = (stashHead..<stash.count).first { stash[$0].userData.operation == RingOperation.peerName }
            guard let position = found else {
                // The kernel may still write to `storage`, so it is never freed.
                return nil
            }
            defer { storage.deallocate() }
            let result = stash[position].result
            stash[position].userData = UserData(.ignored)
            return result >= 0 ? storage.pointee : nil
        }
    }
#endif
