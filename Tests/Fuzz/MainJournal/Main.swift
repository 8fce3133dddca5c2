import FuzzDriver
import FuzzFrames
import FuzzJournal

@main
struct Main {
    static func main() { fuzz(FuzzTarget.journal) }
}
