import Broker
import Drivers
import IO
import Logging
import Transports

// The layer of transports, for brokers that have listeners which are not plain.
extension Worker {
    /// Turns the driver's completions into those that the core is to see.
    func raise<D: Driver & ~Copyable>(
        _ completions: inout Batch<Completion>, _ layer: inout TransportLayer, _ driver: inout D
    ) {
        if control.isDraining { layer.beginDrain() }
        layer.raise(&completions)
        // Who may send a PROXY header: asked once for each connection of a listener that expects one.
        if layer.hasUnverified {
            while let descriptor = layer.nextUnverified() { layer.verify(driver.peerAddress(ofAccepted: descriptor)) }
        }
        if layer.hasNotices { log(layer.takeNotices(), &layer, &driver) }
    }

    /// The same for connections with TLS, before the layer of transports sees them.
    func raise<D: Driver & ~Copyable>(
        _ completions: inout Batch<Completion>, _ tls: inout TLSLayer, _ driver: inout D
    ) {
        if control.isDraining { tls.beginDrain() }
        tls.raise(&completions, nowSeconds: Clock.wallSeconds)
        guard tls.hasNotices else { return }
        let notices = tls.takeNotices()
        guard logger.logLevel <= .info else { return }
        for notice in notices {
            logger.info("TLS: \(notice.text)", metadata: place(of: notice, &driver))
        }
    }

    /// Where a client is, and where it came in. The core does not know it yet, so it has no number.
    private func place<D: Driver & ~Copyable>(of notice: TransportNotice, _ driver: inout D) -> Logger.Metadata {
        var metadata: Logger.Metadata = [:]
        if let address = driver.peerAddress(of: notice.connection) { metadata["address"] = "\(address)" }
        let listener = Int(notice.listener.rawValue)
        guard listener < broker.listeners.count else { return metadata }
        if broker.listeners.count > 1 { metadata["listener"] = "\(broker.listeners[listener].address)" }
        if broker.listeners[listener].isUnix, let peer = driver.peerCredentials(of: notice.connection) {
            metadata["peer"] = "\(peer)"
        }
        return metadata
    }

    /// Turns the core's submissions into those for the driver, some of which are carried out at once.
    ///
    /// - Parameter part: memory for those.
    /// - Returns: when the poll has to end.
    func lower<D: Driver & ~Copyable>(
        _ submissions: inout Batch<Submission>, _ part: inout Batch<Submission>, _ tls: inout TLSLayer,
        _ driver: inout D, _ completions: inout Batch<Completion>, now: UInt64
    ) -> UInt64 {
        tls.beginLowering(now: now)
        while tls.lowerPart(&submissions, &part) {
            driver.carryOut(part, completions: &completions)
            part.removeAll()
            tls.settlePart(completions)
        }
        return completions.isEmpty ? tls.loweringDeadline() : 0
    }

    private func log<D: Driver & ~Copyable>(
        _ notices: [TransportNotice], _ layer: inout TransportLayer, _ driver: inout D
    ) {
        guard logger.logLevel <= .info else { return }
        for notice in notices {
            var metadata = place(of: notice, &driver)
            if let source = layer.clientAddress(of: notice.connection) {
                metadata["proxy"] = metadata["address"]
                metadata["address"] = "\(source)"
            }
            logger.info("transport: \(notice.text)", metadata: metadata)
        }
    }
}
