//! What is logged of runs. Most bodies are of one of two shapes, which are read straight; what is another, or wrong, is read field by
//! field, and refused in MLflow's words.

use std::borrow::Cow;

use ::models::check;
use serde::Deserialize;
use serde_json::Value as Json;
use store::tracking::{Dataset, DatasetInput, Logged, Metric, Pair};

use super::asked::{Asked, double, int, maybe_text, text};
use super::errors::Failed;
use super::runs::ID;
use super::schema::{Sort, check, may, missing, must};
use super::{Answer, Cx, done};

/// A metric: in a list of a batch, or with its run as a body of its own.
#[derive(Deserialize)]
struct Each<'a> {
    #[serde(borrow, default)]
    run_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    value: f64,
    timestamp: i64,
    #[serde(default)]
    step: i64,
    #[serde(borrow, default)]
    model_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    dataset_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    dataset_digest: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Keyed<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// A body of `log-batch`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many<'a> {
    #[serde(borrow)]
    run_id: Cow<'a, str>,
    #[serde(borrow, default)]
    metrics: Vec<Each<'a>>,
    #[serde(borrow, default)]
    params: Vec<Keyed<'a>>,
    #[serde(borrow, default)]
    tags: Vec<Keyed<'a>>,
}

impl From<Each<'_>> for Metric {
    fn from(e: Each<'_>) -> Self {
        let some = |s: Option<Cow<'_, str>>| s.map(Cow::into_owned).filter(|s| !s.is_empty());
        Metric {
            key: e.key.into_owned(),
            value: e.value,
            at: e.timestamp,
            step: e.step,
            model: some(e.model_id),
            dataset: (some(e.dataset_name), some(e.dataset_digest)),
        }
    }
}

impl From<Keyed<'_>> for Pair {
    fn from(k: Keyed<'_>) -> Self {
        (k.key.into_owned(), k.value.into_owned())
    }
}

/// The same bodies, read field by field.
fn slowly(cx: &Cx) -> Asked {
    cx.asked.clone().fields()
}

fn metric_of(v: &Json) -> Metric {
    let some = |name| maybe_text(v, name).filter(|s| !s.is_empty());
    Metric {
        key: text(v, "key"),
        value: v.get("value").and_then(double).unwrap_or(0.0),
        at: v.get("timestamp").and_then(int).unwrap_or(0),
        step: v.get("step").and_then(int).unwrap_or(0),
        model: some("model_id"),
        dataset: (some("dataset_name"), some("dataset_digest")),
    }
}

pub(super) async fn metric(cx: &Cx) -> Answer {
    let read: Option<Each<'_>> = serde_json::from_slice(&cx.asked.body).ok();
    let whole = |m: &Each<'_>| !m.key.is_empty() && m.run_id.as_ref().is_some_and(|id| !id.is_empty());
    let (run, metric) = match read.filter(whole) {
        Some(mut m) => (m.run_id.take().unwrap_or_default().into_owned(), Metric::from(m)),
        None => {
            let asked = slowly(cx);
            let fields = [
                ID,
                must("key", Sort::Text),
                must("value", Sort::Double),
                must("timestamp", Sort::Int),
                may("step", Sort::Int),
                may("model_id", Sort::Text),
                may("dataset_name", Sort::Text),
                may("dataset_digest", Sort::Text),
            ];
            check(&asked, &fields)?;
            let all: serde_json::Map<String, Json> = fields
                .iter()
                .filter_map(|f| Some((f.name().to_owned(), asked.get(f.name())?.clone())))
                .collect();
            (asked.str("run_id").to_owned(), metric_of(&Json::Object(all)))
        }
    };
    let logged = check::single(Logged { metrics: vec![metric], ..Logged::default() })?;
    cx.tracking().log(&run, logged).await?;
    done()
}

pub(super) async fn batch(cx: &Cx) -> Answer {
    let (run, logged) = match serde_json::from_slice::<Many<'_>>(&cx.asked.body).ok().filter(Many::is_whole) {
        Some(m) => {
            let metrics = m.metrics.into_iter().map(Into::into).collect();
            let params = m.params.into_iter().map(Into::into).collect();
            let tags = m.tags.into_iter().map(Into::into).collect();
            (m.run_id.into_owned(), Logged { metrics, params, tags })
        }
        None => read_batch(&slowly(cx))?,
    };
    check::run_id(&run)?;
    let logged = check::logged(logged)?;
    cx.tracking().log(&run, logged).await?;
    done()
}

impl Many<'_> {
    fn is_whole(&self) -> bool {
        let keyed = |all: &[Keyed<'_>]| all.iter().all(|k| !k.key.is_empty());
        !self.run_id.is_empty()
            && self.metrics.iter().all(|m| !m.key.is_empty())
            && keyed(&self.params)
            && keyed(&self.tags)
    }
}

fn read_batch(asked: &Asked) -> Result<(String, Logged), Failed> {
    let fields = [ID, may("metrics", Sort::List), may("params", Sort::List), may("tags", Sort::List)];
    check(asked, &fields)?;
    let absent = |v: &Json, name: &str| v.get(name).is_none_or(|v| v.is_null() || v.as_str() == Some(""));
    for (list, names) in
        [("metrics", &["key", "value", "timestamp"][..]), ("params", &["key"][..]), ("tags", &["key"][..])]
    {
        for (n, v) in asked.list(list).iter().enumerate() {
            if let Some(name) = names.iter().find(|name| absent(v, name)) {
                return Err(missing(&format!("{list}[{n}].{name}")));
            }
        }
    }
    let metrics = asked.list("metrics").iter().map(metric_of).collect();
    let logged = Logged { metrics, params: asked.pairs("params"), tags: asked.pairs("tags") };
    Ok((asked.str("run_id").to_owned(), logged))
}

pub(super) async fn param(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    check(asked, &[ID, must("key", Sort::Text), may("value", Sort::Text)])?;
    let pair = (asked.str("key").to_owned(), asked.str("value").to_owned());
    let mut logged = check::single(Logged { params: vec![pair], ..Logged::default() })?;
    if let Some(pair) = logged.params.pop() {
        cx.tracking().log_param(asked.str("run_id"), pair).await?;
    }
    done()
}

pub(super) async fn tag(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    check(asked, &[ID, must("key", Sort::Text), may("value", Sort::Text)])?;
    let pair = (asked.str("key").to_owned(), asked.str("value").to_owned());
    let logged = check::single(Logged { tags: vec![pair], ..Logged::default() })?;
    cx.tracking().log(asked.str("run_id"), logged).await?;
    done()
}

/// The tag in which a run's models are listed, as they were before there were logged models.
const MODELS: &str = "mlflow.log-model.history";

pub(super) async fn model(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    check(asked, &[ID, must("model_json", Sort::Text)])?;
    let said = asked.str("model_json");
    let malformed = || Failed::invalid(format!("Malformed model info. \n {said} \n is not a valid JSON."));
    let Json::Object(mut model) = serde_json::from_str(said).map_err(|_| malformed())? else {
        return Err(malformed());
    };
    let names = ["artifact_path", "flavors", "utc_time_created", "run_id"];
    let missing: Vec<String> =
        names.iter().filter(|n| !model.contains_key(**n)).map(|n| format!("'{n}'")).collect();
    if !missing.is_empty() {
        let m = format!("Model json is missing mandatory fields: {{{}}}", missing.join(", "));
        return Err(Failed::invalid(m));
    }
    // What is large or of one flavour alone is no part of a tag.
    for name in ["signature", "saved_input_example_info", "model_id", "artifact_path_uri", "resources"] {
        model.remove(name);
    }
    let id = asked.str("run_id");
    let run = cx.tracking().run(id).await?;
    let before = run.tags.iter().find(|(k, _)| k == MODELS).map(|(_, v)| v.as_str());
    let mut all: Vec<Json> = before.and_then(|v| serde_json::from_str(v).ok()).unwrap_or_default();
    all.push(Json::Object(model));
    let tag = (MODELS.to_owned(), Json::Array(all).to_string());
    cx.tracking().log(id, Logged { tags: vec![tag], ..Logged::default() }).await?;
    done()
}

pub(super) async fn inputs(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    check(asked, &[ID, may("datasets", Sort::List), may("models", Sort::List)])?;
    let id = asked.str("run_id");
    check::run_id(id)?;
    let mut datasets: Vec<DatasetInput> = Vec::new();
    for v in asked.list("datasets") {
        let Some(d) = v.get("dataset") else { return Err(Failed::invalid("Dataset cannot be None")) };
        for name in ["name", "digest", "source_type", "source"] {
            if maybe_text(d, name).is_none() {
                return Err(Failed::invalid(format!("Dataset {name} cannot be None")));
            }
        }
        let dataset = Dataset {
            name: text(d, "name"),
            digest: text(d, "digest"),
            source_type: text(d, "source_type"),
            source: text(d, "source"),
            schema: maybe_text(d, "schema"),
            profile: maybe_text(d, "profile"),
        };
        let tags = v.get("tags").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let tags = tags.iter().map(|t| (text(t, "key"), text(t, "value"))).collect();
        let same =
            |d: &DatasetInput| (&d.dataset.name, &d.dataset.digest) == (&dataset.name, &dataset.digest);
        if !datasets.iter().any(same) {
            datasets.push(DatasetInput { dataset, tags });
        }
    }
    check::inputs(&datasets)?;
    let models: Vec<String> = asked.list("models").iter().map(|m| text(m, "model_id")).collect();
    cx.tracking().log_inputs(id, &datasets, &models).await?;
    done()
}

pub(super) async fn outputs(cx: &Cx) -> Answer {
    let asked = &cx.asked;
    check(asked, &[ID, must("models", Sort::List)])?;
    let step = |m: &Json| m.get("step").and_then(int).unwrap_or(0);
    let models: Vec<(String, i64)> =
        asked.list("models").iter().map(|m| (text(m, "model_id"), step(m))).collect();
    cx.tracking().log_outputs(asked.str("run_id"), &models).await?;
    done()
}
