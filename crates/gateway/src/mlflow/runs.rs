//! Runs over the wire: made, read, changed, and the history of their metrics.

use ::models::{check, hex};
use serde::Serialize;
use serde_json::json;
use store::tracking::{NewTrackedRun, Refused, RunUpdate, Stage};

use super::errors::Failed;
use super::schema::{Field, Sort, check, may, must};
use super::search::{offset, token};
use super::wire::{InfoWire, MetricWire, RunWire};
use super::{Answer, Cx, done, json};

pub(super) const ID: Field = must("run_id", Sort::Text);
const NAME: &str = "mlflow.runName";
const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];

pub(super) async fn create(cx: &Cx) -> Answer {
    check(
        &cx.asked,
        &[must("experiment_id", Sort::Text), may("start_time", Sort::Int), may("run_name", Sort::Text)],
    )?;
    let (asked, tags) = (&cx.asked, cx.asked.pairs("tags"));
    let tagged = tags.iter().find(|(k, _)| k == NAME).map(|(_, v)| v.as_str()).filter(|n| !n.is_empty());
    let named = asked.maybe_str("run_name").filter(|n| !n.is_empty());
    if let (Some(name), Some(tag)) = (named, tagged)
        && name != tag
    {
        return Err(Failed::invalid(format!(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values \
             (run_name='{name}', mlflow.runName='{tag}')."
        )));
    }
    let new = NewTrackedRun {
        id: hex(cx.fresh()),
        experiment: check::experiment_id(asked.str("experiment_id"))?,
        name: named.or(tagged).map_or_else(|| cx.name(), str::to_owned),
        user: asked.str("user_id").to_owned(),
        started_at: asked.int("start_time").unwrap_or(0),
        tags,
    };
    let made = cx.tracking().create_run(&new, cx.now).await?;
    json(&json!({"run": RunWire::fresh(&made)}))
}

/// An answer that is a run.
#[derive(Serialize)]
struct One<'a> {
    run: RunWire<'a>,
}

pub(super) async fn get(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID])?;
    let found = cx.tracking().run(cx.asked.str("run_id")).await?;
    json(&One { run: (&found).into() })
}

pub(super) async fn update(cx: &Cx) -> Answer {
    let fields = [ID, may("end_time", Sort::Int), may("status", Sort::Name), may("run_name", Sort::Text)];
    check(&cx.asked, &fields)?;
    let asked = &cx.asked;
    let by_number = asked.int("status").and_then(|n| STATUSES.get(usize::try_from(n - 1).ok()?).copied());
    let by_name = asked.maybe_str("status").and_then(|s| STATUSES.into_iter().find(|known| *known == s));
    let update = RunUpdate {
        status: by_name.or(by_number).map(str::to_owned),
        ended_at: asked.int("end_time"),
        name: asked.maybe_str("run_name").map(str::to_owned),
    };
    let info = cx.tracking().update_run(asked.str("run_id"), &update).await?;
    json(&json!({"run_info": InfoWire::from(&info)}))
}

pub(super) async fn delete(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID])?;
    cx.tracking().stage_run(cx.asked.str("run_id"), Stage::Deleted, cx.now).await?;
    done()
}

pub(super) async fn restore(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID])?;
    cx.tracking().stage_run(cx.asked.str("run_id"), Stage::Active, cx.now).await?;
    done()
}

pub(super) async fn delete_tag(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID, must("key", Sort::Text)])?;
    cx.tracking().untag_run(cx.asked.str("run_id"), cx.asked.str("key")).await?;
    done()
}

/// An answer that is metrics.
#[derive(Serialize)]
struct Metrics<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<MetricWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn history(cx: &Cx) -> Answer {
    check(&cx.asked, &[ID, must("metric_key", Sort::Text), may("page_token", Sort::Text)])?;
    let most = cx.asked.int("max_results");
    if let Some(n) = most.filter(|n| *n <= 0) {
        return Err(Failed::invalid(format!(
            "Invalid value {n} for parameter 'max_results' supplied. It must be a positive integer."
        )));
    }
    let (id, key) = (cx.asked.str("run_id"), cx.asked.str("metric_key"));
    let from = offset(cx.asked.str("page_token"))?;
    let page = cx.tracking().history(id, key, from, most.and_then(|n| u64::try_from(n).ok())).await?;
    let metrics = page.items.iter().map(MetricWire::from).collect();
    json(&Metrics { metrics, next_page_token: page.next.map(token) })
}

/// Values of each run at most, unless somebody says otherwise.
const SAMPLED: i64 = 2_500;
/// Runs at once.
const RUNS: usize = 100;

pub(super) async fn histories(cx: &Cx) -> Answer {
    let fields = [
        must("run_ids", Sort::Texts),
        must("metric_key", Sort::Text),
        may("start_step", Sort::Int),
        may("end_step", Sort::Int),
        may("max_results", Sort::Int),
    ];
    check(&cx.asked, &fields)?;
    let asked = &cx.asked;
    let ids = asked.texts("run_ids");
    if ids.len() > RUNS {
        return Err(Failed::invalid(format!(
            "GetMetricHistoryBulkInterval request must specify at most {RUNS} run_ids. Received {} run_ids.",
            ids.len()
        )));
    }
    let most = asked.int("max_results").unwrap_or(SAMPLED);
    let between = match (asked.int("start_step"), asked.int("end_step")) {
        (None, None) => None,
        (Some(from), Some(to)) if from > to => {
            return Err(Failed::invalid(format!(
                "end_step must be greater than start_step. Found start_step={from} and end_step={to}."
            )));
        }
        (Some(from), Some(to)) => Some((from, to)),
        _ => {
            let m = "If either start step or end step are specified, both must be specified.";
            return Err(Refused::invalid(m).into());
        }
    };
    let most = u64::try_from(most.max(1)).unwrap_or(1);
    let found = cx.tracking().histories(&ids, asked.str("metric_key"), most, between).await?;
    let each = found.iter().map(|m| MetricWire::of(&m.metric, &m.run));
    json(&Metrics { metrics: each.collect(), next_page_token: None })
}
