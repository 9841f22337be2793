//! `POST /v1/feedback`: what turned out to be true of answers, and what somebody thinks of them, for whoever looks at answers.
//!
//! One or a list, each about a request by its id (`x-request-id`; of gRPC the parameter `request_id` of the answer). All of them are
//! taken or none; what is acknowledged, every observer has. Nobody tells anything of another tenant's answers: what is told names its
//! tenant, which is the caller's. An id that nobody knows is taken too: the answer may have been another server's.

use axum::extract::State;
use axum::response::Response;
use contract::{Code, Error, Surface, TenantId, UnixMillis};
use http::StatusCode;
use predict::observe::{Label, Told};
use serde_json::{Map, Value as Json, json};

use crate::app::App;
use crate::came::Came;
use crate::openai::json_response;
use crate::{errors, headers};

/// Of a list.
const MOST: usize = 10_000;
/// Letters of an id, of a name and of a label.
const LONGEST: usize = 256;
/// Letters of a comment.
const COMMENT: usize = 8_192;
/// Problems that are told of a body.
const TOLD: usize = 10;

/// `POST /v1/feedback`.
pub(crate) async fn post(State(app): State<App>, mut came: Came) -> Response {
    let taken = async {
        let tenant = came.caller(&app)?.tenant;
        let told = read(&came.body, &tenant, app.inner.clock.wall())?;
        app.observers().told(&told).await?;
        Ok::<_, Error>(taken(told.len()))
    };
    match taken.await {
        Ok(taken) => {
            let mut response = json_response(StatusCode::ACCEPTED, &taken);
            headers::request_id(app.request_id(), Surface::Native, response.headers_mut());
            response
        }
        Err(e) => errors::answer(&app, Surface::Native, e),
    }
}

/// What is answered.
pub(crate) fn taken(count: usize) -> Json {
    json!({"taken": count})
}

/// What is wrong, and where: a JSON pointer into the body.
type Problems = Vec<(String, String)>;

/// Reads a body.
fn read(body: &[u8], tenant: &TenantId, now: UnixMillis) -> Result<Vec<Told>, Error> {
    let invalid = |message: String| Error::new(Code::InvalidRequest, message);
    let body: Json =
        serde_json::from_slice(body).map_err(|e| invalid(format!("the body is not JSON: {e}")))?;
    let (all, listed) = match body {
        Json::Array(all) => (all, true),
        one => (vec![one], false),
    };
    if all.len() > MOST {
        return Err(Error::new(Code::TooLarge, format!("at most {MOST} at once")));
    }
    let (mut problems, mut told) = (Problems::new(), Vec::with_capacity(all.len()));
    for (at, one) in all.into_iter().enumerate() {
        let place = if listed { format!("/{at}") } else { String::new() };
        match one {
            Json::Object(fields) => told.extend(one_of(fields, &place, (tenant, now), &mut problems)),
            _ => problems.push((place, "an object with an `id` is expected".to_owned())),
        }
    }
    let Some((first, _)) = problems.first() else { return Ok(told) };
    let first = first.clone();
    let said = problems.iter().take(TOLD).map(|(place, message)| match place.as_str() {
        "" => message.clone(),
        place => format!("at {place}: {message}"),
    });
    let mut said: Vec<String> = said.collect();
    if problems.len() > TOLD {
        said.push(format!("and {} more", problems.len() - TOLD));
    }
    Err(invalid(said.join("; ")).param(first))
}

/// The fields of one, each taken out as it is read.
struct Fields<'a> {
    fields: Map<String, Json>,
    place: &'a str,
    problems: &'a mut Problems,
}

impl Fields<'_> {
    /// A field; nothing when it is missing, null, or wrong, which is noted.
    fn take<T>(&mut self, name: &str, wanted: &str, read: impl FnOnce(&Json) -> Option<T>) -> Option<T> {
        let value = self.fields.remove(name).filter(|v| !v.is_null())?;
        let found = read(&value);
        if found.is_none() {
            self.wrong(name, wanted.to_owned());
        }
        found
    }

    fn text(&mut self, name: &str, longest: usize) -> Option<String> {
        let wanted = format!("a text of 1 to {longest} letters is expected");
        self.take(name, &wanted, |v| {
            let text = v.as_str().filter(|t| !t.is_empty() && t.chars().count() <= longest)?;
            Some(text.to_owned())
        })
    }

    fn wrong(&mut self, name: &str, message: String) {
        self.problems.push((format!("{}/{name}", self.place), message));
    }
}

fn one_of(
    fields: Map<String, Json>,
    place: &str,
    (tenant, now): (&TenantId, UnixMillis),
    problems: &mut Problems,
) -> Option<Told> {
    let before = problems.len();
    let named = fields.get("id").is_some_and(|v| !v.is_null());
    let mut of = Fields { fields, place, problems };
    let id = of.text("id", LONGEST);
    if !named {
        of.wrong("id", "missing: the `x-request-id` of the answer that it is about".to_owned());
    }
    let row = of.take("row", "a row of the request is expected, from 0", |v| {
        v.as_u64().and_then(|row| u32::try_from(row).ok())
    });
    let label = of.take("label", "a number, a text or a truth is expected", label);
    let score = of.take("score", "a finite number is expected", |v| v.as_f64().filter(|x| x.is_finite()));
    let comment = of.text("comment", COMMENT);
    let name = of.text("key", LONGEST);
    let at = of.take("at", "RFC 3339, or milliseconds since the epoch, is expected", moment);
    let unknown: Vec<String> = of.fields.keys().cloned().collect();
    for name in unknown {
        of.wrong(
            &name,
            "there is no such field: they are id, row, label, score, comment, key and at".to_owned(),
        );
    }
    if problems.len() == before && label.is_none() && score.is_none() && comment.is_none() {
        problems
            .push((place.to_owned(), "it says nothing: give a `label`, a `score` or a `comment`".to_owned()));
    }
    let id = id.filter(|_| problems.len() == before)?;
    Some(Told {
        tenant: tenant.clone(),
        id: id.into(),
        row: row.unwrap_or(0),
        label,
        name: name.map_or_else(|| "score".into(), Into::into),
        score,
        comment,
        at: at.unwrap_or(now),
    })
}

fn label(value: &Json) -> Option<Label> {
    match value {
        Json::Bool(truth) => Some(Label::Number(f64::from(u8::from(*truth)))),
        Json::Number(n) => n.as_f64().map(Label::Number),
        Json::String(text) if !text.is_empty() && text.chars().count() <= LONGEST => {
            Some(Label::Text(text.clone()))
        }
        _ => None,
    }
}

fn moment(value: &Json) -> Option<UnixMillis> {
    match value {
        Json::String(text) => {
            let at = chrono::DateTime::parse_from_rfc3339(text).ok()?;
            Some(UnixMillis(at.timestamp_millis()))
        }
        other => other.as_i64().filter(|ms| *ms >= 0).map(UnixMillis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &Json) -> Result<Vec<Told>, Error> {
        read(body.to_string().as_bytes(), &"gold".into(), UnixMillis(7))
    }

    #[test]
    fn one_or_a_list_is_taken_with_the_callers_tenant() {
        let one = of(&json!({"id": "r1", "label": true})).unwrap();
        assert_eq!(
            (one[0].label.as_ref(), one[0].row, one[0].at),
            (Some(&Label::Number(1.0)), 0, UnixMillis(7))
        );
        assert_eq!((&*one[0].tenant.to_string(), &*one[0].name), ("gold", "score"));
        let all = of(&json!([
            {"id": "r1", "row": 3, "label": "late", "at": "1970-01-01T01:00:01+01:00"},
            {"id": "r2", "score": 0.5, "key": "judge", "comment": "short", "at": 12, "label": null},
        ]));
        let all = all.unwrap();
        assert_eq!((all[0].row, all[0].at), (3, UnixMillis(1_000)));
        assert_eq!(all[0].label, Some(Label::Text("late".to_owned())));
        assert_eq!((&*all[1].name, all[1].score, all[1].at), ("judge", Some(0.5), UnixMillis(12)));
        assert!(of(&json!([])).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_nothing_is_taken() {
        for (body, place, said) in [
            (json!([{"id": "r", "score": 1}, {"label": 1}]), "/1/id", "at /1/id: missing"),
            (json!({"id": 3, "label": 1}), "/id", "at /id: a text of 1 to 256 letters is expected"),
            (json!({"id": "r", "label": [1]}), "/label", "at /label: a number, a text or a truth"),
            (json!({"id": "r", "row": -1, "label": 1}), "/row", "at /row: a row of the request"),
            (json!({"id": "r", "lable": 1}), "/lable", "at /lable: there is no such field"),
            (json!({"id": "r", "at": "now", "score": 1}), "/at", "at /at: RFC 3339"),
            (json!({"id": "r"}), "", "it says nothing"),
            (json!(["r"]), "/0", "at /0: an object"),
        ] {
            let e = of(&body).unwrap_err();
            assert!(e.message.contains(said), "{body}: {}", e.message);
            assert_eq!(e.param.as_deref(), Some(place), "{body}");
        }
        let many: Vec<Json> = (0..30).map(|_| json!({})).collect();
        assert!(of(&many.into()).unwrap_err().message.ends_with("and 20 more"));
        assert_eq!(of(&vec![json!(1); MOST + 1].into()).unwrap_err().code, Code::TooLarge);
        assert!(read(b"{", &"gold".into(), UnixMillis(0)).is_err());
    }
}
