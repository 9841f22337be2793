//! Stages of runs as OpenLineage events (spec 2-0-2).
//!
//! A stage's attempt is a run of the job `PIPELINE.STAGE`, whose parent is the run of the pipeline. What is told: what was read
//! and written with versions, columns and where they come from, the commit of the project, the part of the data, the kind of a
//! failure. What is never told: what a run was given, queries, configurations, rows, what a failure quotes.

use chrono::{DateTime, NaiveDate};
use contract::lineage::{Check, ColumnMade, FromColumn, Lineage, Output, Thing, ThingKind, Via};
use contract::{Error, RunId, UnixMillis};
use serde_json::{Map, Value as Json, json};

use super::told::{Told, state_of};

const SPEC: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const PRODUCER: &str = concat!("https://github.com/forebay/forebay/tree/v", env!("CARGO_PKG_VERSION"));

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State<'a> {
    /// It begins.
    Start,
    /// It ended well.
    Complete,
    /// It did not.
    Fail(&'a Error),
    /// It was ended from outside.
    Abort,
}

/// An attempt, for those who are told of it.
pub(crate) struct Attempted<'a> {
    pub(crate) run: RunId,
    /// The key of the stage's effect.
    pub(crate) key: &'a str,
    pub(crate) told: &'a Told,
}

/// 16 bytes as a UUID of the version that says nothing (8).
fn uuid(mut bytes: [u8; 16], version: Option<u8>) -> String {
    if let Some(version) = version {
        bytes[6] = (bytes[6] & 0x0f) | (version << 4);
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
    }
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn facet(schema: &str, name: &str, of: Json) -> Json {
    let mut all = Map::new();
    all.insert("_producer".into(), PRODUCER.into());
    all.insert(
        "_schemaURL".into(),
        format!("https://openlineage.io/spec/facets/{schema}/{name}.json#/$defs/{name}").into(),
    );
    if let Json::Object(of) = of {
        all.extend(of);
    }
    Json::Object(all)
}

/// What OpenLineage calls a thing: a namespace and a name.
pub(super) fn called(thing: &Thing, namespace: &str) -> (String, String) {
    match thing.kind {
        ThingKind::Dataset => (namespace.to_owned(), thing.name.clone()),
        ThingKind::Address => match thing.name.split_once("://") {
            Some((scheme, rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (format!("{scheme}://{host}"), format!("/{path}"))
            }
            None => (format!("{namespace}/address"), thing.name.clone()),
        },
        kind => (format!("{namespace}/{}", kind.as_str()), thing.name.clone()),
    }
}

fn subtype(via: Via) -> &'static str {
    match via {
        Via::Identity => "IDENTITY",
        Via::Transformation => "TRANSFORMATION",
        Via::Aggregation => "AGGREGATION",
        Via::Join => "JOIN",
        Via::GroupBy => "GROUP_BY",
        Via::Filter => "FILTER",
        Via::Sort => "SORT",
        Via::Window => "WINDOW",
        Via::Conditional => "CONDITIONAL",
    }
}

fn sources(from: &[FromColumn], inputs: &[Thing], namespace: &str) -> Vec<Json> {
    let one = |f: &FromColumn| {
        let (space, name) = called(inputs.get(f.input)?, namespace);
        let kind = if f.via.is_direct() { "DIRECT" } else { "INDIRECT" };
        let how = json!({"type": kind, "subtype": subtype(f.via), "description": "", "masking": false});
        Some(json!({"namespace": space, "name": name, "field": f.column, "transformations": [how]}))
    };
    from.iter().filter_map(one).collect()
}

fn dataset(thing: &Thing, namespace: &str) -> Map<String, Json> {
    let (space, name) = called(thing, namespace);
    let mut facets = Map::new();
    let version = state_of(thing);
    if !version.is_empty() {
        let of = json!({"datasetVersion": version});
        facets.insert("version".into(), facet("1-0-1", "DatasetVersionDatasetFacet", of));
    }
    let mut dataset = Map::new();
    dataset.insert("namespace".into(), space.into());
    dataset.insert("name".into(), name.into());
    dataset.insert("facets".into(), facets.into());
    dataset
}

fn output(output: &Output, lineage: &Lineage, namespace: &str) -> Json {
    let mut made = dataset(&output.thing, namespace);
    let Some(facets) = made.get_mut("facets").and_then(Json::as_object_mut) else { return made.into() };
    if !output.columns.is_empty() {
        let field = |c: &ColumnMade| json!({"name": c.name, "type": c.ty});
        let fields: Vec<Json> = output.columns.iter().map(field).collect();
        facets.insert("schema".into(), facet("1-1-1", "SchemaDatasetFacet", json!({"fields": fields})));
        let of = |from: &[FromColumn]| sources(from, &lineage.inputs, namespace);
        let columns = output.columns.iter().filter(|c| !c.from.is_empty());
        let fields: Map<String, Json> =
            columns.map(|c| (c.name.clone(), json!({"inputFields": of(&c.from)}))).collect();
        let rows = of(&output.rows);
        if !fields.is_empty() || !rows.is_empty() {
            let facet =
                facet("1-2-0", "ColumnLineageDatasetFacet", json!({"fields": fields, "dataset": rows}));
            facets.insert("columnLineage".into(), facet);
        }
    }
    if let Some(rows) = output.count {
        let of = facet("1-0-2", "OutputStatisticsOutputDatasetFacet", json!({"rowCount": rows}));
        made.insert("outputFacets".into(), json!({"outputStatistics": of}));
    }
    Json::Object(made)
}

/// An input with what was expected of it; what is expected may quote values and stays here.
fn input(at: usize, thing: &Thing, lineage: &Lineage, namespace: &str) -> Json {
    let mut read = dataset(thing, namespace);
    let assertion = |c: &Check| {
        let mut of =
            json!({"assertion": c.check, "success": c.passed, "severity": c.severity, "name": c.name});
        if let (Some(column), Some(of)) = (&c.column, of.as_object_mut()) {
            of.insert("column".into(), column.as_str().into());
        }
        of
    };
    let all: Vec<Json> = lineage.checks.iter().filter(|c| c.input == at).map(assertion).collect();
    if !all.is_empty() {
        let of = facet("1-1-0", "DataQualityAssertionsDatasetFacet", json!({"assertions": all}));
        read.insert("inputFacets".into(), json!({"dataQualityAssertions": of}));
    }
    Json::Object(read)
}

/// A time of a partition in RFC 3339: a day is its midnight in UTC.
fn time(of: Option<&Json>) -> Option<String> {
    let text = of?.as_str()?;
    if DateTime::parse_from_rfc3339(text).is_ok() {
        return Some(text.to_owned());
    }
    let day: NaiveDate = text.parse().ok()?;
    Some(format!("{day}T00:00:00Z"))
}

/// The event.
pub(crate) fn run_event(state: State<'_>, of: &Attempted<'_>, at: UnixMillis, namespace: &str) -> Json {
    let told = of.told;
    let attempt = told.attempt.unwrap_or_default();
    let digest = blake3::hash(format!("openlineage {} {attempt}", of.key).as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.as_bytes().get(..16).unwrap_or(&[0; 16]));
    let mut run = Map::new();
    let parent = json!({
        "run": {"runId": uuid(*of.run.as_bytes(), None)},
        "job": {"namespace": namespace, "name": told.pipeline},
    });
    run.insert("parent".into(), facet("1-1-0", "ParentRunFacet", parent));
    let engine = json!({"version": env!("CARGO_PKG_VERSION"), "name": "forebay", "openlineageAdapterVersion": env!("CARGO_PKG_VERSION")});
    run.insert("processing_engine".into(), facet("1-1-1", "ProcessingEngineRunFacet", engine));
    if let Some(start) = time(told.partition.get("start")) {
        let mut nominal = json!({"nominalStartTime": start});
        if let (Some(end), Some(of)) = (time(told.partition.get("end")), nominal.as_object_mut()) {
            of.insert("nominalEndTime".into(), end.into());
        }
        run.insert("nominalTime".into(), facet("1-0-1", "NominalTimeRunFacet", nominal));
    }
    if let State::Fail(e) = state {
        // The words of an error may quote what it failed at.
        let of = json!({"message": e.code.as_str(), "programmingLanguage": "Rust"});
        run.insert("errorMessage".into(), facet("1-0-1", "ErrorMessageRunFacet", of));
    }
    let mut job = Map::new();
    let kind = json!({"processingType": "BATCH", "integration": "FOREBAY", "jobType": told.kind.to_ascii_uppercase()});
    job.insert("jobType".into(), facet("2-0-3", "JobTypeJobFacet", kind));
    if let Some((git, url)) = told.git.as_ref().and_then(|g| Some((g, g.repository.as_ref()?))) {
        let of = json!({"type": "git", "url": url, "repoUrl": url, "version": git.commit});
        job.insert("sourceCodeLocation".into(), facet("1-0-1", "SourceCodeLocationJobFacet", of));
    }
    let word = match state {
        State::Start => "START",
        State::Complete => "COMPLETE",
        State::Fail(_) => "FAIL",
        State::Abort => "ABORT",
    };
    let inputs = told.lineage.inputs.iter().enumerate().map(|(at, t)| input(at, t, &told.lineage, namespace));
    let outputs = told.lineage.outputs.iter().map(|o| output(o, &told.lineage, namespace));
    json!({
        "eventType": word,
        "eventTime": at.rfc3339(),
        "producer": PRODUCER,
        "schemaURL": SPEC,
        "run": {"runId": uuid(bytes, Some(8)), "facets": run},
        "job": {"namespace": namespace, "name": format!("{}.{}", told.pipeline, told.stage), "facets": job},
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Git;
    use contract::{Code, RequestId};

    fn told() -> Told {
        let mut lineage = Lineage::default();
        let raw = lineage.input(Thing::new(ThingKind::Dataset, "raw").at("abc"));
        lineage.input(Thing::new(ThingKind::File, "q.sql").at("def"));
        lineage.input(Thing::new(ThingKind::Address, "https://a.example/x.csv"));
        let from = |via| FromColumn { input: raw, column: "dep".into(), via };
        lineage.outputs.push(Output {
            columns: vec![ColumnMade {
                name: "delay".into(),
                ty: "float".into(),
                from: vec![from(Via::Aggregation)],
            }],
            rows: vec![from(Via::Filter)],
            count: Some(7),
            ..Output::from(Thing::new(ThingKind::Dataset, "clean").at("123"))
        });
        lineage.checks.push(Check {
            input: raw,
            check: "range".into(),
            name: "no delay is a day".into(),
            column: Some("dep".into()),
            passed: false,
            severity: "warn".into(),
        });
        Told {
            lineage,
            kind: "sql".into(),
            pipeline: "p".into(),
            stage: "clean".into(),
            attempt: Some(1),
            params: json!({"token": "s3cret"}).as_object().cloned().unwrap(),
            partition: json!({"key": "2013-01", "start": "2013-01-01", "end": "2013-02-01"}),
            git: Some(Git {
                commit: "c0ffee".into(),
                dirty: Some(true),
                repository: Some("https://g/p".into()),
            }),
            ..Told::default()
        }
    }

    fn of(state: State<'_>) -> Json {
        let run = RunId::of(RequestId::from_parts(UnixMillis(1), 7));
        let told = told();
        run_event(state, &Attempted { run, key: "k", told: &told }, UnixMillis(1_769_842_800_123), "forebay")
    }

    #[test]
    fn an_event_says_what_was_made_of_what_and_no_secret() {
        let event = of(State::Complete);
        assert_eq!((&event["eventType"], &event["job"]["name"]), (&json!("COMPLETE"), &json!("p.clean")));
        assert_eq!(event["run"]["facets"]["nominalTime"]["nominalStartTime"], "2013-01-01T00:00:00Z");
        assert_eq!(event["job"]["facets"]["sourceCodeLocation"]["version"], "c0ffee");
        assert_eq!(event["inputs"][1]["namespace"], "forebay/file");
        assert_eq!(
            (&event["inputs"][2]["namespace"], &event["inputs"][2]["name"]),
            (&json!("https://a.example"), &json!("/x.csv"))
        );
        let lineage = &event["outputs"][0]["facets"]["columnLineage"];
        let field = &lineage["fields"]["delay"]["inputFields"][0];
        assert_eq!(
            (&field["field"], &field["transformations"][0]["subtype"]),
            (&json!("dep"), &json!("AGGREGATION"))
        );
        assert_eq!(lineage["dataset"][0]["transformations"][0]["type"], "INDIRECT");
        assert_eq!(event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], 7);
        let checked = &event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"][0];
        assert_eq!((&checked["assertion"], &checked["success"]), (&json!("range"), &json!(false)));
        let e = Error::new(Code::CommandFailed, "the row `4711` is s3cret");
        for event in [event, of(State::Start), of(State::Abort), of(State::Fail(&e))] {
            assert!(!event.to_string().contains("s3cret"), "{event}");
            assert_eq!(
                event["run"]["runId"],
                of(State::Start)["run"]["runId"],
                "one run from its start to its end"
            );
        }
    }

    #[test]
    fn what_is_told_is_read_as_the_same_things_by_another_one() {
        let event = super::super::read::event(
            &of(State::Complete),
            "forebay",
            (&"t".into(), super::super::read::Teller::Operator),
        )
        .unwrap()
        .unwrap();
        let read: Told = serde_json::from_str(&event.fact.body).unwrap();
        let own = told();
        assert_eq!(read.lineage.outputs, own.lineage.outputs);
        assert_eq!(read.lineage.checks, own.lineage.checks);
        assert_eq!(read.lineage.inputs[..2], own.lineage.inputs[..2]);
        assert_eq!(read.lineage.inputs[2].name, "https://a.example//x.csv");
    }
}
