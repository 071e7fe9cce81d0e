//! Grouped bars as SVG.

use std::fmt::Write as _;

use crate::comparison::number;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 20.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 36.0;
/// Told apart also by those who see few colours (Okabe and Ito).
const COLOURS: [&str; 5] = ["#999999", "#e69f00", "#56b4e9", "#cc79a7", "#009e73"];
/// The tallest bar over the shortest: beyond it bars of one scale would not be seen.
const LINEAR_MAX: f64 = 30.0;

/// A bar in each group.
pub struct Series {
    pub name: &'static str,
    /// As many as there are groups.
    pub values: Vec<Option<f64>>,
}

pub struct Chart {
    pub title: String,
    pub groups: Vec<String>,
    pub series: Vec<Series>,
}

impl Chart {
    // Writing to a string cannot fail: so for every `let _ = write!` below.
    pub fn svg(&self) -> String {
        let scale = Scale::of(self.series.iter().flat_map(|series| &series.values).flatten().copied());
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let kind = if scale.logarithmic { ", logarithmic" } else { "" };
        text(&mut svg, LEFT, 22.0, "start", &format!("{}{kind}", self.title));
        for (index, series) in self.series.iter().enumerate() {
            let x = LEFT + 120.0 * index as f64;
            let colour = COLOURS[index % COLOURS.len()];
            let _ = writeln!(svg, "<rect x=\"{x}\" y=\"34\" width=\"10\" height=\"10\" fill=\"{colour}\"/>");
            text(&mut svg, x + 15.0, 43.0, "start", series.name);
        }
        let base = HEIGHT - BOTTOM;
        let group = (WIDTH - 2.0 * LEFT) / self.groups.len().max(1) as f64;
        let bar = group * 0.8 / self.series.len().max(1) as f64;
        for (number_of_group, name) in self.groups.iter().enumerate() {
            let left = LEFT + group * (number_of_group as f64 + 0.1);
            text(&mut svg, left + group * 0.4, base + 20.0, "middle", name);
            for (index, series) in self.series.iter().enumerate() {
                let Some(Some(value)) = series.values.get(number_of_group) else { continue };
                let (x, height) = (left + bar * index as f64, scale.share(*value) * (base - TOP - 16.0));
                let (colour, y) = (COLOURS[index % COLOURS.len()], base - height);
                let width = bar * 0.9;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
                );
                text(&mut svg, x + width / 2.0, y - 4.0, "middle", &number(*value));
            }
        }
        let right = WIDTH - LEFT;
        let _ = writeln!(svg, "<path d=\"M{LEFT} {base}H{right}\" stroke=\"black\"/>\n</svg>");
        svg
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// From values to shares of the height.
struct Scale {
    logarithmic: bool,
    min: f64,
    max: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| *value > 0.0);
        let (min, max) = positive.fold((f64::MAX, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
        Self { logarithmic: max / min > LINEAR_MAX, min, max }
    }

    fn share(&self, value: f64) -> f64 {
        if self.max <= 0.0 || value <= 0.0 {
            return 0.0;
        }
        if !self.logarithmic {
            return value / self.max;
        }
        // The shortest bar is still seen.
        0.05 + 0.95 * (value / self.min).ln() / (self.max / self.min).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], expected: &[f64]) {
        let scale = Scale::of(values.iter().copied());
        for (value, expected) in values.iter().zip(expected) {
            let share = scale.share(*value);
            assert!((share - expected).abs() < 1e-9, "{value} of {values:?}: {share}, not {expected}");
        }
    }

    #[test]
    fn values_of_one_magnitude_are_linear_and_others_logarithmic() {
        check(&[5.0, 10.0, 0.0], &[0.5, 1.0, 0.0]);
        check(&[1.0, 10.0, 100.0], &[0.05, 0.525, 1.0]);
        check(&[0.0, 0.0], &[0.0, 0.0]);
    }

    #[test]
    fn a_missing_value_has_no_bar_and_names_are_escaped() {
        let series = vec![Series { name: "a<b", values: vec![Some(1.0), None] }];
        let svg = Chart { title: "t & u".into(), groups: vec!["1".into(), "2".into()], series }.svg();
        // The background, the legend and one bar.
        assert_eq!(svg.matches("<rect").count(), 3, "{svg}");
        assert!(svg.contains("a&lt;b") && svg.contains("t &amp; u"), "{svg}");
    }
}
