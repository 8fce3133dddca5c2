import Foundation

/// A table of positive values as horizontal bars on a logarithmic scale: the text of an SVG file.
struct Chart {
    /// The title: the quantity, its unit, and whether more or less is better.
    let title: String
    /// The groups of bars, and the bars of each group.
    let rows: [String]
    let series: [String]
    /// nil: no bar.
    let value: (_ row: String, _ series: String) -> Double?

    private static let left = 250.0
    private static let top = 62.0
    private static let width = 560.0
    private static let right = 70.0
    private static let bar = 10.0
    private static let gap = 9.0
    private static let fontSize = 11.0
    private static let characterWidth = 6.5
    private static let colours = [
        "#c0392b", "#2980b9", "#7f8c8d", "#b2bec3", "#27ae60", "#8e44ad", "#e67e22", "#16a085",
    ]

    var text: String {
        let values = rows.flatMap { row in series.compactMap { value(row, $0) } }.filter { $0 > 0 }
        guard let least = values.min(), let greatest = values.max() else { return svg(height: Self.top, []) }
        let low = log10(least).rounded(.down)
        let high = max(log10(greatest).rounded(.up), low + 1)
        func x(_ value: Double) -> Double { Self.left + (log10(value) - low) / (high - low) * Self.width }

        let bodyHeight = rows.map { Double(bars($0).count) * Self.bar + Self.gap }.reduce(0, +)
        var shapes = legend
        for decade in Int(low)...Int(high) {
            let place = x(pow(10, Double(decade)))
            shapes.append(
                "<line x1='\(place)' y1='\(Self.top)' x2='\(place)' y2='\(Self.top + bodyHeight)' stroke='#ddd'/>")
            shapes.append(label(Comparison.short(pow(10, Double(decade))), place, Self.top - 6, anchor: "middle"))
        }
        var y = Self.top + Self.gap / 2
        for row in rows {
            let bars = bars(row)
            shapes.append(
                label(row, Self.left - 8, y + Double(bars.count) * Self.bar / 2 + Self.fontSize / 3, anchor: "end"))
            for (position, value) in bars {
                let end = max(x(value), Self.left + 1)
                shapes.append(
                    "<rect x='\(Self.left)' y='\(y)' width='\(end - Self.left)' height='\(Self.bar - 1)' "
                        + "fill='\(Self.colour(position))'/>")
                shapes.append(
                    "<text x='\(end + 3)' y='\(y + Self.bar - 2)' font-size='9' fill='#555'>"
                        + "\(Comparison.short(value))</text>")
                y += Self.bar
            }
            y += Self.gap
        }
        return svg(height: y + Self.gap, shapes)
    }

    /// The values of a row that exist, with the index of their series.
    private func bars(_ row: String) -> [(Int, Double)] {
        series.enumerated().compactMap { position, name in
            guard let value = value(row, name), value > 0 else { return nil }
            return (position, value)
        }
    }

    private var legend: [String] {
        var shapes = ["<text x='8' y='18' font-size='13'>\(title)</text>"]
        var x = Self.left
        for (position, name) in series.enumerated() {
            shapes.append("<rect x='\(x)' y='28' width='10' height='10' fill='\(Self.colour(position))'/>")
            shapes.append(label(name, x + 14, 37, anchor: "start"))
            x += 14 + Double(name.count + 2) * Self.characterWidth
        }
        return shapes
    }

    private static func colour(_ position: Int) -> String { colours[position % colours.count] }

    private func label(_ text: String, _ x: Double, _ y: Double, anchor: String) -> String {
        "<text x='\(x)' y='\(y)' text-anchor='\(anchor)'>\(text)</text>"
    }

    private func svg(height: Double, _ shapes: [String]) -> String {
        """
        <svg xmlns='http://www.w3.org/2000/svg' width='\(Self.left + Self.width + Self.right)' height='\(height)' \
        font-family='sans-serif' font-size='\(Self.fontSize)'>
        <rect width='100%' height='100%' fill='white'/>
        \(shapes.joined(separator: "\n"))
        </svg>

        """
    }
}
