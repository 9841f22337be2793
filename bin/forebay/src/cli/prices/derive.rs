//! `forebay prices derive`: what was spent, computed again from the ledger's token counts and the prices that held at
//! the time of each call, beside what was recorded.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use contract::{ModelName, Money, RequestRecord, UnixMillis};
use serde::Serialize;
use serde_json::json;
use store::Filter;

use super::super::storage::{self, Need, clean, failed};
use super::super::{Global, block_on, print, print_json, time};
use crate::Error;
use crate::config::Config;
use crate::inventory;
use crate::prices::History;

/// The calls of one model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Line {
    /// How many.
    attempts: u64,
    /// What the ledger has.
    recorded: Money,
    /// What the prices of their times give; calls without a known price are not in it.
    derived: Money,
    /// Calls of times of which no price is known.
    unknown: u64,
}

pub(super) fn run(global: &Global, config: &Config, table: &History, since: &str) -> Result<(), Error> {
    let from = time::since(since, time::now()).ok_or_else(|| {
        let message = format!("`{}` is neither a length of time nor a day", clean(since));
        Error::new(message, "give --since a time such as 30d or a day such as 2026-01-31")
    })?;
    let records = block_on(async {
        let reader = storage::open(global, Need::Records).await?;
        let filter = Filter { since: Some(from), ..Filter::default() };
        let records = reader.recent(u32::MAX, &filter).await.map_err(failed);
        reader.close().await;
        records
    })?;
    let lines = derive(&records, |model, at| inventory::price_at(config, table, model, at));
    if global.json {
        return print_json(&json!({"since": from, "models": lines}));
    }
    let mut shown = Table::new();
    shown.load_style(presets::NOTHING);
    shown.set_header(["model", "calls", "recorded", "derived", "difference", "without a price"]);
    for (model, line) in &lines {
        shown.add_row([
            clean(model.as_str()),
            line.attempts.to_string(),
            line.recorded.to_string(),
            line.derived.to_string(),
            (line.derived - line.recorded).to_string(),
            line.unknown.to_string(),
        ]);
    }
    for column in shown.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    print(&shown.trim_fmt());
    Ok(())
}

fn derive(
    records: &[RequestRecord],
    price: impl Fn(&ModelName, UnixMillis) -> Option<contract::Price>,
) -> BTreeMap<ModelName, Line> {
    let mut lines: BTreeMap<ModelName, Line> = BTreeMap::new();
    for record in records {
        for attempt in &record.attempts {
            let line = lines.entry(attempt.model.clone()).or_default();
            line.attempts += 1;
            line.recorded += attempt.cost;
            match price(&attempt.model, record.at) {
                Some(price) => line.derived += price.cost(&attempt.usage),
                None => line.unknown += 1,
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use contract::RequestId;

    use super::*;

    fn record(at: i64, cost: i64) -> RequestRecord {
        serde_json::from_value(json!({
            "id": RequestId::from_parts(UnixMillis(at), 7), "at": at, "surface": "cli", "tenant": "t", "stream": false,
            "queued_us": 0, "total_us": 1, "usage": {"input_tokens": 10, "output_tokens": 0}, "cost": cost,
            "stages": [], "ending": "complete",
            "attempts": [{
                "model": "m", "endpoint": "m", "started_us": 0, "queued_us": 0, "ended_us": 1, "cost": cost,
                "usage": {"input_tokens": 10, "output_tokens": 0}, "ending": "complete",
            }],
        }))
        .unwrap()
    }

    #[test]
    fn every_call_is_priced_at_its_own_time() {
        let mut table = History::default();
        for (nanos, from) in [(1, 100), (5, 200)] {
            let text =
                format!(r#"{{"x": {{"input_cost_per_token": {nanos}e-9, "litellm_provider": "openai"}}}}"#);
            table.import(crate::prices::read(&text).unwrap(), UnixMillis(from));
        }
        let config: Config =
            serde_json::from_value(json!({"models": {"m": {"openai": "x", "api_key": "k"}}})).unwrap();
        let records = [record(50, 0), record(150, 10), record(250, 50)];
        let lines = derive(&records, |m, at| inventory::price_at(&config, &table, m, at));
        let nanos = Money::from_nanos;
        let expected = Line { attempts: 3, recorded: nanos(60), derived: nanos(10 + 50), unknown: 1 };
        assert_eq!(lines.get(&ModelName::from("m")), Some(&expected));
    }
}
