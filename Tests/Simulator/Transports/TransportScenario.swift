import Broker
import CTLS
import IO
import Transports

/// What happened to the transports of a run: each is counted.
public enum TransportEvent: Int, CaseIterable, Sendable {
    // Connections, by what carries them
    case proxyHeader, cipher, webSocket, cipherWithWebSocket
    // What clients do
    case ping, closeFrame, closeNotify, bareEnd, eagerFrames, stalledHandshake
    // What clients must not do
    case stranger, wrongHeader, wrongRequest, wrongProof, brokenRules
    // What the server does
    case secondHello, failedHandshake, partialSend, earlyAnswer
}

/// What a run of the mode `transports` is made of beside its `Scenario`: listeners of each kind, and how clients use
/// them.
struct TransportScenario {
    /// By `ListenerID`.
    let listeners: [ListenerTransport]
    /// What stands in for OpenSSL needs a context, and never looks at it: one for all runs.
    let tlsListeners: [TLSListener]
    /// How clients misbehave before STOMP begins, in thousandths.
    let wrongChance: Int
    let pingChance: Int
    let failureChance: Int
    /// Bodies are longer than what a layer encrypts ahead.
    let isLong: Bool
    /// So much ciphertext is sent before the rest of a turn is encrypted.
    let partByteCountMax: Int

    /// Peers of these may send a PROXY header where that is checked.
    static let proxyRange = "192.0.2.0/24"
    static let proxyAddress = "192.0.2.7:4000"
    static let strangerAddress = "198.51.100.9:4000"
    /// The driver's word for the address of the proxy.
    static let proxyOrigin: UInt64 = 0xC000_0207
    static let host = "simulated"

    init(_ random: inout Random) {
        let isCalm = random.chance(300)
        wrongChance = isCalm ? 0 : random.pick([10, 40, 100])
        failureChance = isCalm ? 0 : random.pick([0, 20])
        pingChance = random.pick([0, 20, 200])
        isLong = random.chance(50)
        partByteCountMax = random.pick([1, 2000, TLSLayer.partByteCountMax])
        let messageByteCountMax = random.pick([600, 5000, 16 << 20, 16 << 20])
        var listeners: [ListenerTransport] = []
        for kind in TransportKind.allCases {
            for proxies in [nil, [], [AddressRange(Self.proxyRange)!]] {
                var listener = ListenerTransport()
                listener.kind = kind
                listener.origins = OriginRules(origins: [], ownHosts: [Self.host])
                listener.messageByteCountMax = messageByteCountMax
                listener.expectsProxyHeader = proxies != nil
                listener.proxies = proxies ?? []
                listeners.append(listener)
            }
        }
        self.listeners = listeners
        tlsListeners = listeners.map {
            TLSListener(
                source: $0.kind.usesTLS ? Self.source : nil, expectsProxyHeader: $0.expectsProxyHeader,
                hasWebSockets: $0.kind.usesWebSocket)
        }
    }

    /// For the core.
    var options: [ListenerOptions] {
        listeners.enumerated().map { place, listener in
            var options = ListenerOptions(address: "listener-\(place)")
            options.transport = listener.kind
            return options
        }
    }

    static let tickets = TLSTicketKeys(nowSeconds: 0, periodSeconds: 1 << 40)!
    private static let source: TLSContextSource = {
        do throws(TLSProblem) {
            return TLSContextSource(
                try TLSContext(server: TLSOptions(), protocol: .stomp, tickets: tickets, nowSeconds: 0))
        } catch {
            fatalError("\(error)")
        }
    }()
}
