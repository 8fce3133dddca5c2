#if URing
    internal import CURing
    import Glibc
    public import IO
    public import Slabs

    // The address of the peer, for the log, and the process at the other end of a Unix socket. They are read when
    // somebody asks, because a multishot ACCEPT cannot return them.
    extension URingDriver {
        public mutating func peerAddress(of connection: Slot) -> String? {
            record(of: connection).flatMap { peerAddress(ofAccepted: $0.pointee.file) }
        }

        public mutating func peerAddress(ofAccepted descriptor: Int32) -> String? {
            if isPlain { return Endpoint(peerOf: descriptor).flatMap { $0.isInternet ? $0.text : nil } }
            guard features.hasResetOnClose else { return nil }  // the same kernels have both socket commands
            // The kernel requires the exact size of the address. IPv6 is tried first, then IPv4.
            for byteCount in [MemoryLayout<sockaddr_in6>.size, MemoryLayout<sockaddr_in>.size] {
                var address = sockaddr_storage()
                guard readOption(curing_peer_name, of: descriptor, into: &address, byteCount: byteCount) else {
                    continue
                }
                let endpoint = Endpoint(address, byteCount: byteCount)
                return endpoint.isInternet ? endpoint.text : nil
            }
            return nil
        }

        public mutating func peerCredentials(of connection: Slot) -> PeerCredentials? {
            record(of: connection).flatMap { peerCredentials(ofAccepted: $0.pointee.file) }
        }

        public mutating func peerCredentials(ofAccepted descriptor: Int32) -> PeerCredentials? {
            if isPlain { return Drivers.peerCredentials(of: descriptor) }
            guard features.hasResetOnClose else { return nil }
            var peer = socket_peer()
            let byteCount = MemoryLayout<socket_peer>.size
            guard readOption(curing_peer_credentials, of: descriptor, into: &peer, byteCount: byteCount) else {
                return nil
            }
            return PeerCredentials(peer)
        }

        /// Reads an option of a direct descriptor. False: the kernel refuses, or does not answer within the submit.
        private mutating func readOption<Value: BitwiseCopyable>(
            _ option: UInt32, of file: Int32, into value: inout Value, byteCount: Int
        ) -> Bool {
            let storage = UnsafeMutablePointer<Value>.allocate(capacity: 1)
            storage.initialize(to: value)
            let userData = UserData(.peerName)
            curing_prepare_get_option(nextEntry(), file, option, storage, UInt32(byteCount), userData.rawValue)
            submitAll()
            stashCompletions()
            let found = (stashHead..<stash.count).first { stash[$0].userData.operation == RingOperation.peerName }
            guard let position = found else {
                // The kernel may still write to `storage`, so it is never freed.
                return false
            }
            let result = stash[position].result
            stash[position].userData = UserData(.ignored)
            value = storage.pointee
            storage.deallocate()
            return result >= 0
        }
    }
#endif
