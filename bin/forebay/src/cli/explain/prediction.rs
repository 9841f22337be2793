//! A prediction, from what is kept of answers (`capture`): what was asked and answered, what turned out to be true, and the way of the
//! version that answered, back to the data that it learnt from.

use models::release::Decided;
use models::rolling::happened;
use models::stages::Released;
use predict::captured::OWN;
use serde_json::{Map, Value, json};
use store::tracking::{AliasChange, ModelVersion};

use super::Node;
use crate::capture::{self, FEEDBACK};
use crate::cli::data::Project;
use crate::cli::models::registered::{Registry, failed};
use crate::cli::storage::{self, clean};
use crate::cli::{Global, project, time};
use crate::{Error, datasets};
use contract::UnixMillis;
use data::{At, Select};

type Row = Map<String, Value>;

/// A prediction that was kept.
pub(super) struct Prediction {
    id: String,
    model: String,
    rows: Vec<Row>,
    told: Vec<Row>,
    made: Option<Made>,
}

/// The registered version that answered.
struct Made {
    version: ModelVersion,
    record: Option<models::stages::Recorded>,
    decided: Result<Option<Decided>, String>,
    stood: Vec<AliasChange>,
    rolled: Vec<(UnixMillis, String)>,
}

/// What is kept of an answer; nothing when nothing is.
pub(super) async fn find(global: &Global, id: &str) -> Result<Option<Prediction>, Error> {
    // What a configuration that is not there or cannot be read would have kept, nobody knows.
    let Ok(config) = project::checked_but_for_models(global) else { return Ok(None) };
    if config.capture.is_empty() {
        return Ok(None);
    }
    let Some(project) = Project::open(global, false)? else { return Ok(None) };
    for model in config.capture.keys() {
        let mut rows = kept(&project, &capture::dataset(model), id).await?;
        if rows.is_empty() {
            continue;
        }
        rows.sort_by_key(|row| (text(row, "arm") == "shadow", row.get("row").and_then(Value::as_i64)));
        let mut told = kept(&project, FEEDBACK, id).await?;
        told.sort_by_key(|row| text(row, "at").to_owned());
        let registered = config.models.get(model).and_then(|m| m.registry.clone());
        let answered = rows.first().map(|row| text(row, "version").to_owned()).unwrap_or_default();
        let made = match registered {
            Some(name) => made(global, &name, &answered).await?,
            None => None,
        };
        return Ok(Some(Prediction { id: id.to_owned(), model: model.clone(), rows, told, made }));
    }
    Ok(None)
}

/// The rows of a dataset about a request.
async fn kept(project: &Project, dataset: &str, id: &str) -> Result<Vec<Row>, Error> {
    let dataset = project.dataset(dataset)?;
    if !dataset.exists().await.map_err(datasets::failed)? {
        return Ok(Vec::new());
    }
    let select = Select { filter: Some(format!("id = '{}'", id.replace('\'', "''"))), ..Select::default() };
    let rows = dataset.read(&At::Newest, &select).await.map_err(datasets::failed)?;
    rows.all().await.map_err(datasets::failed)
}

async fn made(global: &Global, name: &str, version: &str) -> Result<Option<Made>, Error> {
    let registry = Registry::open(global).await?;
    let found = async {
        let version = registry.version(name, version).await?;
        let of = registry.tracked.tracking.of(&registry.tenant);
        let record = Released::record_of(&registry.tracked, &registry.tenant, &version).await;
        let all = happened(&registry.tracked, &registry.tenant, name, Some(version.version)).await;
        let rolled = all.map_err(|e| failed(&e))?.into_iter().map(|one| {
            (one.at, one.event.map_or_else(|| "the rollout begins".to_owned(), |event| event.sentence))
        });
        Ok(Made {
            decided: registry.decided(global, &version).await.map_err(|e| e.to_string()),
            stood: of.alias_history(name, 1_000).await.map_err(storage::failed)?,
            record: record.map_err(|e| failed(&e))?,
            rolled: rolled.collect(),
            version,
        })
    };
    let found: Result<Made, Error> = found.await;
    registry.close().await;
    // A version that is gone is no reason to say nothing of the answer.
    Ok(found.ok())
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

const OUTPUT: &str = "output_";

impl Prediction {
    pub(super) fn json(&self) -> Value {
        let made = self.made.as_ref().map(|made| {
            json!({
                "name": made.version.name, "version": made.version.version, "record": made.record,
                "decision": made.decided.as_ref().ok().and_then(Option::as_ref).map(|d| &d.decision),
                "decision_verified": matches!(made.decided, Ok(Some(_))),
                "aliases": made.stood.iter().filter(|l| l.version == Some(made.version.version))
                    .map(|l| json!({"alias": l.alias, "from": l.valid_at})).collect::<Vec<_>>(),
                "rollout": made.rolled.iter().map(|(at, what)| json!({"at": at, "what": what})).collect::<Vec<_>>(),
            })
        });
        json!({"id": self.id, "model": self.model, "rows": self.rows, "feedback": self.told, "version": made})
    }

    pub(super) fn tree(&self) -> Node {
        let first = self.rows.first();
        let of = |name: &str| first.and_then(|row| row.get(name)).filter(|v| !v.is_null()).map(word);
        let ending = of("error").map_or_else(|| "answered".to_owned(), |code| format!("failed: {code}"));
        let mut root = Node::new(format!("{}  {ending}", self.id));
        let mut parts = vec![of("at").unwrap_or_default(), format!("model {}", self.model)];
        parts.extend(of("version").map(|version| format!("version {version}")));
        parts.extend(of("arm").map(|arm| format!("as {arm}")));
        parts.extend(of("tenant").map(|tenant| format!("tenant {tenant}")));
        parts.extend(of("entity").map(|entity| format!("about {entity}")));
        parts.extend(of("took_ms").map(|ms| format!("took {ms} ms")));
        root.below.push(Node::new(parts.join(", ")));
        root.below.extend(self.rows.iter().map(|row| self.row(row)));
        root.below.extend(self.made.as_ref().map(Made::tree));
        root
    }

    fn row(&self, row: &Row) -> Node {
        let said = |output: bool| -> String {
            let all = row.iter().filter(|(name, value)| {
                !OWN.iter().any(|(own, _)| own == name)
                    && name.starts_with(OUTPUT) == output
                    && !value.is_null()
            });
            let all = all.map(|(name, value)| {
                format!("{} {}", name.strip_prefix(OUTPUT).unwrap_or(name), word(value))
            });
            all.collect::<Vec<_>>().join(", ")
        };
        let number = row.get("row").and_then(Value::as_i64).unwrap_or_default();
        let shadow = match text(row, "arm") {
            "shadow" => format!(" (a shadow: version {} was asked too)", text(row, "version")),
            _ => String::new(),
        };
        let mut node = Node::new(format!("row {number}{shadow}: {} → {}", said(false), said(true)));
        let own = self.told.iter().filter(|told| told.get("row").and_then(Value::as_i64) == Some(number));
        node.below.extend(own.map(|told| {
            let value = |name: &str| told.get(name).filter(|v| !v.is_null()).map(word);
            let label = value("label_text").or(value("label")).map(|label| format!("it was {label}"));
            let score = value("score").map(|score| format!("{} {score}", text(told, "key")));
            let mut parts: Vec<String> = label.into_iter().chain(score).collect();
            parts.push(format!("told at {}", text(told, "at")));
            parts.extend(value("comment"));
            Node::new(parts.join(", "))
        }));
        node
    }
}

impl Made {
    fn tree(&self) -> Node {
        let ModelVersion { name, version, .. } = &self.version;
        let mut node = Node::new(format!("version {version} of {name}"));
        if let Some(record) = &self.record {
            let (made, seconds) = (time::show(record.trained_at), record.training_seconds);
            let until = record.trained_until.map(|at| format!(", rows until {}", time::show(at)));
            let mut learnt = Node::new(format!("learnt from {}{}", record.table, until.unwrap_or_default()));
            learnt.below.push(Node::new(format!(
                "`forebay lineage {} --up` says what that was made of",
                record.table
            )));
            node.below.push(Node::new(format!(
                "{}, made {made} in {seconds:.1} s, id {}",
                record.kind(),
                record.id
            )));
            node.below.push(learnt);
        }
        node.below.push(match &self.decided {
            Ok(None) => Node::new("nobody has decided about it"),
            Err(e) => Node::new(format!("the decision cannot be trusted: {e}")),
            Ok(Some(d)) => {
                let mut gate = Node::new(format!("gate: {}", d.decision.sentence()));
                gate.below.push(Node::new(format!("signed by {}, which verifies; {}", d.key, d.name)));
                gate
            }
        });
        let rolled = self.rolled.iter().map(|(at, what)| Node::new(format!("{}  {what}", time::show(*at))));
        let rolled: Vec<Node> = rolled.collect();
        if !rolled.is_empty() {
            node.below.push(Node { line: "rolled out".to_owned(), below: rolled });
        }
        let since = self.stood.iter().filter(|l| l.version == Some(*version));
        node.below.extend(since.map(|l| {
            Node::new(clean(&format!("`{}` from {} on", l.alias, time::show(UnixMillis(l.valid_at)))))
        }));
        node
    }
}
