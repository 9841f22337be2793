//! Logged models over the wire.

use ::models::artifacts::ArtifactPath;
use ::models::{check, hex};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contract::BoxFuture;
use http::Method;
use serde::Serialize;
use serde_json::{Value as Json, json};
use store::tracking::{LoggedModel, ModelOrder, ModelSearch, NewLoggedModel, Pair};

use super::asked::{int, maybe_text, plain, text};
use super::errors::Failed;
use super::schema::{Sort, check, may, must};
use super::wire::{MetricWire, pairs};
use super::{Answer, Cx, artifacts, done, json};

/// Numbers and names of what a model may be.
const STATUSES: [(i64, &str); 3] =
    [(1, "LOGGED_MODEL_PENDING"), (2, "LOGGED_MODEL_READY"), (3, "LOGGED_MODEL_UPLOAD_FAILED")];
/// On a page, unless somebody says otherwise.
const MOST: u64 = 100;

#[derive(Serialize)]
struct InfoWire<'a> {
    model_id: &'a str,
    experiment_id: String,
    name: &'a str,
    creation_timestamp_ms: i64,
    last_updated_timestamp_ms: i64,
    artifact_uri: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_run_id: Option<&'a str>,
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    tags: &'a [Pair],
}

#[derive(Serialize)]
struct DataWire<'a> {
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    params: &'a [Pair],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<MetricWire<'a>>,
}

#[derive(Serialize)]
struct ModelWire<'a> {
    info: InfoWire<'a>,
    data: DataWire<'a>,
}

impl<'a> From<&'a LoggedModel> for ModelWire<'a> {
    fn from(m: &'a LoggedModel) -> Self {
        let status =
            STATUSES.iter().find(|(n, _)| *n == m.status).map_or("LOGGED_MODEL_STATUS_UNSPECIFIED", |s| s.1);
        let info = InfoWire {
            model_id: &m.id,
            experiment_id: m.experiment.to_string(),
            name: &m.name,
            creation_timestamp_ms: m.created_at,
            last_updated_timestamp_ms: m.updated_at,
            artifact_uri: &m.location,
            status,
            model_type: m.kind.as_deref(),
            source_run_id: m.source_run.as_deref(),
            tags: &m.tags,
        };
        let metric = |(metric, run): &'a (_, String)| MetricWire::of(metric, run);
        ModelWire {
            info,
            data: DataWire { params: &m.params, metrics: m.metrics.iter().map(metric).collect() },
        }
    }
}

#[derive(Serialize)]
struct One<'a> {
    model: ModelWire<'a>,
}

fn one(m: &LoggedModel) -> Answer {
    json(&One { model: m.into() })
}

/// Who answers at `logged-models/{id}…`.
pub(super) fn handler<'a>(cx: &'a Cx, method: &Method, path: &'a str) -> Option<BoxFuture<'a, Answer>> {
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    Some(match (method.as_str(), parts.as_slice()) {
        ("GET", [id]) => Box::pin(get(cx, id)),
        ("PATCH", [id]) => Box::pin(finalize(cx, id)),
        ("DELETE", [id]) => Box::pin(delete(cx, id)),
        ("PATCH", [id, "tags"]) => Box::pin(set_tags(cx, id)),
        ("DELETE", [id, "tags", key]) => Box::pin(delete_tag(cx, id, key)),
        ("POST", [id, "params"]) => Box::pin(log_params(cx, id)),
        ("GET", [id, "artifacts", "directories"]) => Box::pin(directories(cx, id)),
        _ => return None,
    })
}

pub(super) async fn create(cx: &Cx) -> Answer {
    let fields = [
        must("experiment_id", Sort::Text),
        may("name", Sort::Text),
        may("model_type", Sort::Text),
        may("source_run_id", Sort::Text),
        may("params", Sort::List),
        may("tags", Sort::List),
    ];
    check(&cx.asked, &fields)?;
    let asked = &cx.asked;
    let name = asked.maybe_str("name").filter(|n| !n.is_empty());
    name.map_or(Ok(()), check::logged_model_name)?;
    let new = NewLoggedModel {
        id: format!("m-{}", hex(cx.fresh())),
        experiment: check::experiment_id(asked.str("experiment_id"))?,
        name: name.map_or_else(|| cx.name(), str::to_owned),
        kind: Some(asked.str("model_type").to_owned()),
        source_run: Some(asked.str("source_run_id").to_owned()),
        params: asked.pairs("params"),
        tags: asked.pairs("tags"),
    };
    one(&cx.tracking().create_logged_model(&new, cx.now).await?)
}

async fn get(cx: &Cx, id: &str) -> Answer {
    one(&cx.tracking().logged_model(id, cx.asked.flag("allow_deleted")).await?)
}

async fn finalize(cx: &Cx, id: &str) -> Answer {
    check(&cx.asked, &[must("model_id", Sort::Text), must("status", Sort::Name)])?;
    let by_name =
        cx.asked.maybe_str("status").and_then(|s| STATUSES.into_iter().find(|(_, name)| *name == s));
    let by_number = cx.asked.int("status").and_then(|n| STATUSES.into_iter().find(|(known, _)| *known == n));
    let Some((status, _)) = by_name.or(by_number) else {
        let said = cx.asked.get("status").map(Json::to_string).unwrap_or_default();
        return Err(Failed::invalid(format!("Invalid value {said} for parameter 'status' supplied.")));
    };
    one(&cx.tracking().finalize_logged_model(id, status, cx.now).await?)
}

async fn delete(cx: &Cx, id: &str) -> Answer {
    cx.tracking().delete_logged_model(id, cx.now).await?;
    done()
}

async fn set_tags(cx: &Cx, id: &str) -> Answer {
    check(&cx.asked, &[may("tags", Sort::List)])?;
    cx.tracking().tag_logged_model(id, &cx.asked.pairs("tags")).await?;
    done()
}

async fn delete_tag(cx: &Cx, id: &str, key: &str) -> Answer {
    cx.tracking().untag_logged_model(id, &plain(&key.replace('+', "%2B"))).await?;
    done()
}

async fn log_params(cx: &Cx, id: &str) -> Answer {
    check(&cx.asked, &[may("params", Sort::List)])?;
    cx.tracking().log_model_params(id, &cx.asked.pairs("params")).await?;
    done()
}

async fn directories(cx: &Cx, id: &str) -> Answer {
    let path = cx.asked.str("artifact_directory_path");
    ArtifactPath::new(path)?;
    let model = cx.tracking().logged_model(id, false).await?;
    artifacts::of(cx, &model.location, path).await
}

#[derive(Serialize)]
struct Many<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    models: Vec<ModelWire<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

/// What a page's token is bound to: it leads on in the same search alone.
fn bound(cx: &Cx) -> Json {
    let asked = &cx.asked;
    json!({
        "experiment_ids": asked.list("experiment_ids"),
        "filter_string": asked.maybe_str("filter"),
        "order_by": asked.list("order_by"),
    })
}

fn from(cx: &Cx, token: &str) -> Result<u64, Failed> {
    let bytes = STANDARD.decode(token).ok();
    let read: Option<Json> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
    let Some(read) = read else { return Err(Failed::invalid(format!("Invalid page token: {token}."))) };
    let wanted = bound(cx);
    for (name, what) in
        [("experiment_ids", "Experiment IDs"), ("filter_string", "Filter string"), ("order_by", "Order by")]
    {
        if read.get(name) != wanted.get(name) {
            return Err(Failed::invalid(format!(
                "{what} in the page token does not match the requested {}.",
                what.to_lowercase()
            )));
        }
    }
    Ok(read.get("offset").and_then(int).and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

pub(super) async fn search(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    let fields = [
        must("experiment_ids", Sort::Texts),
        may("filter", Sort::Text),
        may("datasets", Sort::List),
        may("max_results", Sort::Int),
        may("order_by", Sort::List),
        may("page_token", Sort::Text),
    ];
    check(asked, &fields)?;
    let datasets: Vec<_> = asked
        .list("datasets")
        .iter()
        .map(|d| (text(d, "dataset_name"), maybe_text(d, "dataset_digest")))
        .collect();
    if datasets.iter().any(|(name, _)| name.is_empty()) {
        return Err(Failed::invalid("`dataset_name` in the `datasets` clause must be specified."));
    }
    let order = asked.list("order_by").iter().map(|o| ModelOrder {
        field: text(o, "field_name"),
        ascending: o.get("ascending").and_then(Json::as_bool).unwrap_or(true),
        dataset: (maybe_text(o, "dataset_name"), maybe_text(o, "dataset_digest")),
    });
    let ids = asked.texts("experiment_ids");
    let token = asked.str("page_token");
    let search = ModelSearch {
        experiments: ids.iter().map(|id| check::experiment_id(id)).collect::<Result<_, _>>()?,
        filter: asked.str("filter").to_owned(),
        datasets,
        order: order.collect(),
        from: if token.is_empty() { 0 } else { from(cx, token)? },
        most: asked.int("max_results").and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(MOST),
    };
    let page = cx.tracking().search_logged_models(&search).await?;
    let next = page.next.map(|from| {
        let mut token = bound(cx);
        if let Some(token) = token.as_object_mut() {
            token.insert("offset".to_owned(), from.into());
        }
        STANDARD.encode(token.to_string())
    });
    json(&Many { models: page.items.iter().map(ModelWire::from).collect(), next_page_token: next })
}
