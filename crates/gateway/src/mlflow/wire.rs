//! Things as they go over the wire: written straight, without a tree in between. What is empty is left out.

use serde::{Serialize, Serializer};
use store::tracking::{DatasetInput, Experiment, Metric, Pair, Run, RunInfo};

/// A key and its value.
#[derive(Serialize)]
pub(super) struct KeyValue<'a> {
    key: &'a str,
    value: &'a str,
}

/// Pairs as a list of objects.
pub(super) fn pairs<S: Serializer>(all: &[Pair], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(all.iter().map(|(key, value)| KeyValue { key, value }))
}

/// A double; one that is none goes as a text.
pub(super) fn double<S: Serializer>(value: &f64, s: S) -> Result<S::Ok, S::Error> {
    if value.is_nan() { s.serialize_str("NaN") } else { s.serialize_f64(*value) }
}

/// An id in a text.
fn text<S: Serializer>(n: &i64, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(n)
}

#[derive(Serialize)]
pub(super) struct ExperimentWire<'a> {
    #[serde(serialize_with = "text")]
    experiment_id: i64,
    name: &'a str,
    artifact_location: &'a str,
    lifecycle_stage: &'static str,
    last_update_time: i64,
    creation_time: i64,
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    tags: &'a [Pair],
    workspace: &'static str,
}

impl<'a> From<&'a Experiment> for ExperimentWire<'a> {
    fn from(e: &'a Experiment) -> Self {
        ExperimentWire {
            experiment_id: e.id,
            name: &e.name,
            artifact_location: &e.location,
            lifecycle_stage: e.stage.as_str(),
            last_update_time: e.updated_at,
            creation_time: e.created_at,
            tags: &e.tags,
            workspace: "default",
        }
    }
}

#[derive(Serialize)]
pub(super) struct InfoWire<'a> {
    run_uuid: &'a str,
    #[serde(serialize_with = "text")]
    experiment_id: i64,
    run_name: &'a str,
    user_id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    artifact_uri: &'a str,
    lifecycle_stage: &'static str,
    run_id: &'a str,
}

impl<'a> From<&'a RunInfo> for InfoWire<'a> {
    fn from(i: &'a RunInfo) -> Self {
        InfoWire {
            run_uuid: &i.id,
            experiment_id: i.experiment,
            run_name: &i.name,
            user_id: &i.user,
            status: &i.status,
            start_time: i.started_at,
            end_time: i.ended_at,
            artifact_uri: &i.location,
            lifecycle_stage: i.stage.as_str(),
            run_id: &i.id,
        }
    }
}

#[derive(Serialize)]
pub(super) struct MetricWire<'a> {
    key: &'a str,
    #[serde(serialize_with = "double")]
    value: f64,
    timestamp: i64,
    step: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset_digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
}

impl<'a> MetricWire<'a> {
    /// With the run that measured it.
    pub(super) fn of(metric: &'a Metric, run: &'a str) -> Self {
        MetricWire { run_id: Some(run), ..metric.into() }
    }
}

impl<'a> From<&'a Metric> for MetricWire<'a> {
    fn from(m: &'a Metric) -> Self {
        MetricWire {
            key: &m.key,
            value: m.value,
            timestamp: m.at,
            step: m.step,
            dataset_name: m.dataset.0.as_deref(),
            dataset_digest: m.dataset.1.as_deref(),
            model_id: m.model.as_deref(),
            run_id: None,
        }
    }
}

/// Metrics as a list.
pub(super) fn metrics<S: Serializer>(all: &[Metric], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(all.iter().map(MetricWire::from))
}

#[derive(Serialize)]
struct DataWire<'a> {
    #[serde(serialize_with = "metrics", skip_serializing_if = "<[Metric]>::is_empty")]
    metrics: &'a [Metric],
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    params: &'a [Pair],
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    tags: &'a [Pair],
}

#[derive(Serialize)]
struct DatasetWire<'a> {
    name: &'a str,
    digest: &'a str,
    source_type: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
}

#[derive(Serialize)]
struct DatasetInputWire<'a> {
    #[serde(serialize_with = "pairs", skip_serializing_if = "<[Pair]>::is_empty")]
    tags: &'a [Pair],
    dataset: DatasetWire<'a>,
}

impl<'a> From<&'a DatasetInput> for DatasetInputWire<'a> {
    fn from(i: &'a DatasetInput) -> Self {
        let d = &i.dataset;
        let dataset = DatasetWire {
            name: &d.name,
            digest: &d.digest,
            source_type: &d.source_type,
            source: &d.source,
            schema: d.schema.as_deref(),
            profile: d.profile.as_deref(),
        };
        DatasetInputWire { tags: &i.tags, dataset }
    }
}

#[derive(Serialize)]
struct ModelWire<'a> {
    model_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<i64>,
}

#[derive(Serialize)]
struct InputsWire<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dataset_inputs: Vec<DatasetInputWire<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_inputs: Vec<ModelWire<'a>>,
}

#[derive(Serialize)]
struct OutputsWire<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_outputs: Vec<ModelWire<'a>>,
}

#[derive(Serialize)]
pub(super) struct RunWire<'a> {
    info: InfoWire<'a>,
    data: DataWire<'a>,
    inputs: InputsWire<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outputs: Option<OutputsWire<'a>>,
}

impl<'a> RunWire<'a> {
    /// As it is when it was made: without what it has made.
    pub(super) fn fresh(r: &'a Run) -> Self {
        RunWire { outputs: None, ..RunWire::from(r) }
    }
}

impl<'a> From<&'a Run> for RunWire<'a> {
    fn from(r: &'a Run) -> Self {
        let made = |(model, step): &'a (String, i64)| ModelWire { model_id: model, step: Some(*step) };
        let read = |model: &'a String| ModelWire { model_id: model, step: None };
        RunWire {
            info: (&r.info).into(),
            data: DataWire { metrics: &r.metrics, params: &r.params, tags: &r.tags },
            inputs: InputsWire {
                dataset_inputs: r.datasets.iter().map(Into::into).collect(),
                model_inputs: r.model_inputs.iter().map(read).collect(),
            },
            outputs: Some(OutputsWire { model_outputs: r.model_outputs.iter().map(made).collect() }),
        }
    }
}
