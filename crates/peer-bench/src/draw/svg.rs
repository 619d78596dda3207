//! [`Svg`]: a picture written as text, in colours that can be told apart on white.

use std::fmt::Write as _;

/// Colours that differ in lightness too, so that they stay apart for most eyes and in print.
const COLOURS: [&str; 9] = [
    "#0b5cad", "#c44e00", "#2a7a2a", "#8a3ab9", "#a5182d", "#5a5a5a", "#00798c", "#9a6b00",
    "#d03a8c",
];

pub(super) fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// A picture under construction. Coordinates are in pixels from the upper left.
#[derive(Debug)]
pub(super) struct Svg(String);

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
             font-size=\"12\" fill=\"#222\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        ))
    }

    /// Writing into a string cannot fail.
    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        self.0.write_fmt(element).ok();
        self.0.push('\n');
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        self.push(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{stroke}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    pub(super) fn curve(&mut self, points: &[(f64, f64)], stroke: &str, dashes: Option<&str>) {
        let mut path = String::new();
        for (x, y) in points {
            write!(path, "{x:.1},{y:.1} ").ok();
        }
        let dashes = dashes.map(|dashes| format!(" stroke-dasharray=\"{dashes}\""));
        self.push(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"2\"{}/>",
            path.trim_end(),
            dashes.unwrap_or_default()
        ));
    }

    pub(super) fn dot(&mut self, at: (f64, f64), fill: &str) {
        self.push(format_args!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{fill}\"/>",
            at.0, at.1
        ));
    }

    pub(super) fn bar(&mut self, corner: (f64, f64), size: (f64, f64), fill: &str) {
        self.push(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{fill}\"/>",
            corner.0, corner.1, size.0, size.1
        ));
    }

    /// `anchor` is start, middle or end.
    pub(super) fn text(&mut self, at: (f64, f64), anchor: &str, text: &str) {
        self.push(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            at.0,
            at.1,
            escaped(text)
        ));
    }

    pub(super) fn title(&mut self, at: (f64, f64), text: &str) {
        self.push(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"15\" font-weight=\"bold\">{}</text>",
            at.0,
            at.1,
            escaped(text)
        ));
    }

    /// Reads upwards.
    pub(super) fn upward(&mut self, at: (f64, f64), text: &str) {
        self.push(format_args!(
            "<text transform=\"translate({:.1},{:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            at.0,
            at.1,
            escaped(text)
        ));
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out_of_its_element() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text((0.0, 0.0), "start", "a<b> & \"c\"");
        assert!(svg.finish().contains(">a&lt;b&gt; &amp; &quot;c&quot;</text>"));
    }

    #[test]
    fn every_element_is_closed() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.line((0.0, 0.0), (1.0, 1.0), colour(0));
        svg.curve(&[(0.0, 1.0), (2.0, 3.0)], colour(1), Some("4 2"));
        svg.dot((1.0, 1.0), colour(20));
        svg.bar((0.0, 0.0), (2.0, 2.0), colour(3));
        svg.title((0.0, 0.0), "title");
        svg.upward((0.0, 0.0), "upward");
        let text = svg.finish();
        let opened = text.matches('<').count() - text.matches("</").count();
        let closed = text.matches("/>").count() + text.matches("</").count();
        assert_eq!(opened, closed);
        assert!(text.contains("points=\"0.0,1.0 2.0,3.0\""));
    }
}
