import Foundation

extension Comparison {
    /// The costs as bars on a logarithmic scale, an SVG file's text.
    var chart: String {
        let costs = rows.flatMap { row in servers.compactMap { cost(row, $0) } }.filter { $0 > 0 }
        guard let least = costs.min(), let greatest = costs.max() else { return Self.svg(width: 100, height: 20, []) }
        let low = log10(least).rounded(.down)
        let high = max(log10(greatest).rounded(.up), low + 1)
        func x(_ cost: Double) -> Double { Layout.left + (log10(cost) - low) / (high - low) * Layout.width }

        var shapes: [String] = []
        let bodyHeight = Double(rows.count) * (Double(servers.count) * Layout.bar + Layout.gap)
        for decade in Int(low)...Int(high) {
            let place = x(pow(10, Double(decade)))
            let label = Comparison.significant(pow(10, Double(decade)))
            shapes.append(
                "<line x1='\(place)' y1='\(Layout.top)' x2='\(place)' y2='\(Layout.top + bodyHeight)' stroke='#ddd'/>")
            shapes.append("<text x='\(place)' y='\(Layout.top - 6)' text-anchor='middle'>\(label)</text>")
        }
        var y = Layout.top
        for row in rows {
            let middle = y + Double(servers.count) * Layout.bar / 2 + 4
            shapes.append("<text x='\(Layout.left - 8)' y='\(middle)' text-anchor='end'>\(row)</text>")
            for (position, server) in servers.enumerated() {
                if let cost = cost(row, server), cost > 0 {
                    let width = max(x(cost) - Layout.left, 1)
                    let colour = Layout.colours[position % Layout.colours.count]
                    shapes.append(
                        "<rect x='\(Layout.left)' y='\(y)' width='\(width)' height='\(Layout.bar - 1)' fill='\(colour)'/>"
                    )
                }
                y += Layout.bar
            }
            y += Layout.gap
        }
        for (position, server) in servers.enumerated() {
            let place = Layout.left + Double(position) * Layout.legendStep
            let colour = Layout.colours[position % Layout.colours.count]
            shapes.append("<rect x='\(place)' y='\(y + 6)' width='10' height='10' fill='\(colour)'/>")
            shapes.append("<text x='\(place + 14)' y='\(y + 15)'>\(server)</text>")
        }
        shapes.append(
            "<text x='\(Layout.left)' y='16'>us of server CPU per delivery, logarithmic; shorter is better</text>")
        return Self.svg(width: Layout.left + Layout.width + 40, height: y + 30, shapes)
    }

    private enum Layout {
        static let left = 220.0
        static let top = 46.0
        static let width = 560.0
        static let bar = 9.0
        static let gap = 8.0
        static let legendStep = 120.0
        static let colours = ["#c0392b", "#2980b9", "#7f8c8d", "#bdc3c7", "#27ae60", "#8e44ad"]
    }

    private static func svg(width: Double, height: Double, _ shapes: [String]) -> String {
        """
        <svg xmlns='http://www.w3.org/2000/svg' width='\(width)' height='\(height)' font-family='sans-serif' font-size='11'>
        <rect width='100%' height='100%' fill='white'/>
        \(shapes.joined(separator: "\n"))
        </svg>

        """
    }
}
