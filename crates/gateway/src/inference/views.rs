//! What is shown of models: metadata, configuration, statistics, index, in the words of the protocol and of Triton.

use std::time::Duration;

use contract::Error;
use predict::batch::Counts;
use predict::protocol::grpc::messages as m;
use predict::served::{Listed, State, Version};
use predict::{DYNAMIC, DataType, Field, Models};
use serde_json::{Value as Json, json};

pub(super) const NAME: &str = "forebay";
pub(super) const EXTENSIONS: [&str; 4] =
    ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];

pub(super) fn server() -> Json {
    json!({"name": NAME, "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS})
}

/// Whether every model that is served is in memory or will be when it is asked.
pub(super) fn all_ready(models: &Models) -> bool {
    let fails = |l: &Listed| l.served && matches!(l.state, State::Loading | State::Failed(_));
    !models.list().iter().any(fails)
}

/// The versions of a model that can be asked.
pub(super) fn versions(models: &Models, model: &str) -> Vec<String> {
    let own = |l: &Listed| l.model == model && !matches!(l.state, State::Failed(_) | State::Unloaded);
    models.list().into_iter().filter(own).map(|l| l.version).collect()
}

pub(super) fn model(models: &Models, v: &Version) -> Json {
    let tensor = |f: &Field| json!({"name": f.name, "datatype": f.datatype.as_str(), "shape": f.shape});
    let signature = v.batcher.signature();
    json!({
        "name": &*v.model,
        "versions": versions(models, &v.model),
        "platform": models.platform(),
        "inputs": signature.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": signature.outputs.iter().map(tensor).collect::<Vec<_>>(),
    })
}

fn triton_type(t: DataType) -> &'static str {
    match t {
        DataType::Bool => "TYPE_BOOL",
        DataType::Uint8 => "TYPE_UINT8",
        DataType::Uint16 => "TYPE_UINT16",
        DataType::Uint32 => "TYPE_UINT32",
        DataType::Uint64 => "TYPE_UINT64",
        DataType::Int8 => "TYPE_INT8",
        DataType::Int16 => "TYPE_INT16",
        DataType::Int32 => "TYPE_INT32",
        DataType::Int64 => "TYPE_INT64",
        DataType::Fp16 => "TYPE_FP16",
        DataType::Fp32 => "TYPE_FP32",
        DataType::Fp64 => "TYPE_FP64",
        DataType::Bytes => "TYPE_STRING",
    }
}

/// Shapes with all their dimensions, and so a `max_batch_size` of 0, which says just that.
pub(super) fn config(models: &Models, v: &Version) -> Json {
    let tensor = |f: &Field| json!({"name": f.name, "data_type": triton_type(f.datatype), "dims": f.shape});
    let signature = v.batcher.signature();
    json!({
        "name": &*v.model,
        "platform": models.platform(),
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "input": signature.inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": signature.outputs.iter().map(tensor).collect::<Vec<_>>(),
        "instance_group": [{"kind": "KIND_CPU", "count": v.instances}],
        "parameters": v.batcher.metadata().properties.iter()
            .map(|(k, value)| (k.clone(), json!({"string_value": value}))).collect::<serde_json::Map<_, _>>(),
        "dynamic_batching": if v.batcher.shares() { json!({}) } else { Json::Null },
        "default_dimension": DYNAMIC,
    })
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn statistics(v: &Version) -> m::ModelStatistics {
    let counts: Counts = v.batcher.counts();
    let runs = counts.all_runs();
    let of = |count, took: Duration| Some(m::StatisticDuration { count, ns: nanos(took) });
    let size = |(rows, of_size): (&usize, &predict::batch::OfSize)| m::InferBatchStatistics {
        batch_size: *rows as u64,
        compute_infer: of(of_size.runs, of_size.took),
    };
    m::ModelStatistics {
        name: v.model.to_string(),
        version: v.version.to_string(),
        inference_count: counts.rows,
        execution_count: runs.runs,
        inference_stats: Some(m::InferStatistics {
            success: of(counts.answered, runs.took + counts.queued),
            fail: of(counts.failed + counts.refused + counts.expired, Duration::ZERO),
            queue: of(counts.answered, counts.queued),
            compute_infer: of(runs.runs, runs.took),
        }),
        batch_stats: counts.runs.iter().map(size).collect(),
    }
}

/// Statistics of versions in memory.
pub(super) fn all_statistics(
    models: &Models,
    model: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<m::ModelStatistics>, Error> {
    if let Some(model) = model {
        // What is not known is said.
        models.try_find(model, version)?;
    }
    let fits = |l: &Listed| {
        model.is_none_or(|m| m.is_empty() || l.model == m)
            && version.is_none_or(|v| v.is_empty() || l.version == v)
    };
    let all = models.list().into_iter().filter(fits);
    let found = all.filter_map(|l| models.peek(&l.model, &l.version).ok().flatten());
    Ok(found.map(|v| statistics(&v)).collect())
}

pub(super) fn stats(models: &Models, model: Option<&str>, version: Option<&str>) -> Result<Json, Error> {
    let of = |d: Option<m::StatisticDuration>| {
        let d = d.unwrap_or_default();
        json!({"count": d.count, "ns": d.ns})
    };
    let one = |s: m::ModelStatistics| {
        let i = s.inference_stats.unwrap_or_default();
        let sizes = s.batch_stats.iter();
        let sizes = sizes.map(|b| json!({"batch_size": b.batch_size, "compute_infer": of(b.compute_infer)}));
        json!({
            "name": s.name,
            "version": s.version,
            "inference_count": s.inference_count,
            "execution_count": s.execution_count,
            "inference_stats": {
                "success": of(i.success), "fail": of(i.fail), "queue": of(i.queue),
                "compute_infer": of(i.compute_infer),
            },
            "batch_stats": sizes.collect::<Vec<_>>(),
        })
    };
    let all = all_statistics(models, model, version)?;
    Ok(json!({"model_stats": all.into_iter().map(one).collect::<Vec<_>>()}))
}

/// Every version, or those that are ready.
pub(super) fn indexed(models: &Models, ready: bool) -> Vec<m::ModelIndex> {
    let line = |l: Listed| {
        let (state, reason) = match l.state {
            State::Ready { .. } => ("READY", String::new()),
            State::Loading => ("LOADING", String::new()),
            State::Known => ("UNAVAILABLE", "not in memory: loaded when it is asked for".to_owned()),
            State::Unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
            State::Failed(why) => ("UNAVAILABLE", why),
        };
        m::ModelIndex { name: l.model, version: l.version, state: state.to_owned(), reason }
    };
    models.list().into_iter().filter(|l| !ready || matches!(l.state, State::Ready { .. })).map(line).collect()
}

pub(super) fn index(models: &Models, ready: bool) -> Vec<Json> {
    let line = |i: m::ModelIndex| json!({"name": i.name, "version": i.version, "state": i.state, "reason": i.reason});
    indexed(models, ready).into_iter().map(line).collect()
}
