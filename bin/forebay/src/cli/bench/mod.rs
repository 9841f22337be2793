//! `forebay bench`: open-loop load on a running server, at several rates, and where it breaks first.
//!
//! How it goes: [`args`] say what is wanted; [`profile`], [`text`] and [`plan`] draw every request of a step before the
//! first is sent; [`drive`] sends each when it is due and [`client`] with [`answer`] sees how it ends; [`tally`] sums,
//! [`verdict`] says what went wrong, [`report`] shows it. Never blames the server for what this program could not do.

mod answer;
pub(super) mod args;
mod client;
mod drive;
mod files;
mod plan;
mod profile;
mod progress;
mod random;
mod report;
mod tally;
mod text;
mod threshold;
mod verdict;
mod wire;

use std::pin::{Pin, pin};
use std::time::Duration;

use contract::SystemClock;

use self::args::{Args, Speaks, Tenant};
use self::client::Target;
use self::drive::Limits;
use self::plan::{Mix, Planned, Step};
use self::profile::Profile;
use self::progress::Progress;
use self::random::Random;
use self::report::{Checked, Limit, Report, Setup, StepReport, Weight};
use self::tally::Judge;
use self::text::Source;
use self::verdict::Said;
use self::wire::Maker;
use super::client::Client;
use super::remote::Remote;
use super::storage::clean;
use super::{Global, block_on, print, print_json, time};
use crate::Error;

/// Between two steps, for a server to come to rest.
const PAUSE: Duration = Duration::from_secs(1);
/// Steps that `--find-limit` adds, at most.
const HALVINGS: usize = 6;
/// Rates so close are one limit.
const CLOSE: f64 = 1.1;

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let bench = Bench::new(global, args)?;
    let report = block_on(bench.run())?;
    if let Some(path) = &args.save {
        let json = serde_json::to_vec_pretty(&report)
            .map_err(|e| Error::new(format!("cannot write the report: {e}"), "report this"))?;
        std::fs::write(path, json).map_err(|e| Error::file("write", path, &e))?;
    }
    if let Some(path) = &args.html {
        std::fs::write(path, report::page(&report)?).map_err(|e| Error::file("write", path, &e))?;
    }
    if global.json {
        print_json(&report)?;
    } else {
        print(&report::render(&report));
    }
    if report.interrupted {
        return Err(Error::Cancelled);
    }
    let failed: Vec<String> = report
        .thresholds
        .iter()
        .filter(|t| t.came_true)
        .map(|t| format!("{} at {} ({})", t.threshold, t.step, t.shown))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let help = "the report says what went wrong; --fail-on says what must not";
    Err(Error::new(format!("--fail-on came true: {}", failed.join(", ")), help))
}

/// A run, ready to begin.
struct Bench<'a> {
    args: &'a Args,
    target: Target,
    profile: Profile,
    tenants: Vec<Tenant>,
    weights: Vec<u32>,
    random: Random,
    in_flight: usize,
}

impl<'a> Bench<'a> {
    fn new(global: &Global, args: &'a Args) -> Result<Bench<'a>, Error> {
        let remote = match &args.url {
            Some(url) => Some(Remote::at(url, None)?),
            None => Remote::of(global)?,
        };
        let remote = remote.ok_or_else(|| {
            Error::new("there is no server to load", "name one by --url, --server or FOREBAY_URL")
        })?;
        let tenants = match &args.tenants {
            Some(text) => args::tenants(text.expose()).map_err(|why| {
                Error::new(format!("--tenants: {why}"), "write it as gold=KEY1:1,free=KEY2:3")
            })?,
            None => vec![Tenant { name: "all".into(), key: global.key().cloned(), weight: 1 }],
        };
        for threshold in &args.fail_on {
            if let Some(step) = &threshold.step
                && !args.steps.0.iter().any(|(label, _)| label == step)
            {
                let message = format!("--fail-on {threshold}: there is no step {}", clean(step));
                return Err(Error::new(message, "name one of --steps"));
            }
        }
        let random = Random::new(args.seed);
        let source = match &args.documents {
            Some(folder) => Source::documents(folder, args.surface != Speaks::Native)?,
            None => Source::words(&mut random.fork(u64::MAX)),
        };
        let maker = Maker { speaks: args.surface, model: args.model.clone(), source };
        let in_flight = files::make_room(args.in_flight)?;
        let target = Target {
            client: Client::new(),
            base: remote.base().to_owned(),
            keys: tenants.iter().map(|t| t.key.clone()).collect(),
            maker,
            timeout: args.timeout,
            clock: SystemClock::default(),
        };
        let weights = tenants.iter().map(|t| t.weight).collect();
        let profile = Profile::named(&args.profile)?;
        Ok(Bench { args, target, profile, tenants, weights, random, in_flight })
    }

    async fn run(&self) -> Result<Report, Error> {
        let started = time::show(time::now());
        let mut stopped = pin!(tokio::signal::ctrl_c());
        tokio::select! {
            probed = self.probe() => probed?,
            _ = &mut stopped => return Err(Error::Cancelled),
        }
        let mut steps = Steps { bench: self, reports: Vec::new(), number: 1, interrupted: false };
        for (label, factor) in &self.args.steps.0 {
            steps.add(label.clone(), self.args.rate * factor, stopped.as_mut()).await?;
        }
        let limit = if self.args.find_limit { steps.halve(stopped.as_mut()).await? } else { None };
        let Steps { mut reports, interrupted, .. } = steps;
        reports.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let broke = verdict::first(&reports);
        Ok(Report {
            schema: "forebay.bench/1",
            version: env!("CARGO_PKG_VERSION"),
            started,
            setup: self.setup(),
            probes: self.tenants.len() as u64,
            verdict: verdict::sentence(&reports, broke.as_ref()),
            thresholds: self.thresholds(&reports),
            broke,
            limit,
            steps: reports,
            interrupted,
        })
    }

    /// One short request for each tenant: a wrong key or name is to be known before the load, not after it.
    async fn probe(&self) -> Result<(), Error> {
        for tenant in 0..self.tenants.len() {
            let planned = Planned {
                number: 0,
                due: Duration::ZERO,
                measured: false,
                tenant,
                input: 8,
                output: 1,
                stream: false,
                seed: 0,
            };
            let answered = tokio::time::timeout(self.args.timeout, self.target.probe(&planned)).await;
            answered.unwrap_or_else(|_| {
                let message = "the server does not answer the first request in time";
                Err(Error::new(message, "check the server, or give --timeout a longer time"))
            })?;
        }
        Ok(())
    }

    /// The `--fail-on`s, each at its step; one without a step at the first of `--steps`.
    fn thresholds(&self, reports: &[StepReport]) -> Vec<Checked> {
        let first = self.args.steps.0.first().map(|(label, _)| label);
        let check = |t: &threshold::Threshold| {
            let label = t.step.as_ref().or(first)?;
            let step = reports.iter().find(|r| r.label == *label)?;
            let value = t.value(&step.all);
            Some(Checked {
                threshold: t.to_string(),
                step: label.clone(),
                value,
                shown: t.show(value),
                came_true: t.came_true(&step.all),
            })
        };
        self.args.fail_on.iter().filter_map(check).collect()
    }

    fn setup(&self) -> Setup {
        let args = self.args;
        Setup {
            url: self.target.base.clone(),
            surface: args.surface,
            model: clean(&args.model),
            rate: args.rate,
            arrivals: args.arrivals,
            streaming: args.streaming(),
            profile: self.profile.clone(),
            documents: args.documents.as_ref().map(|d| d.display().to_string()),
            warm_up_ms: report::millis(args.warm_up),
            measured_ms: report::millis(args.measured),
            ramp_down_ms: report::millis(args.ramp_down),
            timeout_ms: report::millis(args.timeout),
            in_flight: self.in_flight as u64,
            seed: args.seed,
            slo: args.slo,
            price: args.price,
            tenants: self.tenants.iter().map(|t| Weight { name: t.name.clone(), weight: t.weight }).collect(),
        }
    }
}

/// The steps so far.
struct Steps<'a> {
    bench: &'a Bench<'a>,
    reports: Vec<StepReport>,
    /// Of the next request.
    number: u64,
    interrupted: bool,
}

impl Steps<'_> {
    /// Runs a step at a rate, and judges it. Nothing once the run was interrupted.
    async fn add(
        &mut self,
        label: String,
        rate: f64,
        mut stopped: Pin<&mut impl Future>,
    ) -> Result<(), Error> {
        if self.interrupted {
            return Ok(());
        }
        if !self.reports.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = &mut stopped => {
                    self.interrupted = true;
                    return Ok(());
                }
            }
        }
        let Bench { args, target, profile, tenants, weights, random, in_flight } = self.bench;
        let step = Step { label, rate, warm_up: args.warm_up, measured: args.measured };
        let mix = Mix { arrivals: args.arrivals, profile, streaming: args.streaming(), weights };
        let plan = plan::draw(&step, &mix, self.number, &random.fork(self.number))?;
        self.number += plan.len() as u64;
        let limits = Limits { in_flight: *in_flight, ramp_down: args.ramp_down };
        let progress = Progress::new(&step);
        let ran = drive::run(target, &step, plan, limits, &progress, stopped).await;
        progress.done();
        let ran = ran?;
        self.interrupted = ran.interrupted;
        let window = ran.reached.saturating_sub(step.warm_up);
        let judge = Judge { slo: args.slo, price: args.price, window };
        let names: Vec<String> = tenants.iter().map(|t| t.name.clone()).collect();
        let mut report = StepReport::of(&step, &ran, &judge, &names);
        let good = self.reports.iter().filter(|r| r.symptoms.is_empty());
        let baseline = good.min_by(|a, b| a.rate.total_cmp(&b.rate));
        report.symptoms = verdict::symptoms(&report, baseline, args.slo.is_some());
        self.reports.push(report);
        Ok(())
    }

    /// Looks for the rate at which it breaks, between the last good step and the first bad one.
    async fn halve(&mut self, mut stopped: Pin<&mut impl Future>) -> Result<Option<Limit>, Error> {
        for _ in 0..HALVINGS {
            let Some(limit) = self.limit() else { return Ok(None) };
            if self.interrupted || limit.bad / limit.good < CLOSE {
                break;
            }
            // The geometric mean: rates grow by factors.
            let rate = (limit.good * limit.bad).sqrt();
            let label = format!("{:.2}x", rate / self.bench.args.rate);
            // One that said nothing is run again, and its report is replaced.
            self.reports.retain(|r| r.label != label || verdict::said(r) != Said::Inconclusive);
            self.add(label, rate, stopped.as_mut()).await?;
        }
        Ok(self.limit())
    }

    /// The lowest bad rate and the highest good one below it; none unless there are both.
    fn limit(&self) -> Option<Limit> {
        let rates = |wanted| self.reports.iter().filter(move |r| verdict::said(r) == wanted).map(|r| r.rate);
        let bad = rates(Said::Bad).min_by(f64::total_cmp)?;
        let good = rates(Said::Good).filter(|rate| *rate < bad);
        Some(Limit { good: good.max_by(f64::total_cmp)?, bad })
    }
}
