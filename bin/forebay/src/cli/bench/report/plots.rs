//! The report's plots, as SVG.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::super::threshold::share;
use super::{Percentiles, StepReport, Tally, us};
use crate::Error;

const INK: RGBColor = RGBColor(0x33, 0x3f, 0x4d);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
const GOOD: RGBColor = RGBColor(0x2a, 0x9d, 0x8f);
const SHED: RGBColor = RGBColor(0xe9, 0xb4, 0x4c);
const FAILED: RGBColor = RGBColor(0xc8, 0x3e, 0x4d);
const OFFERED: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const SHADES: [RGBColor; 4] = [
    RGBColor(0x2a, 0x9d, 0x8f),
    RGBColor(0x45, 0x7b, 0x9d),
    RGBColor(0xe0, 0x8e, 0x45),
    RGBColor(0xc8, 0x3e, 0x4d),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;
/// A curve: its name, colour and points.
type Curve<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

/// One of the percentiles.
type Level = fn(&Percentiles) -> u64;
/// How many requests lie below a part of a bar, and in it.
type Part = fn(&super::Stretch) -> (u64, u64);

fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, Error> {
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        area.fill(&WHITE)
            .map_err(Into::into)
            .and_then(|()| draw(&area))
            .and_then(|()| area.present().map_err(Into::into))
    };
    drawn
        .map_err(|e| Error::new(format!("cannot draw a plot: {e}"), "report this; --json has all figures"))?;
    Ok(text)
}

/// The decades in which the values lie: a logarithmic axis has a label at both ends.
fn decades(values: impl Iterator<Item = f64>) -> Range<f64> {
    let Range { start, end } = range(values);
    10_f64.powf(start.log10().floor())..10_f64.powf(end.log10().ceil())
}

/// A rate at a tick.
fn tick(rate: &f64) -> String {
    if *rate < 10.0 { rate.to_string() } else { format!("{rate:.0}") }
}

/// The values, with room at both ends of a logarithmic axis.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|v| *v > 0.0)
        .fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    if low.is_finite() { low / 1.6..high * 1.6 } else { 1.0..10.0 }
}

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// Curves over the rate, both logarithmic.
fn over_rate(area: &Area<'_>, curves: &[Curve<'_>], y_name: &str, y_label: &dyn Fn(&f64) -> String) -> Drawn {
    let x = range(curves.iter().flat_map(|c| c.2.iter().map(|p| p.0)));
    let y = decades(curves.iter().flat_map(|c| c.2.iter().map(|p| p.1)));
    // Nothing has no place on a logarithmic axis, and is to be seen: it lies on its foot.
    let foot = y.start;
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(74)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    chart
        .configure_mesh()
        .x_desc("offered requests a second")
        .y_desc(y_name)
        .x_label_formatter(&tick)
        .y_label_formatter(y_label)
        .x_labels(6)
        .y_labels(6)
        .label_style(font(13))
        .axis_desc_style(font(14))
        .axis_style(OFFERED)
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .draw()?;
    for (name, color, points) in curves {
        let color = *color;
        let points = points.iter().map(|p| (p.0, p.1.max(foot)));
        chart
            .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
        chart.draw_series(points.map(|p| Circle::new(p, 4, color.filled())))?;
    }
    legend(&mut chart)
}

fn legend<'a, C: CoordTranslate>(chart: &mut ChartContext<'a, SVGBackend<'a>, C>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(font(13))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .margin(6)
        .draw()?;
    Ok(())
}

/// Percentiles of a latency over the offered rate; none when no step has one.
pub(super) fn latency(
    steps: &[&StepReport],
    name: &str,
    of: fn(&Tally) -> Option<Percentiles>,
) -> Result<Option<String>, Error> {
    let levels: [(&str, Level); 4] =
        [("p50", |p| p.p50), ("p90", |p| p.p90), ("p99", |p| p.p99), ("max", |p| p.max)];
    let curves: Vec<Curve<'_>> = levels
        .into_iter()
        .zip(SHADES)
        .map(|((level, value), color)| {
            let point = |s: &&StepReport| Some((s.offered, value(&of(&s.all)?).max(1) as f64));
            (level, color, steps.iter().filter_map(point).filter(|p| p.0 > 0.0).collect())
        })
        .collect();
    if curves.iter().all(|c| c.2.is_empty()) {
        return Ok(None);
    }
    svg((600, 330), |area| over_rate(area, &curves, name, &|v| us(*v as u64))).map(Some)
}

/// What came back over what was offered.
pub(super) fn goodput(steps: &[&StepReport], slo: bool) -> Result<String, Error> {
    let curve = |value: fn(&StepReport) -> f64| {
        steps.iter().map(|s| (s.offered, value(s))).filter(|p| p.0 > 0.0).collect::<Vec<_>>()
    };
    let mut curves: Vec<Curve<'_>> = vec![
        ("offered", OFFERED, curve(|s| s.offered)),
        ("complete", SHADES[1], curve(|s| s.all.complete_per_second)),
    ];
    if slo {
        curves.push(("within the SLO", GOOD, curve(|s| s.all.goodput)));
    }
    curves.push(("shed", SHED, curve(|s| s.offered * share(s.all.counts.sheds, s.planned))));
    curves.push(("failed", FAILED, curve(|s| s.offered * share(s.all.counts.failed(), s.planned))));
    // What never happened is no curve, but answers are one when there are none.
    curves.retain(|c| !matches!(c.0, "shed" | "failed") || c.2.iter().any(|p| p.1 > 0.0));
    svg((600, 330), |area| over_rate(area, &curves, "requests a second", &tick))
}

/// One step over its time: how requests ended by when they were due, and how long whole answers took.
pub(super) fn timeline(step: &StepReport) -> Result<String, Error> {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let end = step.timeline.last().map_or(1.0, |s| seconds(s.at_ms + s.length_ms));
    let most = step.timeline.iter().map(|s| s.sent as f64 / seconds(s.length_ms)).fold(1.0, f64::max);
    svg((600, 380), |area| {
        let (upper, lower) = area.split_vertically(200);
        let mut chart = ChartBuilder::on(&upper)
            .margin(12)
            .margin_bottom(2)
            .x_label_area_size(20)
            .y_label_area_size(74)
            .build_cartesian_2d(0.0..end, 0.0..most * 1.4)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .y_desc("requests a second")
            .y_labels(5)
            .label_style(font(13))
            .axis_desc_style(font(14))
            .axis_style(OFFERED)
            .bold_line_style(GRID)
            .light_line_style(WHITE)
            .draw()?;
        let parts: [(&str, RGBColor, Part); 3] = [
            ("complete", GOOD, |s| (0, s.complete)),
            ("shed", SHED, |s| (s.complete, s.shed)),
            ("failed", FAILED, |s| (s.complete + s.shed, s.failed)),
        ];
        for (name, color, part) in parts {
            if name != "complete" && step.timeline.iter().all(|s| part(s).1 == 0) {
                continue;
            }
            let bar = |s: &super::Stretch| {
                let (below, here) = part(s);
                let (from, width) = (seconds(s.at_ms), seconds(s.length_ms));
                let (low, high) = (below as f64 / width, (below + here) as f64 / width);
                Rectangle::new([(from + width * 0.06, low), (from + width * 0.94, high)], color.filled())
            };
            chart
                .draw_series(step.timeline.iter().map(bar))?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], color.filled()));
        }
        legend(&mut chart)?;
        latencies(&lower, step, end)
    })
}

fn latencies(area: &Area<'_>, step: &StepReport, end: f64) -> Drawn {
    let middle = |s: &super::Stretch| (s.at_ms as f64 + s.length_ms as f64 / 2.0) / 1_000.0;
    let curve = |value: fn(&Percentiles) -> u64| {
        let point = |s: &super::Stretch| Some((middle(s), value(&s.total_us?).max(1) as f64));
        step.timeline.iter().filter_map(point).collect::<Vec<_>>()
    };
    let curves: [Curve<'_>; 2] = [("p50", SHADES[0], curve(|p| p.p50)), ("p99", SHADES[3], curve(|p| p.p99))];
    let y = decades(curves.iter().flat_map(|c| c.2.iter().map(|p| p.1)));
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_top(2)
        .x_label_area_size(40)
        .y_label_area_size(74)
        .build_cartesian_2d(0.0..end, y.log_scale())?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("seconds, by when requests were due")
        .y_desc("whole answer")
        .y_labels(4)
        .y_label_formatter(&|v| us(*v as u64))
        .label_style(font(13))
        .axis_desc_style(font(14))
        .axis_style(OFFERED)
        .bold_line_style(GRID)
        .light_line_style(WHITE)
        .draw()?;
    for (name, color, points) in curves {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    legend(&mut chart)
}
