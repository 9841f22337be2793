//! `forebay costs`: what was spent, summed from the ledger.
//!
//! Records that a server has not moved from its journal to the database yet are not counted: at most the last moments,
//! or what a crash left until the next start.

use comfy_table::{CellAlignment, Table, presets};
use contract::{Money, UnixMillis};
use serde_json::{Value, json};
use store::{CostBy, CostRow};

use super::source::Source;
use super::storage::{Need, clean};
use super::{Global, block_on, print, print_json, time};
use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to sum by.
    #[arg(long, value_enum)]
    by: By,
    /// From when on: so long ago (7d), or a UTC day (2026-01-31). Unless given: from the start.
    #[arg(long, value_name = "TIME|DAY")]
    since: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Who pays.
    Tenant,
    /// The model that was called.
    Model,
    /// The pipeline.
    Pipeline,
    /// The API key.
    Key,
    /// The end user, within the tenant.
    User,
    /// The UTC day.
    Day,
}

impl By {
    fn as_str(self) -> &'static str {
        match self {
            By::Tenant => "tenant",
            By::Model => "model",
            By::Pipeline => "pipeline",
            By::Key => "key",
            By::User => "user",
            By::Day => "day",
        }
    }

    fn sum(self) -> CostBy {
        match self {
            By::Tenant => CostBy::Tenant,
            By::Model => CostBy::Model,
            By::Pipeline => CostBy::Pipeline,
            By::Key => CostBy::Key,
            By::User => CostBy::User,
            By::Day => CostBy::Day,
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let from = match &args.since {
        None => UnixMillis(i64::MIN),
        Some(text) => time::since(text, time::now()).ok_or_else(|| {
            let message = format!("`{}` is neither a length of time nor a day", clean(text));
            Error::new(message, "give --since a time such as 7d or a day such as 2026-01-31")
        })?,
    };
    let (rows, requests) = block_on(async {
        let source = Source::open(global, Need::Records).await?;
        let rows = source.costs(args.by.sum(), from).await?;
        // A request that called two models is in two lines and still one request.
        let requests = if args.by == By::Model {
            let once = source.costs(CostBy::Tenant, from).await?;
            sum(&once, |r| r.requests)
        } else {
            sum(&rows, |r| r.requests)
        };
        source.close().await;
        Ok((rows, requests))
    })?;
    let total = CostRow {
        name: Some("total".into()),
        tenant: None,
        requests,
        input_tokens: sum(&rows, |r| r.input_tokens),
        output_tokens: sum(&rows, |r| r.output_tokens),
        cost: rows.iter().map(|r| r.cost).sum::<Money>(),
    };
    if global.json {
        let lines: Vec<Value> = rows.iter().map(|r| to_json(args.by, r)).collect();
        let since = args.since.as_ref().map(|_| from);
        let total = figures(&total);
        return print_json(&json!({"by": args.by.as_str(), "since": since, "rows": lines, "total": total}));
    }
    print(&render(args.by, &rows, &total));
    Ok(())
}

fn sum(rows: &[CostRow], figure: impl Fn(&CostRow) -> u64) -> u64 {
    rows.iter().map(figure).fold(0, u64::saturating_add)
}

/// The name of a line; a day as a date.
fn name(by: By, row: &CostRow) -> Option<String> {
    let name = row.name.as_ref()?;
    match name.parse() {
        Ok(day) if by == By::Day => Some(time::date(day)),
        _ => Some(clean(name)),
    }
}

fn figures(row: &CostRow) -> Value {
    json!({
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_nanodollars": row.cost,
    })
}

fn to_json(by: By, row: &CostRow) -> Value {
    let mut value = figures(row);
    if let Some(fields) = value.as_object_mut() {
        fields.insert("name".into(), name(by, row).into());
        if let Some(tenant) = &row.tenant {
            fields.insert("tenant".into(), tenant.as_str().into());
        }
    }
    value
}

fn render(by: By, rows: &[CostRow], total: &CostRow) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([by.as_str(), "requests", "input tokens", "output tokens", "cost"]);
    let mut line = |name: String, row: &CostRow| {
        table.add_row([
            name,
            row.requests.to_string(),
            row.input_tokens.to_string(),
            row.output_tokens.to_string(),
            row.cost.to_string(),
        ]);
    };
    for row in rows {
        let name = name(by, row).unwrap_or_else(|| "(none)".into());
        let tenant = row.tenant.as_ref().map_or(String::new(), |t| format!("{} / ", clean(t.as_str())));
        line(format!("{tenant}{name}"), row);
    }
    line("total".into(), total);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: Option<&str>, requests: u64) -> CostRow {
        CostRow {
            name: name.map(Into::into),
            tenant: None,
            requests,
            input_tokens: 10,
            output_tokens: 5,
            cost: Money::from_nanos(20_000_000),
        }
    }

    #[test]
    fn a_bill_by_day_shows_dates_and_ends_with_the_total() {
        let text = render(By::Day, &[row(Some("19782"), 3)], &row(Some("total"), 3));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("day") && lines[1].contains("2024-02-29"), "{text}");
        assert!(lines[2].contains("total") && lines[2].ends_with("$0.02"), "{text}");
    }

    #[test]
    fn users_of_two_tenants_are_told_apart_and_nobody_has_a_name() {
        let mut alice = row(Some("alice"), 1);
        alice.tenant = Some("acme".into());
        let text = render(By::User, &[alice, row(None, 1)], &row(Some("total"), 2));
        assert!(text.contains("acme / alice") && text.contains("(none)"), "{text}");
    }
}
