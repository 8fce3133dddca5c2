import FuzzDriver
import FuzzFrames
import FuzzTransports

@main
struct Main {
    static func main() { fuzz(FuzzTarget.transports) }
}
