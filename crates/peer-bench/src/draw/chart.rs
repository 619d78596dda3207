//! [`Chart`]: curves or bars with titled axes and a legend.

use super::axis::{Axis, short};
use super::svg::{Svg, colour};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 680.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 400.0;
const GRID: &str = "#e4e4e4";
const FRAME: &str = "#555";
const GUIDE: &str = "#888";
const LEGEND_STEP: f64 = 20.0;

/// A named curve.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// Dashed and grey: computed, not measured.
    pub(super) guide: bool,
}

/// What is drawn, whatever it is about.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// With its unit.
    pub(super) x_title: String,
    pub(super) y_title: String,
    pub(super) x_log: bool,
    pub(super) y_log: bool,
    pub(super) curves: Vec<Curve>,
}

impl Chart {
    pub(super) fn curves(&self) -> String {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let xs = points().map(|point| point.0);
        let x = if self.x_log { Axis::log(xs, LEFT, RIGHT) } else { Axis::linear(xs, LEFT, RIGHT) };
        let ys = points().map(|point| point.1);
        let y = if self.y_log { Axis::log(ys, BOTTOM, TOP) } else { Axis::linear(ys, BOTTOM, TOP) };
        self.frame(&mut svg);
        self.x_ticks(&mut svg, &x);
        for tick in y.ticks() {
            svg.line((LEFT, y.at(tick)), (RIGHT, y.at(tick)), GRID);
            svg.text((LEFT - 8.0, y.at(tick) + 4.0), "end", &short(tick));
        }
        svg.upward((20.0, f64::midpoint(TOP, BOTTOM)), &self.y_title);
        let mut guides = 0;
        for (index, curve) in self.curves.iter().enumerate() {
            let points: Vec<_> =
                curve.points.iter().map(|&(px, py)| (x.at(px), y.at(py))).collect();
            let stroke = if curve.guide { GUIDE } else { colour(index - guides) };
            let dashes = curve.guide.then_some(if guides == 0 { "8 4" } else { "2 4" });
            guides += usize::from(curve.guide);
            svg.curve(&points, stroke, dashes);
            if !curve.guide {
                points.iter().for_each(|&point| svg.dot(point, stroke));
            }
            let height = TOP + 8.0 + LEGEND_STEP * index as f64;
            svg.curve(&[(RIGHT + 20.0, height), (RIGHT + 44.0, height)], stroke, dashes);
            svg.text((RIGHT + 52.0, height + 4.0), "start", &curve.name);
        }
        svg.line((LEFT, BOTTOM), (RIGHT, BOTTOM), FRAME);
        svg.line((LEFT, TOP), (LEFT, BOTTOM), FRAME);
        svg.finish()
    }

    /// A horizontal bar for the first point of each curve, as long as its y.
    pub(super) fn bars(&self) -> String {
        let step = 34.0;
        let bottom = TOP + step * self.curves.len() as f64;
        let mut svg = Svg::new(WIDTH, bottom + 60.0);
        let left = LEFT + 70.0;
        let lengths = self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.1);
        let x = Axis::linear(lengths, left, RIGHT + 100.0);
        self.titles(&mut svg);
        for tick in x.ticks() {
            svg.line((x.at(tick), TOP), (x.at(tick), bottom), GRID);
            svg.text((x.at(tick), bottom + 18.0), "middle", &short(tick));
        }
        for (index, curve) in self.curves.iter().enumerate() {
            let Some(&(_, length)) = curve.points.first() else { continue };
            let upper = TOP + step * index as f64;
            let size = (x.at(length) - left, step - 10.0);
            svg.bar((left, upper + 5.0), size, colour(index));
            svg.text((left - 8.0, upper + 21.0), "end", &curve.name);
            svg.text((x.at(length) + 6.0, upper + 21.0), "start", &short(length));
        }
        svg.text((f64::midpoint(left, RIGHT + 100.0), bottom + 42.0), "middle", &self.y_title);
        svg.line((left, TOP), (left, bottom), FRAME);
        svg.finish()
    }

    fn titles(&self, svg: &mut Svg) {
        svg.title((LEFT, 26.0), &self.title);
        svg.text((LEFT, 46.0), "start", &self.subtitle);
    }

    fn frame(&self, svg: &mut Svg) {
        self.titles(svg);
        let middle = f64::midpoint(LEFT, RIGHT);
        svg.text((middle, BOTTOM + 44.0), "middle", &self.x_title);
    }

    /// Ticks where something was measured, when that is few places; otherwise at round values.
    fn x_ticks(&self, svg: &mut Svg, x: &Axis) {
        let mut places: Vec<_> =
            self.curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let ticks = if places.len() <= 8 { places } else { x.ticks() };
        for tick in ticks {
            svg.line((x.at(tick), TOP), (x.at(tick), BOTTOM), GRID);
            svg.text((x.at(tick), BOTTOM + 18.0), "middle", &short(tick));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let curve = |name: &str, points: &[(f64, f64)], guide| Curve {
            name: name.to_owned(),
            points: points.to_vec(),
            guide,
        };
        Chart {
            title: "Commits".into(),
            subtitle: "64 bytes".into(),
            x_title: "threads".into(),
            y_title: "commits per second".into(),
            x_log: true,
            y_log: true,
            curves: vec![
                curve("cohort-wal", &[(1.0, 900.0), (8.0, 7000.0)], false),
                curve("naive", &[(1.0, 900.0), (8.0, 910.0)], false),
                curve("N/F", &[(1.0, 1000.0), (8.0, 8000.0)], true),
            ],
        }
    }

    #[test]
    fn a_chart_has_its_titles_its_units_and_every_name() {
        let text = chart().curves();
        let wanted =
            ["Commits", "64 bytes", "threads", "commits per second", "cohort-wal", "naive", "N/F"];
        for wanted in wanted {
            assert!(text.contains(&format!(">{wanted}</text>")), "{wanted}");
        }
        assert!(text.contains("stroke-dasharray"));
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let text = chart().bars();
        assert_eq!(text.matches("fill=\"#0b5cad\"").count(), 1);
        assert!(text.contains(">1000</text>") && !text.contains("NaN"));
    }

    #[test]
    fn an_empty_chart_is_still_a_picture() {
        let empty = Chart { curves: Vec::new(), ..chart() };
        assert!(!empty.curves().contains("NaN") && !empty.bars().contains("NaN"));
    }
}
