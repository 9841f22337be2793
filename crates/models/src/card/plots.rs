//! Plots as SVG in the page: made of numbers and of fixed words only, so that nothing from outside is in them.

use std::fmt::Write as _;

/// The place of the unit square in the picture.
const LEFT: f64 = 50.0;
const TOP: f64 = 8.0;
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 190.0;

/// A line of a plot.
pub(super) struct Line<'a> {
    /// Its class: `is` for the model, `was` for the champion.
    pub(super) class: &'static str,
    /// Points in the unit square.
    pub(super) points: &'a [(f64, f64)],
    /// Whether each point is marked.
    pub(super) marked: bool,
}

/// A plot over the unit square.
pub(super) fn square(
    lines: &[Line<'_>],
    diagonal: bool,
    (across, up): (&'static str, &'static str),
) -> String {
    let mut out = String::from("<svg viewBox=\"0 0 302 236\" role=\"img\" aria-hidden=\"true\">");
    for (tick, label) in ["0", "0.25", "0.5", "0.75", "1"].into_iter().enumerate() {
        let at = tick as f64 / 4.0;
        let (x, y) = place((at, at));
        let _ = write!(
            out,
            "<path class=\"grid\" fill=\"none\" d=\"M{LEFT},{y:.1}h{WIDTH}M{x:.1},{TOP}v{HEIGHT}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"middle\">{label}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"end\">{label}</text>",
            TOP + HEIGHT + 14.0,
            LEFT - 6.0,
            y + 3.5,
        );
    }
    if diagonal {
        let ((x0, y0), (x1, y1)) = (place((0.0, 0.0)), place((1.0, 1.0)));
        let _ =
            write!(out, "<path class=\"diagonal\" fill=\"none\" d=\"M{x0:.1},{y0:.1}L{x1:.1},{y1:.1}\"/>");
    }
    for line in lines.iter().filter(|l| !l.points.is_empty()) {
        let _ = write!(out, "<path class=\"line {}\" fill=\"none\" d=\"", line.class);
        for (at, point) in line.points.iter().enumerate() {
            let (x, y) = place(*point);
            let _ = write!(out, "{}{x:.1},{y:.1}", if at == 0 { 'M' } else { 'L' });
        }
        out.push_str("\"/>");
        for point in line.points.iter().filter(|_| line.marked) {
            let (x, y) = place(*point);
            let _ = write!(out, "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>", line.class);
        }
    }
    let (middle_x, middle_y) = (LEFT + WIDTH / 2.0, TOP + HEIGHT / 2.0);
    let _ = write!(
        out,
        "<text x=\"{middle_x}\" y=\"230\" font-size=\"11\" text-anchor=\"middle\">{across}</text>\
         <text transform=\"translate(12 {middle_y}) rotate(-90)\" font-size=\"11\" text-anchor=\"middle\">{up}</text></svg>"
    );
    out
}

fn place((x, y): (f64, f64)) -> (f64, f64) {
    (LEFT + x.clamp(0.0, 1.0) * WIDTH, TOP + (1.0 - y.clamp(0.0, 1.0)) * HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_holds_its_points_within_the_square() {
        let points = [(0.0, 0.0), (0.5, 2.0), (1.0, 1.0)];
        let line = Line { class: "is", points: &points, marked: true };
        let svg = square(&[line], true, ("x", "y"));
        assert!(svg.contains("d=\"M50.0,198.0L170.0,8.0L290.0,8.0\""), "{svg}");
        assert_eq!((svg.matches("<circle").count(), svg.matches("diagonal").count()), (3, 1));
    }
}
