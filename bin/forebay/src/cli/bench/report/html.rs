//! The report as one page that needs nothing else: no script, no address of anybody.

use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::{Report, StepReport, Tally, plots, rate, table, us};
use crate::Error;

/// Its name ends in `.html`: everything that is put in is escaped, but the plots.
const NAME: &str = "report.html";
const TEMPLATE: &str = include_str!("report.html");

/// A plot and what stands over it.
fn plot(label: &str, svg: String) -> Value {
    context! { label, svg => Value::from_safe_string(svg) }
}

/// The page.
///
/// # Errors
/// A plot or the page could not be made, which is a defect.
pub(in crate::cli::bench) fn page(report: &Report) -> Result<String, Error> {
    let failed = |e: minijinja::Error| {
        Error::new(format!("cannot make the page: {e:#}"), "report this; --json has all figures")
    };
    let steps: Vec<&StepReport> = report.steps.iter().collect();
    type Latency = fn(&Tally) -> Option<super::Percentiles>;
    let wanted: [(&str, &str, Latency); 3] = [
        ("Latency of whole answers", "whole answer", |t| t.total_us),
        ("Latency to the first output", "first output", |t| t.first_us),
        ("Time for a token", "a token", |t| t.tpot_us),
    ];
    let mut latencies = Vec::new();
    for (label, axis, of) in wanted {
        latencies.extend(plots::latency(&steps, axis, of)?.map(|svg| plot(label, svg)));
    }
    let timelines =
        steps.iter().map(|s| Ok(plot(&s.label, plots::timeline(s)?))).collect::<Result<Vec<_>, Error>>()?;
    let costs: Vec<String> = steps.iter().map(|s| table::cost(&s.all)).collect();
    let mut env = Environment::new();
    env.add_filter("us", |value: u64| us(value));
    env.add_filter("rate", |value: f64| rate(value));
    env.add_template(NAME, TEMPLATE).map_err(failed)?;
    let page = env.get_template(NAME).map_err(failed)?;
    page.render(context! {
        report => Value::from(Serde(report)),
        goodput => Value::from_safe_string(plots::goodput(&steps, report.setup.slo.is_some())?),
        latencies,
        timelines,
        costs,
    })
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::answer::Outcome;
    use crate::cli::bench::args::Speaks;
    use crate::cli::bench::drive::Ran;
    use crate::cli::bench::plan::{Arrivals, Step, Streaming};
    use crate::cli::bench::profile::Profile;
    use crate::cli::bench::report::{Setup, Weight};
    use crate::cli::bench::tally::{Judge, tests::sample};

    fn report(model: &str, samples: Vec<crate::cli::bench::client::Sample>) -> Report {
        let window = Duration::from_secs(1);
        let step = Step { label: "1x".into(), rate: 10.0, warm_up: Duration::ZERO, measured: window };
        let ran = Ran { samples, reached: window, ..Ran::default() };
        let judge = Judge { slo: None, price: None, window };
        Report {
            schema: "forebay.bench/1",
            version: "0",
            started: "1970-01-01T00:00:00Z".into(),
            setup: Setup {
                url: "http://127.0.0.1:1".into(),
                surface: Speaks::Openai,
                model: model.into(),
                rate: 10.0,
                arrivals: Arrivals::Poisson,
                streaming: Streaming::Always,
                profile: Profile::named("chat").unwrap(),
                documents: None,
                warm_up_ms: 0,
                measured_ms: 1_000,
                ramp_down_ms: 0,
                timeout_ms: 1_000,
                in_flight: 1,
                seed: 1,
                slo: None,
                price: None,
                tenants: vec![Weight { name: "a".into(), weight: 1 }, Weight { name: "b".into(), weight: 1 }],
            },
            probes: 2,
            steps: vec![StepReport::of(&step, &ran, &judge, &["a".into(), "b".into()])],
            broke: None,
            limit: None,
            thresholds: Vec::new(),
            interrupted: false,
            verdict: "It did not break.".into(),
        }
    }

    #[test]
    fn the_page_has_its_plots_and_escapes_what_others_named() {
        let code = "<script>x</script>".to_owned();
        let samples =
            vec![sample(0, 20, Outcome::Complete), sample(500, 9, Outcome::Error { status: 500, code })];
        let page = page(&report("<b>model</b>", samples)).unwrap();
        // Latencies, goodput and a timeline.
        assert_eq!(page.matches("<svg").count(), 5, "{page}");
        assert!(!page.contains("<b>model") && !page.contains("<script"), "{page}");
        assert!(page.contains("&lt;b&gt;model") && page.contains("It did not break."));
        assert!(!page.contains("src=") && !page.contains("href="), "nothing is loaded");
    }

    #[test]
    fn a_run_without_an_answer_has_a_page_too() {
        assert!(page(&report("m", vec![sample(0, 9, Outcome::TimedOut)])).unwrap().contains("<svg"));
        assert!(page(&report("m", Vec::new())).unwrap().contains("<svg"));
    }
}
