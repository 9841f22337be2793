//! OpenLineage events of other programs (spec 2-0-2) as facts: Spark, dbt, Airflow, or another Forebay.
//!
//! Each event is a fact of its own, and a run is all of its facts together, in whatever order they come. A dataset of the own
//! namespace is the project's; any other is `NAMESPACE/NAME`. What an event says beside is not kept.
//!
//! **Invariant.** What is the project's is told by its own runs and by who administers it: anybody else may say that he read a dataset of
//! the project, and neither that he made it, nor that it is as somebody expects, nor anything of a run of the project.

use chrono::DateTime;
use contract::lineage::{Check, ColumnMade, FromColumn, Lineage, Output, Thing, ThingKind, Via};
use contract::{Code, Error, TenantId, UnixMillis};
use serde_json::{Map, Value as Json};
use store::NewLineage;

use super::told::{Told, fact};
use crate::code::{Git, shown};

/// Datasets of one event at most, on each side.
const DATASETS: usize = 1_000;
/// The longest text that is taken.
const LONGEST: usize = 2_000;

fn wrong(what: &str, message: &str) -> Error {
    Error::new(Code::InvalidRequest, format!("`{what}` {message}")).param(what)
}

/// A text that has to be there.
fn text<'a>(of: &'a Json, pointer: &str) -> Result<&'a str, Error> {
    let name = pointer.trim_start_matches('/').replace('/', ".");
    match of.pointer(pointer) {
        Some(Json::String(text)) if text.is_empty() => Err(wrong(&name, "is empty")),
        Some(Json::String(text)) if text.len() > LONGEST => {
            Err(wrong(&name, &format!("is longer than {LONGEST} bytes")))
        }
        Some(Json::String(text)) => Ok(text),
        Some(_) => Err(wrong(&name, "is text")),
        None => Err(wrong(&name, "is missing: the body is an OpenLineage event")),
    }
}

/// Who tells of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Whoever administers the project: tells what he likes.
    Operator,
    /// A tenant: tells nothing of what is the project's but that it was read.
    Tenant,
}

/// The fact of an event; nothing for one about a dataset alone, which no job made.
///
/// # Errors
/// `invalid_request` for what is no event, with the name of what is wrong; `too_large` for one of too many datasets; `forbidden` for
/// what the teller may not say.
pub fn event(
    body: &Json,
    namespace: &str,
    (tenant, teller): (&TenantId, Teller),
) -> Result<Option<NewLineage>, Error> {
    if !body.is_object() {
        return Err(Error::new(Code::InvalidRequest, "an OpenLineage event is a JSON object"));
    }
    let at = text(body, "/eventTime")?;
    let time = DateTime::parse_from_rfc3339(at);
    let at = time.map_err(|_| wrong("eventTime", "is no time, as 2026-01-31T08:00:00Z"))?.timestamp_millis();
    let producer = text(body, "/producer")?;
    if body.get("job").is_none() && body.get("dataset").is_some() {
        return Ok(None);
    }
    let job = format!("{}/{}", text(body, "/job/namespace")?, text(body, "/job/name")?);
    let (run, state) = match body.get("run") {
        // A job as such, whoever runs it.
        None => (String::new(), None),
        Some(_) => {
            let state = match body.get("eventType") {
                None => "other".to_owned(),
                Some(Json::String(s)) => s.to_ascii_lowercase(),
                Some(_) => return Err(wrong("eventType", "is text")),
            };
            if !["start", "running", "complete", "abort", "fail", "other"].contains(&state.as_str()) {
                let m = "is one of START, RUNNING, COMPLETE, ABORT, FAIL and OTHER";
                return Err(wrong("eventType", m));
            }
            (text(body, "/run/runId")?.to_owned(), Some(state))
        }
    };
    let mut lineage = Lineage::default();
    for dataset in datasets(body, "inputs")? {
        let input = lineage.input(thing(dataset, namespace, "inputs")?);
        lineage.checks.extend(checks(dataset, input));
    }
    let own = datasets(body, "outputs")?;
    for dataset in own {
        let made = output(dataset, namespace, &mut lineage)?;
        lineage.add(Lineage { outputs: vec![made], ..Lineage::of(lineage.inputs.clone()) });
    }
    if teller == Teller::Tenant {
        of_others_alone(&lineage, &run)?;
    }
    let said = |pointer: &str| body.pointer(pointer).and_then(Json::as_str).map(str::to_owned);
    let git = said("/job/facets/sourceCodeLocation/version").map(|commit| Git {
        commit,
        dirty: None,
        repository: said("/job/facets/sourceCodeLocation/repoUrl").and_then(|url| shown(&url)),
    });
    let told = Told {
        lineage,
        kind: "openlineage".to_owned(),
        producer: Some(producer.to_owned()),
        state,
        git,
        parent: said("/run/facets/parent/run/runId"),
        ..Told::default()
    };
    // What is written twice in the same words is one event.
    let key = *blake3::hash(format!("event {tenant}\n{body}").as_bytes()).as_bytes();
    Ok(Some(fact(key, tenant, (&run, &job), UnixMillis(at), told)))
}

/// Refuses what is the project's own to tell.
fn of_others_alone(lineage: &Lineage, run: &str) -> Result<(), Error> {
    let refused = |what: &str, why: &str| {
        let m = format!(
            "{what} is this project's, and {why} is told by its own runs: send an administrator's key \
             (`forebay key create --admin`), or name what you made in a namespace of your own"
        );
        Err(Error::new(Code::Forbidden, m))
    };
    if run.starts_with("run_") {
        return refused(&format!("the run `{run}`"), "what it did");
    }
    let own = |thing: &&Thing| thing.kind != ThingKind::Foreign;
    if let Some(thing) = lineage.outputs.iter().map(|o| &o.thing).find(own) {
        return refused(&format!("the {} `{}`", thing.kind.as_str(), thing.name), "what made it");
    }
    let checked = lineage.checks.iter().filter_map(|check| lineage.inputs.get(check.input));
    match checked.into_iter().find(own) {
        Some(thing) => {
            refused(&format!("the {} `{}`", thing.kind.as_str(), thing.name), "whether it is as expected")
        }
        None => Ok(()),
    }
}

fn datasets<'a>(body: &'a Json, side: &str) -> Result<&'a [Json], Error> {
    match body.get(side) {
        None | Some(Json::Null) => Ok(&[]),
        Some(Json::Array(all)) if all.len() > DATASETS => {
            let m = format!("`{side}` has more than {DATASETS} datasets");
            Err(Error::new(Code::TooLarge, m).param(side))
        }
        Some(Json::Array(all)) => Ok(all),
        Some(_) => Err(wrong(side, "is a list of datasets")),
    }
}

fn thing(dataset: &Json, namespace: &str, side: &str) -> Result<Thing, Error> {
    let of = |pointer: &str| text(dataset, pointer).map_err(|e| within(side, e));
    let (space, name) = (of("/namespace")?, of("/name")?);
    let version = dataset.pointer("/facets/version/datasetVersion").and_then(Json::as_str);
    let thing = called(space, name, namespace);
    Ok(Thing { version: version.filter(|v| !v.is_empty()).map(str::to_owned), ..thing })
}

fn called(space: &str, name: &str, own: &str) -> Thing {
    if space == own {
        return Thing::new(ThingKind::Dataset, name);
    }
    // What is told of here so is read as that.
    if let Some(kind) = space.strip_prefix(own).and_then(|s| s.strip_prefix('/')).and_then(ThingKind::of) {
        return Thing::new(kind, name);
    }
    Thing::new(ThingKind::Foreign, format!("{space}/{name}"))
}

/// What somebody expected of an input; an assertion that cannot be read is passed over.
fn checks(dataset: &Json, input: usize) -> Vec<Check> {
    let asserted = |at: &str| dataset.pointer(at).and_then(Json::as_array);
    // Before 1-1-0 it was the dataset's own facet.
    let all = asserted("/inputFacets/dataQualityAssertions/assertions")
        .or_else(|| asserted("/facets/dataQualityAssertions/assertions"));
    let check = |of: &Json| {
        let text = |name: &str| of.get(name).and_then(Json::as_str).map(str::to_owned);
        Some(Check {
            input,
            check: text("assertion")?,
            name: text("name").unwrap_or_default(),
            column: text("column"),
            passed: of.get("success")?.as_bool()?,
            severity: text("severity").unwrap_or_else(|| "error".to_owned()),
        })
    };
    all.into_iter().flatten().filter_map(check).collect()
}

fn within(side: &str, e: Error) -> Error {
    Error { message: format!("in `{side}`: {}", e.message), ..e }
}

fn output(dataset: &Json, namespace: &str, lineage: &mut Lineage) -> Result<Output, Error> {
    let mut made = Output::from(thing(dataset, namespace, "outputs")?);
    let fields = dataset.pointer("/facets/schema/fields").and_then(Json::as_array);
    for field in fields.into_iter().flatten() {
        let of = |name: &str| field.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        made.columns.push(ColumnMade { name: of("name"), ty: of("type"), from: Vec::new() });
    }
    let none = Map::new();
    let facet = dataset.pointer("/facets/columnLineage");
    let columns = facet.and_then(|f| f.get("fields")).and_then(Json::as_object).unwrap_or(&none);
    for (name, about) in columns {
        let kind = about.get("transformationType").and_then(Json::as_str);
        let from = sources(about.get("inputFields"), kind, namespace, lineage);
        match made.columns.iter_mut().find(|c| c.name == *name) {
            Some(column) => column.from.extend(from),
            None => made.columns.push(ColumnMade { name: name.clone(), ty: String::new(), from }),
        }
    }
    made.rows = sources(facet.and_then(|f| f.get("dataset")), None, namespace, lineage);
    made.count = dataset.pointer("/outputFacets/outputStatistics/rowCount").and_then(Json::as_u64);
    // Columns whose origin nobody tells are no more than none.
    if columns.is_empty() && made.rows.is_empty() {
        made.columns.clear();
    }
    Ok(made)
}

/// The columns that a facet names; one that cannot be read is passed over.
fn sources(fields: Option<&Json>, kind: Option<&str>, own: &str, lineage: &mut Lineage) -> Vec<FromColumn> {
    let mut all = Vec::new();
    for field in fields.and_then(Json::as_array).into_iter().flatten() {
        let of = |name: &str| field.get(name).and_then(Json::as_str);
        let (Some(space), Some(name), Some(column)) = (of("namespace"), of("name"), of("field")) else {
            continue;
        };
        let thing = called(space, name, own);
        // The facet names no version: it is the one that was read.
        let known = lineage.inputs.iter().position(|t| t.kind == thing.kind && t.name == thing.name);
        let input = match known {
            Some(at) => at,
            None if lineage.inputs.len() < DATASETS => lineage.input(thing),
            None => continue,
        };
        let how =
            field.get("transformations").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut vias: Vec<Via> = how.iter().map(via).collect();
        if vias.is_empty() {
            vias.push(if kind == Some("IDENTITY") { Via::Identity } else { Via::Transformation });
        }
        for via in vias {
            let from = FromColumn { input, column: column.to_owned(), via };
            if !all.contains(&from) {
                all.push(from);
            }
        }
    }
    all
}

fn via(of: &Json) -> Via {
    let word = |name: &str| of.get(name).and_then(Json::as_str).unwrap_or_default();
    match (word("type"), word("subtype")) {
        (_, "IDENTITY") => Via::Identity,
        (_, "AGGREGATION") => Via::Aggregation,
        (_, "JOIN") => Via::Join,
        (_, "GROUP_BY") => Via::GroupBy,
        (_, "FILTER") => Via::Filter,
        (_, "SORT") => Via::Sort,
        (_, "WINDOW") => Via::Window,
        (_, "CONDITION" | "CONDITIONAL") => Via::Conditional,
        ("INDIRECT", _) => Via::Conditional,
        _ => Via::Transformation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(body: &Json) -> Result<Option<NewLineage>, Error> {
        event(body, "forebay", (&"t".into(), Teller::Operator))
    }

    #[test]
    fn a_tenant_tells_of_what_is_the_projects_only_that_it_was_read() {
        let told = |body: &Json| event(body, "forebay", (&"t".into(), Teller::Tenant));
        told(&sample()).unwrap().unwrap();
        let flights = json!({"namespace": "forebay", "name": "flights"});
        let mut made = sample();
        made["outputs"] = json!([flights]);
        let mut model = sample();
        model["outputs"] = json!([{"namespace": "forebay/model", "name": "delay"}]);
        let mut checked = sample();
        checked["inputs"][1]["facets"]["dataQualityAssertions"] =
            json!({"assertions": [{"assertion": "not_null", "success": true}]});
        let mut run = sample();
        run["run"]["runId"] = "run_0197".into();
        for (body, says) in [
            (&made, "dataset `flights`"),
            (&model, "model `delay`"),
            (&checked, "as expected"),
            (&run, "run `run_0197`"),
        ] {
            let e = told(body).unwrap_err();
            assert!(e.code == Code::Forbidden && e.message.contains(says), "{e}");
            of(body).unwrap().unwrap();
        }
    }

    fn sample() -> Json {
        json!({
            "eventType": "COMPLETE",
            "eventTime": "2026-01-31T08:00:00.123+01:00",
            "producer": "https://example.com/spark",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": {"runId": "0197-1", "facets": {"parent": {"run": {"runId": "0197-0"}, "job": {"namespace": "a", "name": "b"}}}},
            "job": {"namespace": "spark", "name": "load", "facets": {}},
            "inputs": [
                {"namespace": "s3://bucket", "name": "raw/x"},
                {"namespace": "forebay", "name": "flights", "facets": {"version": {"datasetVersion": "abc"}}},
            ],
            "outputs": [{
                "namespace": "postgres://db:5432", "name": "public.delays",
                "facets": {
                    "schema": {"fields": [{"name": "delay", "type": "double"}, {"name": "n", "type": "int"}]},
                    "columnLineage": {
                        "fields": {"delay": {"inputFields": [
                            {"namespace": "forebay", "name": "flights", "field": "dep_delay",
                             "transformations": [{"type": "DIRECT", "subtype": "AGGREGATION"}, {"type": "INDIRECT", "subtype": "FILTER"}]},
                            {"namespace": "s3://bucket", "name": "raw/other", "field": "y"},
                        ]}},
                        "dataset": [{"namespace": "s3://bucket", "name": "raw/x", "field": "k", "transformations": [{"type": "INDIRECT", "subtype": "JOIN"}]}],
                    },
                },
            }],
        })
    }

    #[test]
    fn an_event_is_a_fact_of_its_datasets_and_columns() {
        let made = of(&sample()).unwrap().unwrap();
        assert_eq!((made.fact.run.as_str(), made.fact.job.as_str()), ("0197-1", "spark/load"));
        assert_eq!(made.fact.at, UnixMillis(1_769_842_800_123));
        let told: Told = serde_json::from_str(&made.fact.body).unwrap();
        assert_eq!((told.state.as_deref(), told.parent.as_deref()), (Some("complete"), Some("0197-0")));
        let names: Vec<(&str, &str)> =
            told.lineage.inputs.iter().map(|t| (t.kind.as_str(), t.name.as_str())).collect();
        assert_eq!(
            names,
            [("foreign", "s3://bucket/raw/x"), ("dataset", "flights"), ("foreign", "s3://bucket/raw/other")]
        );
        assert_eq!(told.lineage.inputs[1].version.as_deref(), Some("abc"));
        let output = &told.lineage.outputs[0];
        assert_eq!(output.thing.name, "postgres://db:5432/public.delays");
        let from: Vec<_> =
            output.columns[0].from.iter().map(|f| (f.input, f.column.as_str(), f.via)).collect();
        assert_eq!(
            from,
            [
                (1, "dep_delay", Via::Aggregation),
                (1, "dep_delay", Via::Filter),
                (2, "y", Via::Transformation)
            ]
        );
        assert_eq!(output.rows, [FromColumn { input: 0, column: "k".into(), via: Via::Join }]);
        assert_eq!(of(&sample()).unwrap().unwrap(), made, "the same event is the same fact");
    }

    #[test]
    fn what_is_no_event_is_refused_with_what_is_wrong() {
        let without = |pointer: &str, name: &str| {
            let mut body = sample();
            body.pointer_mut(pointer).and_then(Json::as_object_mut).unwrap().shift_remove(name);
            of(&body).unwrap_err().message
        };
        for (pointer, name, said) in [
            ("", "eventTime", "`eventTime` is missing"),
            ("", "producer", "`producer` is missing"),
            ("/job", "name", "`job.name` is missing"),
            ("/run", "runId", "`run.runId` is missing"),
            ("/inputs/0", "namespace", "in `inputs`: `namespace` is missing"),
        ] {
            let message = without(pointer, name);
            assert!(message.contains(said), "{message}");
        }
        let mut wrong = sample();
        wrong["eventType"] = "DONE".into();
        assert!(of(&wrong).unwrap_err().message.contains("START"));
        wrong = sample();
        wrong["eventTime"] = "yesterday".into();
        assert!(of(&wrong).unwrap_err().message.contains("no time"));
        wrong = sample();
        wrong["inputs"] = vec![json!({"namespace": "a", "name": "b"}); 1_001].into();
        assert_eq!(of(&wrong).unwrap_err().code, Code::TooLarge);
        assert!(of(&json!([])).is_err());
        let alone = json!({"eventTime": "2026-01-31T08:00:00Z", "producer": "x", "dataset": {"namespace": "a", "name": "b"}});
        assert_eq!(of(&alone).unwrap(), None);
    }

    fn bits() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            ".{0,8}".prop_map(Json::from),
            Just(json!({"namespace": "a", "name": "b", "field": "c"})),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
                proptest::collection::vec(
                    ("(facets|schema|fields|columnLineage|inputFields|x)", inner),
                    0..3
                )
                .prop_map(|all| Json::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_event_breaks_the_reader(
            at in prop::sample::select(vec!["/outputs/0/facets", "/outputs/0/facets/columnLineage", "/outputs/0/facets/columnLineage/fields/delay", "/run", "/job", "/inputs", "/inputs/1", "/outputs"]),
            bits in bits(),
        ) {
            let mut body = sample();
            *body.pointer_mut(at).unwrap() = bits;
            let _ = of(&body);
        }
    }
}
