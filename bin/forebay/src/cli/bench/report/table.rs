//! The report for a terminal.

use comfy_table::{CellAlignment, Table, presets};
use contract::Money;

use super::{Percentiles, Report, StepReport, Tally, rate, us};

/// The tables and the verdict.
pub(in crate::cli::bench) fn render(report: &Report) -> String {
    let mut parts = vec![steps(report)];
    let tenants: Vec<(&StepReport, &str, &Tally)> = report
        .steps
        .iter()
        .flat_map(|s| s.tenants.iter().map(move |t| (s, t.name.as_str(), &t.tally)))
        .collect();
    if !tenants.is_empty() {
        parts.push(by_tenant(&tenants));
    }
    parts.extend(codes(report));
    parts.extend(client(report));
    if let Some(limit) = report.limit {
        parts.push(format!(
            "limit: good at {} requests a second, bad at {}",
            rate(limit.good),
            rate(limit.bad)
        ));
    }
    parts.extend(report.thresholds.iter().map(|t| {
        let word = if t.came_true { "FAILED" } else { "ok" };
        format!("{word}: {} (at {}: {})", t.threshold, t.step, t.shown)
    }));
    parts.push(report.verdict.clone());
    parts.join("\n\n")
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

fn of(p: Option<Percentiles>, value: fn(&Percentiles) -> u64) -> String {
    p.map_or("-".into(), |p| us(value(&p)))
}

/// Steps side by side, one line a figure: what is read together stands together.
fn steps(report: &Report) -> String {
    let mut header = vec![""];
    header.extend(report.steps.iter().map(|s| s.label.as_str()));
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut line = |name: &str, value: &dyn Fn(&StepReport) -> String| {
        let mut row = vec![name.to_owned()];
        row.extend(report.steps.iter().map(value));
        rows.push(row);
    };
    line("offered/s", &|s| rate(s.offered));
    line("sent/s", &|s| rate(s.sent_per_second));
    line("complete/s", &|s| rate(s.all.complete_per_second));
    line("goodput/s", &|s| rate(s.all.goodput));
    line("sent", &|s| s.all.sent.to_string());
    line("complete", &|s| s.all.counts.complete.to_string());
    if report.setup.slo.is_some() {
        line("within SLO", &|s| s.all.counts.good.to_string());
    }
    line("shed", &|s| s.all.counts.sheds.to_string());
    line("  with Retry-After", &|s| s.all.counts.sheds_with_retry_after.to_string());
    line("errors", &|s| s.all.counts.errors.to_string());
    line("partial", &|s| s.all.counts.partial.to_string());
    line("broken", &|s| s.all.counts.broken.to_string());
    line("timeouts", &|s| (s.all.counts.timeouts + s.all.counts.unfinished).to_string());
    line("not sent", &|s| s.client.not_sent().to_string());
    type Latency = fn(&Tally) -> Option<Percentiles>;
    let latencies: [(&str, Latency); 3] =
        [("first output", |t| t.first_us), ("whole answer", |t| t.total_us), ("a token", |t| t.tpot_us)];
    for (name, latency) in latencies {
        if report.steps.iter().all(|s| latency(&s.all).is_none()) {
            continue;
        }
        line(&format!("{name} p50"), &|s| of(latency(&s.all), |p| p.p50));
        line("  p90", &|s| of(latency(&s.all), |p| p.p90));
        line("  p99", &|s| of(latency(&s.all), |p| p.p99));
        line("  p99.9", &|s| of(latency(&s.all), |p| p.p999));
        line("  max", &|s| of(latency(&s.all), |p| p.max));
    }
    line("tokens in", &|s| s.all.input_tokens.to_string());
    line("tokens out", &|s| s.all.output_tokens.to_string());
    line("cost", &|s| cost(&s.all));
    table(&header, rows)
}

/// A cost, or that nobody said one.
pub(super) fn cost(tally: &Tally) -> String {
    tally.cost.map_or("-".into(), |c| Money::from_nanos(c.nanousd).to_string())
}

fn by_tenant(rows: &[(&StepReport, &str, &Tally)]) -> String {
    let row = |(step, name, t): &(&StepReport, &str, &Tally)| {
        vec![
            format!("{} {name}", step.label),
            t.sent.to_string(),
            t.counts.complete.to_string(),
            t.counts.sheds.to_string(),
            t.counts.failed().to_string(),
            rate(t.goodput),
            of(t.first_us, |p| p.p50),
            of(t.first_us, |p| p.p99),
            of(t.total_us, |p| p.p50),
            of(t.total_us, |p| p.p99),
            cost(t),
        ]
    };
    let header = [
        "tenant",
        "sent",
        "complete",
        "shed",
        "failed",
        "goodput/s",
        "first p50",
        "first p99",
        "whole p50",
        "whole p99",
        "cost",
    ];
    table(&header, rows.iter().map(row).collect())
}

/// What ended otherwise, by its code.
fn codes(report: &Report) -> Option<String> {
    let rows: Vec<Vec<String>> = report
        .steps
        .iter()
        .flat_map(|s| {
            s.all.by_code.iter().map(|(code, n)| vec![format!("{} {code}", s.label), n.to_string()])
        })
        .collect();
    (!rows.is_empty()).then(|| table(&["not complete", "requests"], rows))
}

/// The tool's own delay.
fn client(report: &Report) -> Option<String> {
    let worst = report.steps.iter().max_by_key(|s| s.client.late_p99_us)?;
    let most = report.steps.iter().map(|s| s.client.most_in_flight).max()?;
    Some(format!(
        "this tool: sent requests {} late at p99 (at {}), {most} under way at most",
        us(worst.client.late_p99_us),
        worst.label
    ))
}
