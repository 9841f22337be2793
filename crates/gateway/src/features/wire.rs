//! The bodies of Feast's feature server, read and written.
//!
//! An answer is by column: one entry of `results` per name, the entities' keys first and then the features in the order in which
//! they were asked for; each with a value, a status and an event time per entity. Who has no row has the epoch there, as Feast says it.

use std::fmt::Write as _;

use contract::{Code, Date, Error};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{
    FeatureColumn, FeatureRows, FeatureStatus, FeatureValue, FeaturesMaterialized, FeaturesNamed,
    FeaturesPush,
};

/// The epoch.
const NEVER: &str = "1970-01-01T00:00:00Z";

#[derive(Deserialize)]
struct Online {
    entities: Map<String, Json>,
    #[serde(default)]
    features: Option<Vec<String>>,
    #[serde(default)]
    feature_service: Option<String>,
    #[serde(default)]
    full_feature_names: bool,
}

/// What somebody asks for.
pub(super) struct Asked {
    pub(super) named: FeaturesNamed,
    pub(super) entities: FeatureRows,
    full_names: bool,
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(body)
        .map_err(|e| Error::new(Code::InvalidRequest, format!("the body cannot be read: {e}")))
}

fn invalid(param: &str, message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message.into()).param(param)
}

/// Lists by name, all of a length.
fn rows(of: Map<String, Json>, param: &str) -> Result<FeatureRows, Error> {
    let mut all = FeatureRows::with_capacity(of.len());
    for (name, values) in of {
        let Json::Array(values) = values else {
            return Err(invalid(param, format!("`{param}.{name}` must be a list")));
        };
        let expected = all.first().map_or(values.len(), |(_, first)| first.len());
        if values.len() != expected {
            let m = format!("`{param}.{name}` has {} values and the others {expected}", values.len());
            return Err(invalid(param, m));
        }
        all.push((name, values));
    }
    if all.is_empty() {
        return Err(invalid(param, format!("`{param}` is empty: send a list for each key")));
    }
    Ok(all)
}

pub(super) fn asked(body: &[u8]) -> Result<Asked, Error> {
    let Online { entities, features, feature_service, full_feature_names } = read(body)?;
    let named = match (features.filter(|f| !f.is_empty()), feature_service) {
        (Some(_), Some(_)) => {
            return Err(invalid("features", "`features` and `feature_service` cannot both be given"));
        }
        (None, None) => return Err(invalid("features", "`features` or `feature_service` is needed")),
        (None, Some(service)) => FeaturesNamed::Service(service),
        (Some(features), None) => {
            let pair = |name: String| {
                let m =
                    || invalid("features", format!("`{name}` is not a feature: write it as view:feature"));
                let (view, feature) = name.split_once(':').ok_or_else(m)?;
                Ok((view.to_owned(), feature.to_owned()))
            };
            FeaturesNamed::Each(features.into_iter().map(pair).collect::<Result<_, Error>>()?)
        }
    };
    Ok(Asked { named, entities: rows(entities, "entities")?, full_names: full_feature_names })
}

/// The answer.
pub(super) fn answer(asked: &Asked, columns: &[FeatureColumn]) -> Result<String, Error> {
    let entities = asked.entities.iter().map(|(name, _)| name.clone());
    let features = columns.iter().map(|column| match asked.full_names {
        true => format!("{}__{}", column.view, column.feature),
        false => column.feature.clone(),
    });
    let names: Vec<String> = entities.chain(features).collect();
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if let Some([twice, _]) = sorted.windows(2).find(|pair| matches!(pair, [a, b] if a == b)) {
        let m = format!("`{twice}` would be the name of two columns: send `full_feature_names: true`");
        return Err(invalid("full_feature_names", m));
    }
    let rows = asked.entities.first().map_or(0, |(_, values)| values.len());
    let mut out = String::with_capacity(256 + names.len() * rows * 48);
    out.push_str("{\"metadata\":{\"feature_names\":");
    put(&mut out, &names);
    out.push_str("},\"results\":[");
    for (at, (_, values)) in asked.entities.iter().enumerate() {
        out.push_str(if at == 0 { "{\"values\":" } else { ",{\"values\":" });
        put(&mut out, values);
        out.push_str(",\"statuses\":[");
        list(&mut out, values, |out, _| out.push_str("\"PRESENT\""));
        out.push_str("],\"event_timestamps\":[");
        list(&mut out, values, |out, _| _ = write!(out, "\"{NEVER}\""));
        out.push_str("]}");
    }
    for column in columns {
        out.push_str(",{\"values\":[");
        list(&mut out, &column.values, value);
        out.push_str("],\"statuses\":[");
        list(&mut out, &column.statuses, |out, status| {
            out.push_str(match status {
                FeatureStatus::Present => "\"PRESENT\"",
                FeatureStatus::NotFound => "\"NOT_FOUND\"",
                FeatureStatus::NullValue => "\"NULL_VALUE\"",
                FeatureStatus::OutsideMaxAge => "\"OUTSIDE_MAX_AGE\"",
            });
        });
        out.push_str("],\"event_timestamps\":[");
        list(&mut out, &column.events, |out, event| moment(out, *event));
        out.push_str("]}");
    }
    out.push_str("]}");
    Ok(out)
}

fn list<T>(out: &mut String, all: &[T], mut each: impl FnMut(&mut String, &T)) {
    for (at, item) in all.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        each(out, item);
    }
}

fn put(out: &mut String, value: &(impl serde::Serialize + ?Sized)) {
    out.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()));
}

fn value(out: &mut String, value: &FeatureValue) {
    match value {
        FeatureValue::Null => out.push_str("null"),
        FeatureValue::Bool(x) => out.push_str(if *x { "true" } else { "false" }),
        FeatureValue::Int(x) => out.push_str(itoa::Buffer::new().format(*x)),
        FeatureValue::Float(x) if x.is_finite() => put(out, x),
        FeatureValue::Float(x) if x.is_nan() => out.push_str("\"NaN\""),
        FeatureValue::Float(x) => out.push_str(if *x > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
        FeatureValue::Text(text) => put(out, &**text),
        FeatureValue::Json(json) => put(out, json),
    }
}

/// RFC 3339 in UTC, with as many digits as are needed.
fn moment(out: &mut String, micros: Option<i64>) {
    const SECOND: i64 = 1_000_000;
    let Some(micros) = micros else {
        _ = write!(out, "\"{NEVER}\"");
        return;
    };
    let (seconds, rest) = (micros.div_euclid(SECOND), micros.rem_euclid(SECOND));
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let Date { year, month, day } = Date::of_day(day);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}");
    if rest > 0 {
        _ = write!(out, ".{rest:06}");
    }
    out.push_str("Z\"");
}

#[derive(Deserialize)]
struct Push {
    push_source_name: String,
    df: Map<String, Json>,
    #[serde(default)]
    to: Option<String>,
}

pub(super) fn pushed(body: &[u8]) -> Result<FeaturesPush, Error> {
    let Push { push_source_name, df, to } = read(body)?;
    let (online, offline) = match to.as_deref() {
        None | Some("online") => (true, false),
        Some("offline") => (false, true),
        Some("online_and_offline") => (true, true),
        Some(_) => return Err(invalid("to", "`to` must be online, offline or online_and_offline")),
    };
    Ok(FeaturesPush { to: push_source_name, rows: rows(df, "df")?, online, offline })
}

#[derive(Deserialize)]
struct Write {
    feature_view_name: String,
    df: Map<String, Json>,
}

pub(super) fn to_write(body: &[u8]) -> Result<FeaturesPush, Error> {
    let Write { feature_view_name, df } = read(body)?;
    Ok(FeaturesPush { to: feature_view_name, rows: rows(df, "df")?, online: true, offline: false })
}

/// What was taken.
pub(crate) fn taken(rows: u64) -> String {
    json!({"rows": rows}).to_string()
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    end_ts: Option<String>,
    #[serde(default)]
    feature_views: Option<Vec<String>>,
    #[serde(default)]
    disable_event_timestamp: bool,
}

/// What is to be brought online.
pub(super) struct Wanted {
    pub(super) views: Vec<String>,
    pub(super) until: Option<String>,
}

/// A range of time: what was before it is brought too, since a view is never materialised in part.
pub(super) fn range(body: &[u8]) -> Result<Wanted, Error> {
    let range: Range = read(body)?;
    if range.end_ts.is_none() && !range.disable_event_timestamp {
        return Err(invalid("end_ts", "`end_ts` is needed: the time up to which rows are taken"));
    }
    let until = range.end_ts.filter(|_| !range.disable_event_timestamp);
    Ok(Wanted { views: range.feature_views.unwrap_or_default(), until })
}

pub(super) fn until(body: &[u8]) -> Result<Wanted, Error> {
    let Range { end_ts, feature_views, .. } = read(body)?;
    let end_ts =
        end_ts.ok_or_else(|| invalid("end_ts", "`end_ts` is needed: the time up to which rows are taken"))?;
    Ok(Wanted { views: feature_views.unwrap_or_default(), until: Some(end_ts) })
}

pub(crate) fn done(all: &[FeaturesMaterialized]) -> String {
    let view = |m: &FeaturesMaterialized| {
        let versions: Map<String, Json> = m.versions.iter().map(|(d, v)| (d.clone(), (*v).into())).collect();
        json!({"view": m.view, "versions": versions, "rows": m.rows, "entities": m.entities})
    };
    json!({"feature_views": all.iter().map(view).collect::<Vec<_>>()}).to_string()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// An answer with a value of every kind.
    pub(crate) fn example() -> String {
        let body = br#"{"entities": {"id": [1, 2]}, "features": ["v:x"]}"#;
        let column = FeatureColumn {
            view: "v".into(),
            feature: "x".into(),
            values: vec![FeatureValue::Float(0.5), FeatureValue::Null],
            statuses: vec![FeatureStatus::Present, FeatureStatus::NotFound],
            events: Arc::new([Some(1_767_225_600_500_000), None]),
        };
        answer(&asked(body).unwrap(), &[column]).unwrap()
    }

    #[test]
    fn an_answer_is_by_column_with_the_keys_first() {
        let answer: Json = serde_json::from_str(&example()).unwrap();
        let expected = json!({
            "metadata": {"feature_names": ["id", "x"]},
            "results": [
                {"values": [1, 2], "statuses": ["PRESENT", "PRESENT"], "event_timestamps": [NEVER, NEVER]},
                {"values": [0.5, null], "statuses": ["PRESENT", "NOT_FOUND"],
                 "event_timestamps": ["2026-01-01T00:00:00.500000Z", NEVER]},
            ],
        });
        assert_eq!(answer, expected);
    }

    #[test]
    fn values_that_json_has_no_number_for_are_words() {
        let mut out = String::new();
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            value(&mut out, &FeatureValue::Float(x));
        }
        assert_eq!(out, "\"NaN\"\"Infinity\"\"-Infinity\"");
    }

    #[test]
    fn names_that_would_come_twice_are_refused_unless_they_are_full() {
        let body = |full: bool| {
            format!(
                r#"{{"entities": {{"id": [1]}}, "features": ["v:x", "w:x"], "full_feature_names": {full}}}"#
            )
        };
        let column = |view: &str| FeatureColumn {
            view: view.into(),
            feature: "x".into(),
            values: vec![FeatureValue::Int(1)],
            statuses: vec![FeatureStatus::Present],
            events: Arc::new([Some(0)]),
        };
        let columns = [column("v"), column("w")];
        let of = |full| answer(&asked(body(full).as_bytes()).unwrap(), &columns);
        assert_eq!(of(false).unwrap_err().code, Code::InvalidRequest);
        let answer: Json = serde_json::from_str(&of(true).unwrap()).unwrap();
        assert_eq!(answer["metadata"]["feature_names"], json!(["id", "v__x", "w__x"]));
    }

    #[test]
    fn a_body_that_is_none_is_refused() {
        for body in [
            "",
            "[]",
            r#"{"entities": {"id": [1]}}"#,
            r#"{"entities": {"id": 1}, "features": ["v:x"]}"#,
            r#"{"entities": {"id": [1], "k": [1, 2]}, "features": ["v:x"]}"#,
            r#"{"entities": {}, "features": ["v:x"]}"#,
            r#"{"entities": {"id": [1]}, "features": ["x"]}"#,
            r#"{"entities": {"id": [1]}, "features": ["v:x"], "feature_service": "s"}"#,
        ] {
            assert!(asked(body.as_bytes()).is_err(), "{body}");
        }
        assert!(pushed(br#"{"push_source_name": "v", "df": {"id": [1]}, "to": "nowhere"}"#).is_err());
        assert!(until(b"{}").is_err() && range(b"{}").is_err());
        assert!(range(br#"{"disable_event_timestamp": true}"#).is_ok());
    }
}
