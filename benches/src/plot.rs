//! A picture of lines whose both axes are logarithmic, as SVG: what grows tenfold is one step to the right.

use std::fmt::Write as _;

/// A line, from left to right.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines with the same axes.
pub(crate) struct Panel {
    pub(crate) title: String,
    /// What the values are, with their unit.
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 190.0;
/// Around the axes of a panel.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 38.0;
/// Above all panels, for the names of the lines.
const LEGEND: f64 = 26.0;

/// Colours that are told apart on white and on black, also by who sees no red or no green; and a dash for each.
const STROKES: [(&str, &str); 4] = [
    ("#0077bb", "none"),
    ("#ee7733", "7 3"),
    ("#009988", "2 3"),
    ("#cc3377", "9 3 2 3"),
];

const STYLE: &str = "<style>\
    text{font:11px sans-serif;fill:#24292f}.title{font-weight:bold}.grid{stroke:#8c959f;stroke-opacity:.35}\
    .even{stroke:#8c959f;stroke-dasharray:1 4;fill:none}.line{fill:none;stroke-width:2}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>";

/// The whole decades that values lie in.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let from = low.log10().floor() as i32;
    (from, (high.log10().ceil() as i32).max(from + 1))
}

/// Where in a panel a value stands.
struct Axes {
    across: (i32, i32),
    up: (i32, i32),
    origin: (f64, f64),
}

impl Axes {
    fn x(&self, value: f64) -> f64 {
        let (from, to) = self.across;
        let part = (value.log10() - f64::from(from)) / f64::from(to - from);
        self.origin.0 + LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let (from, to) = self.up;
        let part = (value.log10() - f64::from(from)) / f64::from(to - from);
        self.origin.1 + HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }
}

/// A power of ten as people write it.
fn tens(power: i32) -> String {
    match power {
        ..0 => format!("{:.*}", power.unsigned_abs() as usize, 10_f64.powi(power)),
        0..3 => format!("{:.0}", 10_f64.powi(power)),
        3..6 => format!("{:.0} k", 10_f64.powi(power - 3)),
        _ => format!("{:.0} M", 10_f64.powi(power - 6)),
    }
}

/// The panels in rows, below the names of the lines.
pub(crate) fn svg(rows: &[Vec<Panel>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (width, height) = (WIDTH * columns as f64, LEGEND + HEIGHT * rows.len() as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         {STYLE}\n"
    );
    let mut names: Vec<&'static str> = Vec::new();
    for line in rows.iter().flatten().flat_map(|panel| &panel.lines) {
        if !names.contains(&line.name) {
            names.push(line.name);
        }
    }
    let stroke = |name: &str| {
        let at = names.iter().position(|known| *known == name);
        STROKES[at.unwrap_or(0) % STROKES.len()]
    };
    let written = names.iter().enumerate().try_for_each(|(at, name)| {
        let x = LEFT + 190.0 * at as f64;
        let (colour, dashes) = stroke(name);
        writeln!(
            out,
            "<path class=\"line\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" d=\"M{x:.1} 14h28\"/>\
             <text x=\"{:.1}\" y=\"18\">{name}</text>",
            x + 34.0
        )
    });
    let written = written.and_then(|()| {
        for (row, panels) in rows.iter().enumerate() {
            for (column, panel) in panels.iter().enumerate() {
                let origin = (WIDTH * column as f64, LEGEND + HEIGHT * row as f64);
                draw(&mut out, panel, origin, &stroke)?;
            }
        }
        writeln!(out, "</svg>")
    });
    written.expect("a string takes everything");
    out
}

fn draw(
    out: &mut String,
    panel: &Panel,
    origin: (f64, f64),
    stroke: &dyn Fn(&str) -> (&'static str, &'static str),
) -> std::fmt::Result {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let axes = Axes {
        across: decades(points().map(|point| point.0)),
        up: decades(points().map(|point| point.1)),
        origin,
    };
    let low = (10_f64.powi(axes.across.0), 10_f64.powi(axes.up.0));
    let high = (10_f64.powi(axes.across.1), 10_f64.powi(axes.up.1));
    for power in axes.across.0..=axes.across.1 {
        let x = axes.x(10_f64.powi(power));
        let (bottom, top) = (axes.y(low.1), axes.y(high.1));
        writeln!(
            out,
            "<path class=\"grid\" d=\"M{x:.1} {bottom:.1}V{top:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 14.0,
            tens(power)
        )?;
    }
    for power in axes.up.0..=axes.up.1 {
        let y = axes.y(10_f64.powi(power));
        let (left, right) = (axes.x(low.0), axes.x(high.0));
        writeln!(
            out,
            "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 5.0,
            y + 4.0,
            tens(power)
        )?;
    }
    writeln!(
        out,
        "<text class=\"title\" x=\"{:.1}\" y=\"{:.1}\">{}: {}</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        axes.x(low.0),
        origin.1 + 15.0,
        panel.title,
        panel.up,
        (axes.x(low.0) + axes.x(high.0)) / 2.0,
        axes.y(low.1) + 28.0,
        panel.across
    )?;
    even(out, panel, &axes, high)?;
    for line in &panel.lines {
        let (colour, dashes) = stroke(line.name);
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(x, y)| format!("{:.1} {:.1}", axes.x(*x), axes.y(*y)))
            .collect();
        writeln!(
            out,
            "<path class=\"line\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" d=\"M{}\"/>",
            path.join("L")
        )?;
        for (x, y) in &line.points {
            let (x, y) = (axes.x(*x), axes.y(*y));
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
            )?;
        }
    }
    Ok(())
}

/// From where the first line begins: what would cost tenfold for tenfold work.
fn even(out: &mut String, panel: &Panel, axes: &Axes, high: (f64, f64)) -> std::fmt::Result {
    let Some((x, y)) = panel.lines.first().and_then(|line| line.points.first()) else {
        return Ok(());
    };
    let factor = (high.0 / x).min(high.1 / y);
    writeln!(
        out,
        "<path class=\"even\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
        axes.x(*x),
        axes.y(*y),
        axes.x(x * factor),
        axes.y(y * factor)
    )
}

#[cfg(test)]
mod tests {
    use super::{decades, tens};

    #[test]
    fn axes_have_whole_decades_with_names() {
        assert_eq!(decades([0.02, 3.0].into_iter()), (-2, 1));
        assert_eq!(decades([10.0].into_iter()), (1, 2));
        let names: Vec<String> = [-2, 0, 2, 3, 6].map(tens).to_vec();
        assert_eq!(names, ["0.01", "1", "100", "1 k", "1 M"]);
    }
}
