//! `POST /v1/batches`: what is said of a batch at once. What its file holds is looked at by [`super::drive`].

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use contract::{Code, Error, RetryHint, RunId, UnixMillis};
use http::HeaderMap;
use serde_json::{Map, Value as Json};
use store::StoredBatch;

use super::object::{Batch, Status};
use super::{Batches, storage};
use crate::app::App;
use crate::auth::Caller;

/// What a batch can ask.
pub(super) const ENDPOINTS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/responses"];
/// The longest time that a batch can be given, in seconds.
const LONGEST: i64 = 7 * 86_400;
/// Seconds from an hour to thirty days, as of files.
const STAYS: std::ops::RangeInclusive<i64> = 3_600..=2_592_000;

fn wrong(param: &str, m: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, m).param(param)
}

/// Keeps a batch, or says what is wrong with it. Its id.
pub(super) async fn create(
    app: &App,
    batches: &Batches,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<RunId, Error> {
    llm::surface::bounded(body)?;
    let mut body: Map<String, Json> =
        serde_json::from_slice(body).map_err(|_| wrong("body", "the body must be a JSON object"))?;
    let mut text = |name: &str| match body.shift_remove(name) {
        Some(Json::String(t)) if !t.is_empty() => Ok(t),
        _ => Err(wrong(name, format!("`{name}` must be a string"))),
    };
    let (input_file, endpoint, window) =
        (text("input_file_id")?, text("endpoint")?, text("completion_window")?);
    if !ENDPOINTS.contains(&endpoint.as_str()) {
        return Err(wrong("endpoint", format!("`endpoint` must be one of {}", ENDPOINTS.join(", "))));
    }
    let seconds = seconds(&window).ok_or_else(|| {
        wrong("completion_window", "`completion_window` must be a time such as 24h: at most 7d")
    })?;
    let metadata = metadata(body.shift_remove("metadata"))?;
    let stays = stays(body.shift_remove("output_expires_after"))?;
    let webhook = match app.jobs() {
        Some(jobs) => jobs.webhook(headers)?,
        None => None,
    };
    let now = app.inner.clock.wall();
    let file = app.inner.files.get(&caller.tenant, &input_file, now).await.map_err(storage)?;
    let file = file.ok_or_else(|| {
        let m = "there is no file of that id: leave one by POST /v1/files with the purpose batch";
        wrong("input_file_id", m)
    })?;
    if file.purpose != "batch" {
        return Err(wrong("input_file_id", "the file was left for another purpose than batch"));
    }
    // Results are kept however much there is of them, so that none is lost: who is over his limit gets no more of them.
    let held = app.inner.files.held(&caller.tenant, now).await.map_err(storage)?;
    let limit = app.generation.settings.limits.files_bytes;
    if held > limit {
        let m = format!("the files of this tenant may take {limit} bytes together: delete some first");
        let e = Error::new(Code::TooLarge, m).param("input_file_id");
        return Err(e.limit_source(format!("tenant:{}", caller.tenant)));
    }
    let id = RunId::of(app.request_id());
    let batch = Batch {
        endpoint,
        input_file,
        window,
        metadata,
        key: caller.key.clone(),
        webhook,
        stays,
        status: Status::Validating,
        errors: Vec::new(),
        output_file: None,
        error_file: None,
        expires_at: UnixMillis(now.0.saturating_add(seconds * 1_000)),
        in_progress_at: None,
        finalizing_at: None,
        completed_at: None,
        failed_at: None,
        expired_at: None,
        cancelling_at: None,
        cancelled_at: None,
        total: 0,
        completed: 0,
        failed: 0,
        fed: 0,
        line: 0,
        offset: 0,
        longest: None,
    };
    let new = StoredBatch {
        id,
        tenant: caller.tenant.clone(),
        created_at: now,
        ended_at: None,
        version: 0,
        about: batch.written()?,
    };
    if !batches.store.create(&new, batches.settings.open).await.map_err(storage)? {
        let m = format!("{} batches of this tenant go on already", batches.settings.open);
        let e = Error::new(Code::Overloaded, m).retry(RetryHint::After(Duration::from_secs(60)));
        return Err(e.limit_source(format!("tenant:{}", caller.tenant)));
    }
    batches.wake.notify_one();
    Ok(id)
}

/// `24h` in seconds.
fn seconds(window: &str) -> Option<i64> {
    let at = window.len().checked_sub(1).filter(|at| window.is_char_boundary(*at))?;
    let (number, unit) = window.split_at(at);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let seconds = number.parse::<i64>().ok().filter(|_| digits)?.checked_mul(unit)?;
    (1..=LONGEST).contains(&seconds).then_some(seconds)
}

/// The caller's own marks, as of responses.
fn metadata(marks: Option<Json>) -> Result<Option<BTreeMap<String, String>>, Error> {
    let bad =
        || wrong("metadata", "`metadata` must hold at most 16 strings of 512 characters, by names of 64");
    let marks = match marks {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Object(marks)) => marks,
        Some(_) => return Err(bad()),
    };
    let short = |(k, v): (String, Json)| match v {
        Json::String(v) if k.chars().count() <= 64 && v.chars().count() <= 512 => Ok((k, v)),
        _ => Err(bad()),
    };
    match marks.len() {
        0..=16 => marks.into_iter().map(short).collect::<Result<_, _>>().map(Some),
        _ => Err(bad()),
    }
}

/// How long the files of a batch stay, in seconds; until they are deleted, without.
fn stays(wanted: Option<Json>) -> Result<Option<i64>, Error> {
    let wanted = match wanted {
        None | Some(Json::Null) => return Ok(None),
        Some(wanted) => wanted,
    };
    let seconds = wanted.get("seconds").and_then(Json::as_i64).filter(|s| STAYS.contains(s));
    match (wanted.get("anchor").and_then(Json::as_str), seconds) {
        (Some("created_at"), Some(seconds)) => Ok(Some(seconds)),
        _ => {
            let m =
                "`output_expires_after` must have the anchor created_at, and seconds from 3600 to 2592000";
            Err(wrong("output_expires_after", m))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn a_window_is_a_number_and_a_unit_of_a_week_at_most() {
        for (text, s) in [("24h", 86_400), ("1s", 1), ("90m", 5_400), ("7d", 604_800)] {
            assert_eq!(seconds(text), Some(s), "{text}");
        }
        for text in ["", "h", "0h", "-1h", "+1h", "8d", "24", "24 h", "1.5h", "9999999999999999999d", "1ä"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
