//! Searches over the wire, page by page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value as Json;
use store::tracking::{Refused, Search, View};

use super::asked::{Asked, int};
use super::schema::{Sort, check, may};
use super::wire::{ExperimentWire, RunWire};
use super::{Answer, Cx, json};

/// The most on a page.
const MOST: i64 = 50_000;
/// Unless somebody says otherwise.
const RUNS: i64 = 1_000;

/// Where the page of a token begins: that of none at 0.
pub(super) fn offset(token: &str) -> Result<u64, Refused> {
    if token.is_empty() {
        return Ok(0);
    }
    let undecoded = || Refused::invalid("Invalid page token, could not base64-decode");
    // What is no sign of the alphabet is passed over.
    let signs: String =
        token.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')).collect();
    let bytes = STANDARD.decode(signs).map_err(|_| undecoded())?;
    let shown = || String::from_utf8_lossy(&bytes).into_owned();
    let read: Json = serde_json::from_slice(&bytes)
        .map_err(|_| Refused::invalid(format!("Invalid page token, decoded value=b'{}'", shown())))?;
    let offset = read.get("offset").and_then(int).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    offset.ok_or_else(|| {
        Refused::invalid(format!("Invalid page token, parsed value={}", shown().replace('"', "'")))
    })
}

/// The token of the page that begins there.
pub(super) fn token(from: u64) -> String {
    STANDARD.encode(format!("{{\"offset\": {from}}}"))
}

/// Deleted ones or not: by name or by number.
fn view(asked: &Asked, name: &str) -> View {
    match (asked.maybe_str(name), asked.int(name)) {
        (Some("DELETED_ONLY"), _) | (_, Some(2)) => View::Deleted,
        (Some("ALL"), _) | (_, Some(3)) => View::All,
        _ => View::Active,
    }
}

/// How many are wanted.
pub(super) fn most(n: i64) -> Result<u64, Refused> {
    let wrong = |what: &str| {
        Refused::invalid(format!("Invalid value {n} for parameter 'max_results' supplied. It must be {what}"))
    };
    if n > MOST {
        return Err(wrong(&format!("at most {MOST}")));
    }
    u64::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| wrong("a positive integer"))
}

#[derive(Serialize)]
struct Runs<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<RunWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn runs(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    let fields = [
        may("experiment_ids", Sort::List),
        may("filter", Sort::Text),
        may("max_results", Sort::Most(MOST)),
        may("order_by", Sort::Texts),
    ];
    check(asked, &fields)?;
    let wanted = Search {
        filter: asked.str("filter").to_owned(),
        order: asked.texts("order_by"),
        view: view(asked, "run_view_type"),
        from: offset(asked.str("page_token"))?,
        most: most(asked.int("max_results").unwrap_or(RUNS))?,
    };
    let ids = asked.texts("experiment_ids");
    let ids = ids.iter().map(|id| ::models::check::experiment_id(id)).collect::<Result<Vec<_>, _>>()?;
    let page = cx.tracking().search_runs(&ids, &wanted).await?;
    let runs = page.items.iter().map(RunWire::from).collect();
    json(&Runs { runs, next_page_token: page.next.map(token) })
}

#[derive(Serialize)]
struct Experiments<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    experiments: Vec<ExperimentWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

pub(super) async fn experiments(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    let fields = [
        may("view_type", Sort::Name),
        may("max_results", Sort::Int),
        may("order_by", Sort::List),
        may("filter", Sort::Text),
        may("page_token", Sort::Text),
    ];
    check(asked, &fields)?;
    let wanted = Search {
        filter: asked.str("filter").to_owned(),
        order: asked.texts("order_by"),
        view: view(asked, "view_type"),
        from: offset(asked.str("page_token"))?,
        most: most(asked.int("max_results").unwrap_or(0))?,
    };
    let page = cx.tracking().search_experiments(&wanted, cx.now).await?;
    let experiments = page.items.iter().map(ExperimentWire::from).collect();
    json(&Experiments { experiments, next_page_token: page.next.map(token) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_where_it_was_made_for_and_another_is_refused() {
        assert_eq!(offset(&token(17)), Ok(17));
        assert_eq!(offset(""), Ok(0));
        for (bad, says) in [
            ("%", "Invalid page token, decoded value=b''"),
            ("abc", "Invalid page token, could not base64-decode"),
            ("eHk=", "Invalid page token, decoded value=b'xy'"),
            ("e30=", "Invalid page token, parsed value={}"),
        ] {
            assert_eq!(offset(bad).unwrap_err().message, says);
        }
    }
}
