import FuzzDriver
import FuzzFrames

@main
struct Main {
    static func main() { fuzz(FuzzTarget.frames) }
}
